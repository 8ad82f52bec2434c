"""An embedded Dask worker: `python -m hub_config.jobs.worker N`.

Its only task is `start_runner`: start a runner in a session of its own, tell it its assignment, and
wait. The runner does not depend on the worker and outlives it. So a worker that loses its scheduler
ends at once (Dask's own would wait for its tasks, alive and unregistered) and is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import asdict

from hub_config.jobs import cluster
from hub_config.jobs.model import Assignment, attempt_dir, run_mark
from hub_config.node.processes import RUN_MARK
from hub_config.settings import Settings, load_settings

LOG_TAIL = 2_000  # bytes of what a runner said that are told on when it ends badly


def start_runner(assignment: Assignment) -> tuple[int, str]:
    """Run one attempt to its end: the runner's exit code, and its last words if it is not 0.

    Raises nothing: Dask would write the arguments of a failed task into its log.
    """
    try:
        folder = attempt_dir(load_settings(), assignment.run, assignment.attempt)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A file, not a pipe: a pipe's end would die with this worker, and the runner with it.
        with (folder / "runner.log").open("ab") as log:
            runner = subprocess.Popen(
                [sys.executable, "-m", "hub_config.jobs.runner"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, RUN_MARK: run_mark(assignment.run, assignment.attempt)},
            )
        runner.communicate(json.dumps(asdict(assignment)).encode())
        if runner.returncode == 0:
            return 0, ""
        try:
            said = (folder / "runner.log").read_bytes()[-LOG_TAIL:].decode(errors="replace")
        except FileNotFoundError:
            said = ""
        return runner.returncode, said
    except Exception as error:
        return 1, f"{type(error).__name__}: {error}"


async def serve(settings: Settings, number: str) -> None:
    """Run the worker until it is told to stop or loses its scheduler."""
    from distributed import Worker

    stop = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    folder = settings.run_dir / "dask"
    folder.mkdir(parents=True, exist_ok=True)
    worker = Worker(
        cluster.scheduler_address(settings),
        name=f"worker-{number}",
        nthreads=settings.dask.slots_per_worker,
        memory_limit=0,
        security=cluster.security(settings),
        host="127.0.0.1",
        dashboard=False,
        local_directory=str(folder),
        death_timeout=20,
    )
    await worker
    logging.getLogger(__name__).info("Worker %s is registered. action=worker-ready", number)
    while worker.status.name in ("running", "paused"):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.2)
            break
    if stop.is_set():
        with contextlib.suppress(TimeoutError):
            closing = worker.close(timeout=1, executor_wait=False, nanny=False)
            await asyncio.wait_for(closing, 2)
    # Here, not at the end of the loop, which would wait for the threads that wait for runners.
    logging.shutdown()
    os._exit(0)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = load_settings()
    cluster.prepare()
    asyncio.run(serve(settings, sys.argv[1]))


if __name__ == "__main__":
    main()
