"""Placing attempts on Dask workers.

Nothing queues in Dask: an attempt is submitted only when a slot is free. What Dask says of a task
counts only until its runner has reported: from then on the runner's heartbeat is the truth, and a
task may be lost with its worker or scheduler. With a scheduler of one's own, named by the setting
`dask.scheduler_address`, its workers must see the same data folder and both environments.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from hub_config.jobs import cluster
from hub_config.jobs.model import Assignment, run_mark
from hub_config.settings import Settings

if TYPE_CHECKING:
    from distributed import Client, Future

TIMEOUT = 5.0

log = logging.getLogger(__name__)


class Unplaced(Exception):
    """The attempt could not be given to a worker."""


class Placement:
    """One client of the scheduler, connected again whenever the scheduler was away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._futures: dict[int, Future] = {}
        self.workers = 0
        self.slots = 0

    async def refresh(self) -> None:
        """Count workers and slots; none while the scheduler is away."""
        try:
            client = await self._connected()
            threads = await asyncio.wait_for(_rpc(client).ncores(workers=None), TIMEOUT)
            self.workers, self.slots = len(threads), sum(threads.values())
        except Exception as error:
            if self._client is not None:
                log.warning("The scheduler is away (%s). action=scheduler-away", _short(error))
            self.workers = self.slots = 0
            await self.close()

    async def submit(self, assignment: Assignment) -> None:
        """Give an attempt to a worker. Raises `Unplaced`."""
        from distributed import fire_and_forget

        from hub_config.jobs.worker import start_runner

        try:
            client = await self._connected()
            future = client.submit(
                start_runner,
                assignment,
                key=f"run-{run_mark(assignment.run, assignment.attempt)}",
                pure=False,
                retries=0,
            )
            fire_and_forget(future)
        except Exception as error:
            raise Unplaced(f"the scheduler did not take it ({_short(error)})") from error
        self._futures[assignment.attempt] = future

    async def ended(self, attempt: int) -> str | None:
        """Why the task of `attempt` is no more, or None while it stands (or we do not know it)."""
        future = self._futures.get(attempt)
        if future is None or future.status == "pending":
            return None
        if future.status == "finished":
            with contextlib.suppress(Exception):
                code, said = await asyncio.wait_for(_result(future), TIMEOUT)
                last = said.strip().splitlines()[-1:] or [""]
                return f"its runner ended with {code} {last[0]}".strip()
        return "its worker was lost"

    def forget(self, attempt: int) -> None:
        self._futures.pop(attempt, None)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._futures.clear()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(timeout=1), TIMEOUT)

    async def _connected(self) -> Client:
        if self._client is not None and self._client.status == "running":
            return self._client
        await self.close()
        from distributed import Client

        client = Client(
            cluster.scheduler_address(self._settings),
            security=cluster.security(self._settings),
            asynchronous=True,
            set_as_default=False,
            timeout=TIMEOUT,
            name="jobs",
        )
        await asyncio.wait_for(client, TIMEOUT + 1)
        self._client = client
        return client


def _rpc(client: Client) -> Any:
    return client.scheduler


async def _result(future: Future) -> Any:
    return await future.result()


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
