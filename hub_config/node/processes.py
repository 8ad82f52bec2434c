"""Processes of this machine: found by a mark in their environment, measured, ended as whole trees.

Process groups and sessions lose whoever calls `setsid`; parents lose whoever is orphaned. A mark
in the environment (`NAME=value`) is inherited by every descendant that does not clear it, so a
tree is: all that bear the mark, all in the session of one of those, and all their descendants.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

# Set in the environment of all processes of one platform; the value is its data folder.
PLATFORM_MARK = "CUADERNO_PLATFORM"
# Set for a runner and so for its kernel and all it starts; the value is `<run>.<attempt>`.
RUN_MARK = "CUADERNO_RUN_MARK"


def marked(name: str, value: str, *, but: Iterable[int] = ()) -> list[psutil.Process]:
    """The processes that bear the mark `name=value`, their sessions, and all descendants.

    The processes in `but` and the calling one are left out, though not what descends from them.
    """
    wanted = f"{name}={value}".encode()
    everyone = {p.pid: p for p in psutil.process_iter()}
    environ = {pid: _environ(pid) for pid in everyone}
    found = {pid for pid, lines in environ.items() if wanted in lines}
    parent, session = {}, {}
    for pid in everyone:
        parent[pid], session[pid] = _parent_and_session(pid)
    left_out = {os.getpid(), *but}
    leaders = {session[pid] for pid in found - left_out} & (found - left_out)
    while True:
        more = {
            pid
            for pid in everyone
            if pid not in found and (parent[pid] in found or session[pid] in leaders)
        }
        if not more:
            break
        found |= more
    return [everyone[pid] for pid in sorted(found - left_out)]


def end_marked(name: str, value: str, *, grace: float, but: Iterable[int] = ()) -> int:
    """End the tree of `marked`: TERM, then KILL after `grace` seconds; how many were ended.

    Returns when none is left (a process in uninterruptible sleep is given 5 s more).
    """
    first = marked(name, value, but=but)
    ended = {p.pid for p in first}
    _signal(first, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and _alive(marked(name, value, but=but)):
        time.sleep(0.05)
    last = time.monotonic() + 5
    while (left := _alive(marked(name, value, but=but))) and time.monotonic() < last:
        ended |= {p.pid for p in left}
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)
    return len(ended)


def start_time(pid: int) -> float | None:
    """Seconds from the machine's boot to the start of `pid`; None if there is no such process.

    Since boot, as the kernel keeps it: the time of day would move when the clock is set. After
    another boot a process of the same number has not started at the same hundredth of a second.
    """
    fields = _stat(pid)
    if fields is None or fields[0] in ("Z", "X"):  # a zombie, or about to be gone
        return None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def is_same(pid: int | None, started: float | None) -> bool:
    """Whether the process `pid` that started at `started` lives (and is not a later namesake)."""
    if not pid or started is None:
        return False
    return start_time(pid) == started


def proportional_bytes(pid: int) -> int:
    """The process's proportional share of memory (PSS), its descendants not counted; 0 if gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    living = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def _environ(pid: int) -> frozenset[bytes]:
    try:
        return frozenset(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return frozenset()


def _parent_and_session(pid: int) -> tuple[int, int]:
    fields = _stat(pid)
    return (int(fields[1]), int(fields[3])) if fields else (0, 0)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third (the state) on; None if there is none."""
    try:
        # The command's name may hold any bytes, also ')'; the fields follow the last of these.
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split() or None
    except OSError:  # also while it goes: ESRCH
        return None
