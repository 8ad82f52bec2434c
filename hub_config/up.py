"""`cuaderno up`: check, prepare, start, say where to go, and end in order."""

from __future__ import annotations

import asyncio
import os
import time

from hub_config import startup
from hub_config.programs import programs
from hub_config.settings import Settings
from hub_config.supervisor import Supervisor, stop_on_signals

READY_SECONDS = 180.0


def start(settings: Settings) -> int:
    """Run the platform until it is told to stop; the exit status."""
    os.umask(0o077)
    with startup.lock(settings):
        ended = startup.end_leftovers(settings)
        if ended:
            _say(f"Ended {ended} processes that a killed platform had left on this data folder.")
        startup.check_port(settings)
        if os.getuid() == 0:
            _say("Warning: running as root, so notebooks run as root. Better: a user of its own.")
        if settings.allow_remote:
            _say("Warning: open to the network; all users share one account of this machine.")
        begun = time.monotonic()
        addresses = startup.choose_addresses(settings)
        startup.prepare(settings)
        from hub_config.spawning.proxy import proxy_command

        supervisor = Supervisor(
            settings, addresses, programs(settings, addresses, proxy_command(settings, addresses))
        )
        return asyncio.run(_serve(supervisor, begun))


async def _serve(supervisor: Supervisor, begun: float) -> int:
    stop_on_signals(supervisor)
    running = asyncio.create_task(supervisor.run())
    missing = await _ready_or_stopped(supervisor, running)
    settings, code = supervisor.settings, 0
    if missing and not supervisor.stopping:
        _say(
            f"cuaderno: not ready after {READY_SECONDS:.0f} s: {', '.join(missing)}. "
            f"The logs are in {settings.logs_dir}."
        )
        supervisor.stop()
        code = 1
    elif not supervisor.stopping:
        _say(f"Cuaderno is ready: {settings.base_url}  ({time.monotonic() - begun:.1f} s)")
        first = settings.data_dir / "first-login"
        if first.exists():
            _say(f"First login: name and password are in {first} (only you can read it).")
        _say(f"Data: {settings.data_dir}   Stop: Ctrl-C")
    await running
    return code


async def _ready_or_stopped(supervisor: Supervisor, running: asyncio.Task[None]) -> list[str]:
    waiting = asyncio.create_task(supervisor.wait_until_ready(READY_SECONDS))
    await asyncio.wait([waiting, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        waiting.cancel()
        return []
    return await waiting


def _say(text: str) -> None:
    print(text, flush=True)
