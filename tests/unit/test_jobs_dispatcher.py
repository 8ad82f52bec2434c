"""What the dispatcher makes of clocks and of threads, without a platform."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from hub_config.jobs import dispatcher as dispatching
from hub_config.jobs.dispatcher import Dispatcher
from hub_config.jobs.store import Attempt
from hub_config.node.processes import is_same, start_time
from hub_config.settings import Settings

BEATING = Attempt(1, SimpleNamespace(id="r"), "h", 17, 1.0, 1000.0)


@pytest.fixture
def dispatcher(tmp_path):
    return Dispatcher(Settings(data_dir=tmp_path), None, None, None, None)


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=50.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now, time=lambda: 1e9 * clock.now)
    monkeypatch.setattr(dispatching, "time", fake)
    return clock


def test_silence_is_how_long_the_same_heartbeat_was_seen(dispatcher, clock):
    dispatcher._looked = clock.now
    unstarted = replace(BEATING, id=2, pid=None, heartbeat_at=None)
    for _ in range(21):
        dispatcher._listen([BEATING, unstarted])
        clock.now += 0.5
    assert dispatcher._silence(BEATING) == dispatcher._silence(unstarted) == 10.0
    # The clock was set back: another value is a heartbeat, an earlier one too.
    dispatcher._listen([replace(BEATING, heartbeat_at=3.0), unstarted])
    assert dispatcher._silence(BEATING) == 0.0 and dispatcher._silence(unstarted) == 10.5


def test_a_machine_that_slept_has_not_heard_silence(dispatcher, clock):
    dispatcher._looked = clock.now
    dispatcher._listen([BEATING])
    clock.now += 3600
    dispatcher._listen([BEATING])
    assert dispatcher._silence(BEATING) == dispatching.ROUND_SECONDS


def test_a_start_time_does_not_move_with_the_clock(monkeypatch):
    pid = os.getpid()
    started = start_time(pid)
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda *_: 0.0)
    assert start_time(pid) == started and is_same(pid, started)
    assert started <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert not is_same(pid, started - 0.01) and not is_same(pid, None) and not is_same(0, started)


def test_a_process_that_ended_is_not_the_same():
    child = subprocess.Popen(["sleep", "60"])
    started = start_time(child.pid)
    assert is_same(child.pid, started)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert start_time(child.pid) is None and not is_same(child.pid, started)
    child.wait()
    assert start_time(child.pid) is None


def test_projects_noticed_from_threads_are_all_looked_through(dispatcher, monkeypatch):
    monkeypatch.setattr(dispatching, "TRACKING_RETRY_SECONDS", (0.01, 0.01))
    looked: set[str] = set()
    failed: set[str] = set()

    def look(project: str) -> None:
        if project not in failed and len(failed) < 20:  # tracking is away the first time
            failed.add(project)
            raise OSError
        looked.add(project)

    monkeypatch.setattr(dispatcher, "close_left_open", look)
    names = {f"p{n}" for n in range(200)}

    async def check() -> None:
        dispatcher._loop = asyncio.get_running_loop()
        task = asyncio.create_task(dispatcher._close_forever())
        thread = threading.Thread(target=lambda: [dispatcher.notice(n) for n in sorted(names)])
        thread.start()
        deadline = time.monotonic() + 20
        while looked != names and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.to_thread(thread.join)

    asyncio.run(check())
    assert looked == names and failed
