"""What a run is.

A *run* is an immutable input (a notebook at a commit, with parameters) and what became of it. Its
*state* is what it is, its *target* what it should come to: `succeeded`, or `cancelled` once
somebody asked. An *attempt* is one try at it; the attempt's id is the fencing token of all that the
try writes. An *assignment* is what a runner is told.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub_config.settings import Settings


class State(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  # accepted; waits for a free slot
    RUNNING = "running"  # an attempt holds it: its runner is about to start, or works
    SUCCEEDED = "succeeded"  # every cell ran
    FAILED = "failed"  # a cell raised, or the runner or its kernel was lost
    CANCELLED = "cancelled"  # somebody asked for its end, and it ended for that reason

    @property
    def ended(self) -> bool:
        return self in ENDED


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

# What is kept of a run, under `runs/<run>/` of the artifact store, and its media type.
FILES = {
    "input.ipynb": "application/x-ipynb+json",
    "executed.ipynb": "application/x-ipynb+json",
    "executed.html": "text/html; charset=utf-8",
    "log.txt": "text/plain; charset=utf-8",
}


def file_key(run: str, name: str) -> str:
    """The key of a run's file in the artifact store."""
    return f"runs/{run}/{name}"


def attempt_dir(settings: Settings, run: str, attempt: int) -> Path:
    """The folder in which an attempt works; what lies in it, `results` says."""
    return settings.data_dir / "jobs" / run / str(attempt)


def attempts_with_folder(settings: Settings) -> list[tuple[str, int]]:
    """The run and the number of every attempt that has its folder still."""
    folders = sorted((settings.data_dir / "jobs").glob("*/*"))
    return [(path.parent.name, int(path.name)) for path in folders if path.name.isdigit()]


def run_mark(run: str, attempt: int) -> str:
    """The value of `RUN_MARK` that a runner and all it starts bear."""
    return f"{run}.{attempt}"


@dataclass(frozen=True)
class Run:
    """One run as the database has it; times in seconds since the epoch."""

    id: str
    project: str
    notebook: str
    commit: str
    parameters: dict[str, Any]
    submitted_by: str
    origin: str
    state: State
    target: State
    reason: str
    attempt: int | None
    cells_done: int
    cells_total: int
    created_at: float
    started_at: float | None
    finished_at: float | None

    @property
    def duration(self) -> float | None:
        """Seconds from the start of its work to its end; None while it has not ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    def to_json(self) -> dict[str, Any]:
        """The run as the API shows it; times as ISO 8601 in UTC, `duration` in seconds."""
        shown = asdict(self)
        for name in ("created_at", "started_at", "finished_at"):
            shown[name] = iso(shown[name])
        took = None if self.duration is None else round(self.duration, 3)
        return {**shown, "duration": took}


def iso(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


@dataclass(frozen=True)
class Assignment:
    """What a runner is told. The token stays out of its representation, and so out of logs."""

    run: str
    attempt: int
    project: str
    notebook: str
    commit: str
    parameters: dict[str, Any]
    token: str = field(repr=False)
