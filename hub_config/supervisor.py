"""The supervisor: starts every process of the platform, watches, restarts and ends them.

Guarantees:
- a process that dies is started again within a second (then with back-off up to 10 s, if it keeps
  dying young); one that lives but fails its check for its patience is ended and started again;
- after a restart of the proxy the hub is told to send its routes again, since it would notice
  only after minutes;
- at the end every process that bears the platform's mark is ended (TERM, then KILL), so nothing is
  left, whatever became of its parent;
- what the processes are and do stands in `run/processes.json`, written atomically.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx

from hub_config.keys import secret
from hub_config.node.processes import PLATFORM_MARK, end_marked, proportional_bytes
from hub_config.programs import Program
from hub_config.settings import Addresses, Settings

STOP_GRACE_SECONDS = 5.0
BACKOFF_LIMIT_SECONDS = 10.0
LONG_LIFE_SECONDS = 30.0  # who lived so long starts anew without delay
START_SECONDS = 90.0  # how long a process may take until its check passes first
REPORT_SECONDS = 2.0
LOG_LIMIT_BYTES = 20 * 2**20


class State(StrEnum):
    """What a process is doing, as `cuaderno status` says it."""

    STARTING = "starting"  # its pid lives, its check has not passed yet
    RUNNING = "running"  # its check passed
    FAILING = "failing"  # its pid lives, its check passed once and fails now
    WAITING = "waiting"  # it died and waits for its next start
    STOPPED = "stopped"  # the platform is stopping


@dataclass
class Child:
    """One program and the process that is its present life."""

    program: Program
    state: State = State.WAITING
    since: float = field(default_factory=time.time)
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    died_young: int = 0
    ok_at: float = 0.0  # monotonic; when the check passed last, or the life began

    def enter(self, state: State) -> None:
        if state is not self.state:
            self.state, self.since = state, time.time()


class Supervisor:
    """Runs `programs` until `stop` is called."""

    def __init__(self, settings: Settings, addresses: Addresses, programs: list[Program]) -> None:
        self.settings = settings
        self.addresses = addresses
        self.children = [Child(program) for program in programs]
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(self) -> None:
        """Start everything and keep it running; returns when all is ended."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            tasks = [asyncio.create_task(self._keep(child, client)) for child in self.children]
            tasks.append(asyncio.create_task(self._report()))
            stopped = asyncio.create_task(self._stopping.wait())
            try:
                # A task ends only by an error of our own: then stop everything and let it show.
                await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._stopping.set()
                for task in [*tasks, stopped]:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                await self._end_all()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def wait_until_ready(self, seconds: float) -> list[str]:
        """Wait until the portal answers through the proxy and a run can be submitted.

        Returns an empty list, or after `seconds` the names of what is not ready.
        """
        health = f"{self.settings.local_url}/services/cuaderno/api/health"
        jobs = f"{self.addresses.url('jobs')}/health"
        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            while time.monotonic() < deadline and not self.stopping:
                waiting = [c.program.name for c in self.children if c.state is not State.RUNNING]
                if not waiting:
                    with contextlib.suppress(httpx.HTTPError, ValueError):
                        portal = await client.get(health)
                        slots = (await client.get(jobs)).json()
                        if portal.is_success and slots.get("workers", 0) > 0:
                            with contextlib.suppress(OSError):
                                self._write_report()  # who reads "ready" finds it written, too
                            return []
                await asyncio.sleep(0.1)
        return [c.program.name for c in self.children if c.state is not State.RUNNING] or ["web"]

    # One child ------------------------------------------------------------------------------------

    async def _keep(self, child: Child, client: httpx.AsyncClient) -> None:
        while True:
            started = time.monotonic()
            try:
                code = await self._live(child, client)
            except OSError as error:  # no process, no memory, no disk for its log: try again later
                code = str(error)
            lived = time.monotonic() - started
            child.died_young = 0 if lived > LONG_LIFE_SECONDS else child.died_young + 1
            child.enter(State.WAITING)
            delay = min(0.1 * 2**child.died_young, BACKOFF_LIMIT_SECONDS)
            self._say(
                child, f"ended with {code} after {lived:.1f} s; starts again in {delay:.1f} s"
            )
            await asyncio.sleep(delay)
            child.restarts += 1

    async def _live(self, child: Child, client: httpx.AsyncClient) -> int | str:
        """One life of a child, watched; what it ended with."""
        process = await self._start(child)
        watch = asyncio.create_task(self._watch(child, client))
        try:
            return await process.wait()
        finally:
            watch.cancel()

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        program = child.program
        with self._log(program.name).open("ab") as log:
            process = child.process = await asyncio.create_subprocess_exec(
                *program.argv,
                env=program.env,
                cwd=self.settings.data_dir,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        child.ok_at = time.monotonic()
        child.enter(State.STARTING)
        self._say(child, f"started as process {process.pid}")
        return process

    async def _watch(self, child: Child, client: httpx.AsyncClient) -> None:
        """Follow one life of a child by its check, until it is cancelled with that life."""
        while True:
            passed = False
            try:
                passed = await child.program.check(client)
            except httpx.HTTPError:
                pass  # not listening yet, or no longer: a failed check like any other
            except Exception as error:
                self._say(child, f"its check itself failed: {error!r}")
            now = time.monotonic()
            if passed:
                child.ok_at = now
                if child.state is not State.RUNNING:
                    child.enter(State.RUNNING)
                    await self._restore_routes(child, client)
            elif child.state is State.RUNNING:
                child.enter(State.FAILING)
            starting = child.state is State.STARTING
            patience = START_SECONDS if starting else child.program.patience_seconds
            if now - child.ok_at > patience and child.process:
                self._say(child, "lives but does not answer; ending it")
                with contextlib.suppress(ProcessLookupError):
                    child.process.kill()
                return
            await asyncio.sleep(2.0 if child.state is State.RUNNING else 0.15)

    async def _restore_routes(self, child: Child, client: httpx.AsyncClient) -> None:
        """After the proxy came back empty, have the hub send it all routes at once."""
        if child.program.name != "proxy" or not child.restarts:
            return
        token = secret(self.settings, "service-supervisor")
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.post(
                    f"{self.addresses.url('hub')}/hub/api/proxy",
                    headers={"Authorization": f"token {token}"},
                )
                if answer.is_success:
                    return
            await asyncio.sleep(0.3)

    # All children ---------------------------------------------------------------------------------

    async def _end_all(self) -> None:
        for child in self.children:
            child.enter(State.STOPPED)
        mark = str(self.settings.data_dir)
        await asyncio.to_thread(end_marked, PLATFORM_MARK, mark, grace=STOP_GRACE_SECONDS)
        for child in self.children:
            if child.process:
                await child.process.wait()
        with contextlib.suppress(OSError):
            self._write_report()

    async def _report(self) -> None:
        while True:
            # A full disk must not end the platform: the next report may be written again.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._write_report)
            await asyncio.sleep(REPORT_SECONDS)

    def _write_report(self) -> None:
        path = self.settings.run_dir / "processes.json"
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps([self._describe(child) for child in self.children]))
        temporary.replace(path)
        for name in ("supervisor", *(child.program.name for child in self.children)):
            self._bound_log(name)

    def _describe(self, child: Child) -> dict[str, Any]:
        alive = child.process is not None and child.process.returncode is None
        pid = child.process.pid if child.process and alive else None
        return {
            "name": child.program.name,
            "state": str(child.state),
            "since": child.since,
            "pid": pid,
            "restarts": child.restarts,
            "memory_bytes": proportional_bytes(pid) if pid else 0,
            "address": child.program.address,
        }

    # Logs -----------------------------------------------------------------------------------------

    def _log(self, name: str) -> Path:
        return self.settings.logs_dir / f"{name}.log"

    def _bound_log(self, name: str) -> None:
        """Keep a log under its limit; the process goes on writing to the same open file."""
        path = self._log(name)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_LIMIT_BYTES:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)

    def _say(self, child: Child, what: str) -> None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        with contextlib.suppress(OSError), self._log("supervisor").open("a") as log:
            log.write(f"{when}Z action=process name={child.program.name} {what}\n")


def stop_on_signals(supervisor: Supervisor) -> None:
    """SIGTERM, Ctrl-C and a closed terminal all end the platform in order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
