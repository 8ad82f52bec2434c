"""The dispatcher: closes the gap between what runs are and what they should come to.

Three loops. *Placing* gives queued runs to free slots. *Reconciling* looks at every attempt that
holds a run, a few times a second, and ends what cannot go on:

- a task that ended, or a silence, before the runner had started: the notebook has not begun, so the
  run is queued again (`RunStore.put_back`, which refuses if it starts meanwhile);
- a runner whose process is gone, or which is silent for `lost_after_seconds`: failed;
- a cancel that a runner did not obey in time: cancelled.

To end a run, first its tree is ended by its mark, then what it left is published, then the run
ends: an ended run has nothing that still works for it. *Sweeping* looks once a minute for what
attempts left behind: files whose publishing failed, or which nobody was there to publish.

Silence is how long the dispatcher itself has seen the same heartbeat, so a clock that is set or a
machine that slept ends nothing, and runners that still beat after a restart are adopted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any

from hub_config.errors import CuadernoError
from hub_config.identity import Signer
from hub_config.jobs.measurements import Measurements
from hub_config.jobs.model import (
    Assignment,
    State,
    attempt_dir,
    attempts_with_folder,
    run_mark,
)
from hub_config.jobs.placement import Placement, Unplaced
from hub_config.jobs.store import Attempt, RunStore, Stale
from hub_config.node.processes import RUN_MARK, end_marked, is_same
from hub_config.settings import Settings

PLACE_SECONDS = 1.0
RECONCILE_SECONDS = 0.5
SWEEP_SECONDS = 60.0
ROUND_SECONDS = 5.0  # of silence at most that one round adds: in a longer one we were not there
CANCEL_MARGIN_SECONDS = 8.0  # beyond the grace, in which the runner itself ends its tree
PUBLISH_SECONDS = 90.0
PUBLISH_AGAIN_SECONDS = 900.0
TRACKING_RETRY_SECONDS = (1.0, 15.0)

log = logging.getLogger(__name__)


class Dispatcher:
    """The loops of the process `jobs`; all state that must last is in the store."""

    def __init__(
        self,
        settings: Settings,
        store: RunStore,
        signer: Signer,
        placement: Placement,
        measurements: Measurements,
    ) -> None:
        self._settings, self._store, self._signer = settings, store, signer
        self._placement, self._measurements = placement, measurements
        self._host = socket.gethostname()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: dict[int, asyncio.Task[None]] = {}
        self._cancel_seen: dict[int, float] = {}
        self._heard: dict[int, tuple[float | None, float]] = {}  # last heartbeat, silence since
        self._looked = time.monotonic()
        self._left: set[tuple[str, int]] = set()  # folders that the last sweep saw left behind
        self._to_close: set[str] = set()  # projects whose MLflow runs to look through
        self._ended = asyncio.Event()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._to_close = set(await asyncio.to_thread(self._store.projects_with_ended_runs))
        self._ended.set()
        for name, loop in (
            ("place", self._place_forever()),
            ("reconcile", self._reconcile_forever()),
            ("sweep", self._sweep_forever()),
            ("tracking", self._close_forever()),
        ):
            self._tasks.append(asyncio.create_task(loop, name=name))

    async def stop(self) -> None:
        """Stop the loops; runners go on."""
        for task in [*self._tasks, *self._closing.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._closing.values(), return_exceptions=True)
        await self._placement.close()

    def notice(self, project: str | None = None) -> None:
        """Something changed: a run was made, or one of `project` ended. From any thread."""
        if self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._noticed, project)

    def _noticed(self, project: str | None) -> None:
        if project is not None:
            self._to_close.add(project)
            self._ended.set()
        self._wake.set()

    # Placing --------------------------------------------------------------------------------------

    async def _place_forever(self) -> None:
        while True:
            await self._guarded(self._place(), "place")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), PLACE_SECONDS)
            self._wake.clear()

    async def _place(self) -> None:
        await self._placement.refresh()
        while self._placement.slots:
            _, running = await asyncio.to_thread(self._store.counts)
            if running >= self._placement.slots:
                return
            attempt = await asyncio.to_thread(self._store.claim)
            if attempt is None:
                return
            run = attempt.run
            assignment = Assignment(
                run=run.id,
                attempt=attempt.id,
                project=run.project,
                notebook=run.notebook,
                commit=run.commit,
                parameters=run.parameters,
                token=self._signer.run_token(run.id, attempt.id, run.project),
            )
            log.info("Run %s goes to a worker as attempt %s. action=run-placed", run.id, attempt.id)
            try:
                await self._placement.submit(assignment)
            except Unplaced as error:
                await asyncio.to_thread(self._store.put_back, attempt.id, f"{error}.")
                return

    # Reconciling ----------------------------------------------------------------------------------

    async def _reconcile_forever(self) -> None:
        while True:
            await self._guarded(self._reconcile(), "reconcile")
            await asyncio.sleep(RECONCILE_SECONDS)

    async def _reconcile(self) -> None:
        holding = await asyncio.to_thread(self._store.running)
        alive = {attempt.id for attempt in holding}
        for known in [a for a in self._cancel_seen if a not in alive]:
            del self._cancel_seen[known]
        self._listen(holding)
        for attempt in holding:
            if attempt.id in self._closing:
                continue
            if attempt.pid is None:
                if (why := await self._why_not_started(attempt)) is not None:
                    self._close(attempt.id, self._put_back(attempt, why))
            elif (verdict := self._verdict(attempt)) is not None:
                self._close(attempt.id, self._end(attempt, *verdict))

    async def _why_not_started(self, attempt: Attempt) -> str | None:
        if (why := await self._placement.ended(attempt.id)) is not None:
            return f"{why}."
        if self._silence(attempt) > self._settings.jobs.lost_after_seconds:
            return "no worker started its runner in time."
        return None

    def _verdict(self, attempt: Attempt) -> tuple[State, str] | None:
        """What the run of a started attempt comes to, if it is over without the runner's word."""
        jobs, target = self._settings.jobs, attempt.run.target
        end = State.CANCELLED if target == State.CANCELLED else State.FAILED
        if attempt.host == self._host and not is_same(attempt.pid, attempt.pid_started):
            return end, "The runner was killed, or the platform stopped while it ran."
        if target == State.CANCELLED:
            seen = self._cancel_seen.setdefault(attempt.id, time.monotonic())
            if time.monotonic() - seen > jobs.cancel_grace_seconds + CANCEL_MARGIN_SECONDS:
                return end, "and ended by force."
        if (silence := self._silence(attempt)) > jobs.lost_after_seconds:
            return end, f"The runner was silent for {silence:.0f} s and was ended."
        return None

    def _listen(self, holding: list[Attempt]) -> None:
        """Add the time since the last look to the silence of those whose heartbeat stands still."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, ROUND_SECONDS), now
        before, self._heard = self._heard, {}
        for attempt in holding:
            beat, silence = before.get(attempt.id, (None, -passed))
            same = beat == attempt.heartbeat_at
            self._heard[attempt.id] = (attempt.heartbeat_at, silence + passed if same else 0.0)

    def _silence(self, attempt: Attempt) -> float:
        return self._heard[attempt.id][1]

    async def _put_back(self, attempt: Attempt, why: str) -> None:
        # First the fence, which fails if the runner has started meanwhile; then its tree.
        run = await asyncio.to_thread(self._store.put_back, attempt.id, why)
        await self._end_tree(attempt)
        log.warning(
            "Attempt %s of run %s did not start: %s action=attempt-lost", attempt.id, run.id, why
        )
        folder = attempt_dir(self._settings, run.id, attempt.id)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self.notice(run.project if run.state.ended else None)

    async def _end(self, attempt: Attempt, state: State, reason: str) -> None:
        run = attempt.run
        log.warning("Run %s is ended: %s action=run-ended", run.id, reason)
        await self._end_tree(attempt)
        await asyncio.to_thread(self._last_words, attempt, f"run {state}: {reason}\n")
        await self._publish(run.id, attempt.id, run.project, run.notebook)
        if state == State.CANCELLED and not reason.startswith("and "):
            reason = f". {reason}"
        ended = await asyncio.to_thread(self._store.finish, attempt.id, state, reason)
        self.notice(ended.project)

    async def _end_tree(self, attempt: Attempt) -> None:
        mark = run_mark(attempt.run.id, attempt.id)
        await asyncio.to_thread(end_marked, RUN_MARK, mark, grace=1.0)

    def _last_words(self, attempt: Attempt, text: str) -> None:
        self._store.log(attempt.id, text)
        file = attempt_dir(self._settings, attempt.run.id, attempt.id) / "log.txt"
        if file.parent.exists():
            with file.open("a", encoding="utf-8") as log_file:
                log_file.write(text)

    async def _publish(
        self, run: str, attempt: int, project: str, title: str, seconds: float = PUBLISH_SECONDS
    ) -> None:
        """Publish and remove what an attempt left, in a process of its own.

        Where that fails the folder stays, and a sweep tries again.
        """
        if not attempt_dir(self._settings, run, attempt).exists():
            return
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hub_config.jobs.results"),
            *(run, str(attempt), project, title),
        )
        try:
            if await asyncio.wait_for(process.wait(), seconds) != 0:
                log.error("Files of run %s could not be kept yet. action=publish-failed", run)
        except TimeoutError:
            log.error("Files of run %s could not be kept in time. action=publish-late", run)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    # Sweeping -------------------------------------------------------------------------------------

    async def _sweep_forever(self) -> None:
        while True:
            await self._guarded(self._sweep(), "sweep")
            await asyncio.sleep(SWEEP_SECONDS)

    async def _sweep(self) -> None:
        """Publish or remove what attempts left that hold no run.

        Only what the sweep before saw too: a runner removes its folder after it has told its end.
        """
        found = await asyncio.to_thread(attempts_with_folder, self._settings)
        holding = {a.id for a in await asyncio.to_thread(self._store.running)}
        left = {(run, n) for run, n in found if n not in holding and n not in self._closing}
        due, self._left = left & self._left, left
        for name, attempt in sorted(due):
            try:
                run = await asyncio.to_thread(self._store.get, name)
            except CuadernoError:
                continue
            await asyncio.to_thread(end_marked, RUN_MARK, run_mark(name, attempt), grace=1.0)
            if run.attempt == attempt:
                await self._publish(name, attempt, run.project, run.notebook, PUBLISH_AGAIN_SECONDS)
            else:
                folder = attempt_dir(self._settings, name, attempt)
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _close(self, attempt: int, work: Coroutine[Any, Any, None]) -> None:
        async def close() -> None:
            try:
                await self._guarded(work, "close")
            finally:
                self._closing.pop(attempt, None)
                self._placement.forget(attempt)

        self._closing[attempt] = asyncio.create_task(close())

    # MLflow ---------------------------------------------------------------------------------------

    async def _close_forever(self) -> None:
        """End MLflow runs whose run has ended; tracking may be away, so again and again."""
        pause, longest = TRACKING_RETRY_SECONDS
        while True:
            await self._ended.wait()
            self._ended.clear()
            projects, self._to_close = self._to_close, set()
            await self._guarded(self._close_projects(projects), "tracking")
            if projects:
                self._to_close |= projects
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)
                self._ended.set()
            else:
                pause = TRACKING_RETRY_SECONDS[0]

    async def _close_projects(self, projects: set[str]) -> None:
        """Look through `projects`; those that could not be looked through are left in it."""
        for project in sorted(projects):
            try:
                await asyncio.to_thread(self.close_left_open, project)
            except Exception as error:
                log.info("MLflow runs stay open for now: %s action=tracking-away", error)
            else:
                projects.discard(project)

    def close_left_open(self, project: str) -> None:
        """End the MLflow runs in `project` that are RUNNING while their run has ended."""
        for run, mlflow_runs in self._measurements.left_open(project).items():
            try:
                ended = self._store.get(run)
            except CuadernoError:
                continue
            if not ended.state.ended or ended.project != project:
                continue
            for mlflow_run in mlflow_runs:
                self._measurements.close(mlflow_run, ended)
                log.info("MLflow run %s of run %s ended. action=mlflow-closed", mlflow_run, run)

    async def _guarded(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """One round of a loop; what goes wrong in it does not end the loop."""
        try:
            await work
        except Stale:
            log.info("The attempt was ended by others meanwhile. action=%s-stale", name)
        except Exception:
            log.exception("One round failed. action=%s-failed", name)
