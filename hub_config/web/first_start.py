"""The first start: the project `demo`, and one run of its training notebook in the background.

The run has an idempotency key, so that it is made once however often this is tried and whichever
process survives. While `jobs` is away, it is tried again. What keeps the demo from being made is
logged, and tried again; it never keeps the platform from starting.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Engine

from hub_config.errors import CuadernoError, Unavailable
from hub_config.identity import Principal
from hub_config.jobs.submission import Runs
from hub_config.projects import seed
from hub_config.settings import Settings

log = logging.getLogger(__name__)
NOTEBOOK = "notebooks/train_classifier.ipynb"
KEY = "first-run"
RETRY_SECONDS = 1.0
SEED_RETRY_SECONDS = 30.0
# The platform itself, which may act in every project; runs name it as who submitted them.
PLATFORM = Principal("operator", "cuaderno", admin=True)


class FirstStart:
    """A thread that makes the demo, submits its first run, and ends."""

    def __init__(self, engine: Engine, settings: Settings, runs: Runs) -> None:
        self._engine = engine
        self._settings = settings
        self._runs = runs
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="first-start", daemon=True)

    def start(self) -> None:
        """Make the demo now, so that the first page shows it; its first run may come later."""
        made = self._seed()
        if made is None or (made and self._settings.demo.first_run):
            self._thread.start()

    def _seed(self) -> bool | None:
        """Whether the demo is there; None if making it failed."""
        try:
            return seed.seed(self._engine, self._settings)
        except Exception:
            log.exception(
                "The demo cannot be made; tried again in %.0f s.",
                SEED_RETRY_SECONDS,
                extra={"action": "seed-failed"},
            )
            return None

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while (made := self._seed()) is None:
            if self._ended.wait(SEED_RETRY_SECONDS):
                return
        if made and self._settings.demo.first_run:
            self._submit()

    def _submit(self) -> None:
        while not self._ended.is_set():
            try:
                run = self._runs.submit(
                    PLATFORM,
                    project=seed.DEMO,
                    notebook=NOTEBOOK,
                    parameters={},
                    key=KEY,
                    origin="platform",
                )
            except Unavailable:
                self._ended.wait(RETRY_SECONDS)
            except CuadernoError as error:
                log.warning("The demo has no first run: %s", error.detail)
                return
            else:
                log.info("The demo's first run is %s.", run.id, extra={"action": "first-run"})
                return
