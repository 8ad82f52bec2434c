"""All that a kernel started, and its end.

A kernel leads a session of its own. A child may leave that session (`setsid`), or be orphaned, or
both; it inherits the kernel's mark unless it clears its environment. So the tree is: who bears the
mark, who is in the kernel's session, and all that descends from those. Only a process that did all
three before we looked (left the session, lost its parent, cleared its environment) escapes.

Reads /proc itself, as `psutil` would: the provisioner is imported by every server, runner and
Voila, and its distribution stays free of compiled parts. Without a /proc only the group is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

GRACE_SECONDS = 1.0
LAST_SECONDS = 4.0
PROC = Path("/proc")


def tree(mark: str, session: int | None, *, known: Iterable[tuple[int, int]] = ()) -> set[int]:
    """The pids of the tree of the kernel with `mark` (`NAME=value`) and session `session`.

    `known` are processes seen in the tree before, each a pid and its start in clock ticks: they are
    in it still if they are the same. The calling process never is.
    """
    wanted, remembered = mark.encode(), dict(known)
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid, (state, parent, its_session, started) in _processes().items():
        if state in "ZX":
            continue
        parents[pid] = parent
        if (
            (session and its_session == session)
            or remembered.get(pid) == started
            or wanted in _environment(pid)
        ):
            found.add(pid)
    while more := {p for p, parent in parents.items() if parent in found and p not in found}:
        found |= more
    return found - {os.getpid()}


def starts(pids: Iterable[int]) -> dict[int, int]:
    """Each living pid of `pids` → its start in clock ticks, which tells it from a later one."""
    facts = {pid: _facts(pid) for pid in pids}
    return {pid: fact[3] for pid, fact in facts.items() if fact}


async def end_tree(mark: str, session: int | None, *, known: Iterable[tuple[int, int]] = ()) -> int:
    """End the tree: TERM, then KILL after a second; how many there were. Never raises `OSError`."""
    known = dict(known).items()
    first = tree(mark, session, known=known)
    _signal(first, signal.SIGTERM)
    left, begun = first, time.monotonic()
    while left and time.monotonic() < begun + GRACE_SECONDS:
        await asyncio.sleep(0.02)
        left = tree(mark, session, known=known)
    while left and time.monotonic() < begun + GRACE_SECONDS + LAST_SECONDS:
        _signal(left, signal.SIGKILL)
        await asyncio.sleep(0.02)
        left = tree(mark, session, known=known)
    if session and not _processes():  # there is no /proc here
        with contextlib.suppress(OSError):
            os.killpg(session, signal.SIGKILL)
    return len(first)


def end_tree_now(mark: str, session: int | None) -> None:
    """KILL the tree without waiting, from code that may be cancelled or about to exit."""
    _signal(tree(mark, session), signal.SIGKILL)


def raise_oom_score(pid: int, score: int) -> None:
    """Let the kernel of the OS end `pid` before others when memory is short; never lowers it."""
    path = PROC / str(pid) / "oom_score_adj"
    with contextlib.suppress(OSError, ValueError):
        if int(path.read_text()) < score:
            path.write_text(str(score))


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _processes() -> dict[int, tuple[str, int, int, int]]:
    try:
        pids = [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208
    except OSError:
        return {}
    return {pid: facts for pid in pids if (facts := _facts(pid))}


def _facts(pid: int) -> tuple[str, int, int, int] | None:
    """State, parent, session and start (clock ticks since boot) of `pid`; None if it is gone."""
    try:
        # The command's name may hold spaces and parentheses; the fields follow the last ')'.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[1]), int(fields[3]), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
