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
    """Seconds since the epoch at which `pid` started, or None if there is no such process."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def is_same(pid: int | None, started: float | None) -> bool:
    """Whether the process `pid` that started at `started` lives (and is not a later namesake)."""
    if not pid or started is None:
        return False
    now = start_time(pid)
    return now is not None and abs(now - started) < 1.5


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
    try:
        # The command's name may hold spaces and parentheses; the fields follow the last ')'.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[1]), int(fields[3])
    except OSError:
        return 0, 0
