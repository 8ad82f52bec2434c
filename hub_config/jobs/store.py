"""All SQL about runs.

Guarantees, kept here:

- a queued run is claimed exactly once, however many claim at the same time;
- whatever a runner writes carries its attempt's id; once another attempt holds the run, or the
  attempt has ended, the write is refused (`Stale`);
- the same idempotency key of the same submitter in the same project is the same run;
- the log kept here is bounded (`LOG_LIMIT` characters a run); ten times as much goes to the
  artifact store when the run ends.

Only the process `jobs` calls what writes.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub_config.errors import Conflict, Invalid, NotFound
from hub_config.jobs.model import ENDED, Run, State
from hub_config.storage.database import new_id, write
from hub_config.storage.schema import attempts, log_chunks, runs

LOG_LIMIT = 5_000_000  # characters of a run's log in the database
LOG_END = "\n[The log shown here ends at 5 MB; log.txt holds more of it once the run has ended.]\n"
LOG_PAGE = 256_000  # characters read at once, about
MAX_ATTEMPTS = 5  # placements of one run that may fail before its notebook has begun

COLUMNS = [c for c in runs.c if c.name != "idempotency_key"]


class Stale(Conflict):
    title = "This attempt no longer holds the run"


@dataclass(frozen=True)
class Attempt:
    """One try at a run, with the process that makes it; `pid` is None before that has started."""

    id: int
    run: Run
    host: str | None
    pid: int | None
    pid_started: float | None  # as `node.processes.start_time` has it
    heartbeat_at: float | None


class RunStore:
    """The runs in one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._log_sizes: dict[str, int] = {}

    # Making and reading ---------------------------------------------------------------------------

    def create(
        self,
        *,
        project: str,
        notebook: str,
        commit: str,
        parameters: dict[str, Any],
        submitted_by: str,
        origin: str,
        key: str | None = None,
    ) -> Run:
        """A new queued run, or the one made before with the same `key`.

        Raises `Conflict` when that one has another input, `NotFound` without the project.
        """
        given = {"notebook": notebook, "commit": commit, "parameters": parameters}
        identifier = new_id()
        values = {
            "id": identifier,
            "project": project,
            "submitted_by": submitted_by,
            "origin": origin,
            "idempotency_key": key,
            "state": State.QUEUED,
            "target": State.SUCCEEDED,
            "reason": "",
            "cells_done": 0,
            "cells_total": 0,
            "created_at": time.time(),
            **given,
        }
        if key is None or (known := self.by_key(project, submitted_by, key)) is None:
            try:
                with write(self._engine) as connection:
                    connection.execute(insert(runs).values(values))
                return self.get(identifier)
            except IntegrityError as error:
                known = self.by_key(project, submitted_by, key) if key else None
                if known is None:
                    raise NotFound(f"There is no project {project!r}.") from error
        if any(getattr(known, name) != value for name, value in given.items()):
            raise Conflict(
                f"The idempotency key {key!r} was used for the run {known.id} with another input. "
                "Use a new key for a new run."
            )
        return known

    def get(self, run: str) -> Run:
        """The run `run`. Raises `NotFound`."""
        with self._engine.connect() as connection:
            row = connection.execute(select(*COLUMNS).where(runs.c.id == run)).first()
        if row is None:
            raise NotFound(f"There is no run {run!r}.")
        return _run(row)

    def by_key(self, project: str, submitted_by: str, key: str) -> Run | None:
        query = select(*COLUMNS).where(
            runs.c.project == project,
            runs.c.submitted_by == submitted_by,
            runs.c.idempotency_key == key,
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return _run(row) if row else None

    def page(
        self,
        projects: Collection[str],
        *,
        state: State | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Run], str | None, int]:
        """Runs of `projects`, newest first; the next page's cursor (or None); how many in all.

        The cursor is the id of the last run shown: ids grow with time, so runs made meanwhile
        change no page that was shown before.
        """
        if cursor is not None and not (
            len(cursor) == 22 and set(cursor) <= set("0123456789abcdef")
        ):
            raise Invalid(f"{cursor!r} is not a cursor. Begin again without one.")
        where: list[ColumnElement[bool]] = [runs.c.project.in_(sorted(projects))]
        if state is not None:
            where.append(runs.c.state == state)
        after = [runs.c.id < cursor] if cursor else []
        query = select(*COLUMNS).where(*where, *after).order_by(runs.c.id.desc()).limit(limit + 1)
        with self._engine.connect() as connection:
            found = [_run(row) for row in connection.execute(query)]
            total = connection.scalar(select(func.count()).select_from(runs).where(*where)) or 0
        more = len(found) > limit
        return found[:limit], (found[limit - 1].id if more else None), total

    def counts(self) -> tuple[int, int]:
        """How many runs are queued, and how many are running."""
        query = select(runs.c.state, func.count()).where(
            runs.c.state.in_([State.QUEUED, State.RUNNING])
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query.group_by(runs.c.state)).all()
        found = {state: number for state, number in rows}
        return found.get(State.QUEUED, 0), found.get(State.RUNNING, 0)

    def projects_with_ended_runs(self) -> list[str]:
        query = select(runs.c.project).where(runs.c.state.in_(ENDED)).distinct()
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    # Attempts -------------------------------------------------------------------------------------

    def claim(self) -> Attempt | None:
        """Take the run that waits longest and make an attempt at it; None if no run waits."""
        now = time.time()
        queued = (
            select(runs.c.id)
            .where(runs.c.state == State.QUEUED)
            .order_by(runs.c.created_at, runs.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with write(self._engine) as connection:
            run = connection.scalar(queued)
            if run is None:
                return None
            attempt = connection.execute(
                insert(attempts).values(run=run, created_at=now).returning(attempts.c.id)
            ).scalar_one()
            changes = {"state": State.RUNNING, "attempt": attempt, "started_at": now, "reason": ""}
            connection.execute(update(runs).where(runs.c.id == run).values(changes))
            row = connection.execute(select(*COLUMNS).where(runs.c.id == run)).one()
        return Attempt(attempt, _run(row), None, None, None, None)

    def running(self) -> list[Attempt]:
        """The attempts that hold a run."""
        extra = [attempts.c[name].label(f"attempt_{name}") for name in _ATTEMPT_FACTS]
        query = (
            select(*COLUMNS, *extra)
            .join(attempts, attempts.c.id == runs.c.attempt)
            .where(runs.c.state == State.RUNNING, attempts.c.ended_at.is_(None))
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [
            Attempt(
                row.attempt,
                _run(row),
                **{name: getattr(row, f"attempt_{name}") for name in _ATTEMPT_FACTS},
            )
            for row in rows
        ]

    def start(self, attempt: int, *, host: str, pid: int, pid_started: float) -> State:
        """Note the process that makes the attempt; the run's target.

        A second process for the same attempt is refused: Dask may start a task twice.
        """
        with write(self._engine) as connection:
            row = self._held(connection, attempt)
            known = connection.execute(select(attempts).where(attempts.c.id == attempt)).one()
            if known.pid is not None and (known.host, known.pid) != (host, pid):
                raise Stale("Another runner makes this attempt already.")
            changes = {"host": host, "pid": pid, "pid_started": pid_started}
            connection.execute(
                update(attempts)
                .where(attempts.c.id == attempt)
                .values(**changes, heartbeat_at=time.time())
            )
            return State(row.target)

    def heartbeat(self, attempt: int, *, cells_done: int, cells_total: int) -> State:
        """Note that the attempt lives and how far it is; the run's target."""
        with write(self._engine) as connection:
            row = self._held(connection, attempt)
            self._touch(connection, attempt)
            progress = {"cells_done": cells_done, "cells_total": cells_total}
            if progress != {"cells_done": row.cells_done, "cells_total": row.cells_total}:
                connection.execute(update(runs).where(runs.c.id == row.id).values(progress))
            return State(row.target)

    def log(self, attempt: int, text: str) -> State:
        """Append to the run's log; the run's target."""
        with write(self._engine) as connection:
            row = self._held(connection, attempt)
            self._touch(connection, attempt)
            self._append(connection, row.id, text)
            return State(row.target)

    def finish(self, attempt: int, state: State, reason: str) -> Run:
        """End the attempt and with it the run.

        The reason of a cancelled one begins with who cancelled it; `reason` says where it was.
        """
        if not state.ended:
            raise Invalid(f"A run cannot finish as {state}.")
        now = time.time()
        with write(self._engine) as connection:
            row = self._held(connection, attempt)
            self._end_attempt(connection, attempt, now)
            if state == State.CANCELLED:
                reason = f"{row.reason or 'Cancelled'} {reason}".strip()
            changes = {"state": state, "reason": reason, "finished_at": now}
            connection.execute(update(runs).where(runs.c.id == row.id).values(changes))
        self._log_sizes.pop(row.id, None)
        return self.get(row.id)

    def put_back(self, attempt: int, why: str) -> Run:
        """Queue the run of an attempt again whose notebook has not begun, for another attempt.

        A cancelled one ends instead; so does one that failed to be placed `MAX_ATTEMPTS` times.
        Raises `Stale` once a runner has started the attempt: its notebook may have begun.
        """
        now = time.time()
        with write(self._engine) as connection:
            row = self._held(connection, attempt)
            if connection.scalar(select(attempts.c.pid).where(attempts.c.id == attempt)):
                raise Stale(f"The attempt {attempt} was started meanwhile; it goes on.")
            self._end_attempt(connection, attempt, now)
            tries = connection.scalar(
                select(func.count()).select_from(attempts).where(attempts.c.run == row.id)
            )
            changes: dict[str, Any] = {"attempt": None, "started_at": None}
            if row.target == State.CANCELLED:
                changes |= {"state": State.CANCELLED, "finished_at": now}
                changes["reason"] = f"{row.reason} before it began."
            elif (tries or 0) >= MAX_ATTEMPTS:
                reason = f"It could not be started in {tries} tries; the last time: {why}"
                changes |= {"state": State.FAILED, "finished_at": now, "reason": reason}
            else:
                changes |= {"state": State.QUEUED, "reason": f"Waits again: {why}"}
            connection.execute(update(runs).where(runs.c.id == row.id).values(changes))
        return self.get(row.id)

    def cancel(self, run: str, by: str) -> Run:
        """Ask for the end of a run: at once for a queued one, else by its target.

        Asking again changes nothing. Raises `Conflict` when the run has ended otherwise.
        """
        now = time.time()
        with write(self._engine) as connection:
            row = connection.execute(
                select(*COLUMNS).where(runs.c.id == run).with_for_update()
            ).first()
            if row is None:
                raise NotFound(f"There is no run {run!r}.")
            if State.CANCELLED in (row.state, row.target):
                return _run(row)
            if State(row.state).ended:
                raise Conflict(
                    f"The run {run} has {row.state} already; there is nothing to cancel."
                )
            changes: dict[str, Any] = {"target": State.CANCELLED, "reason": f"Cancelled by {by}"}
            if row.state == State.QUEUED:
                changes |= {
                    "state": State.CANCELLED,
                    "finished_at": now,
                    "reason": f"Cancelled by {by} before it began.",
                }
            connection.execute(update(runs).where(runs.c.id == run).values(changes))
        return self.get(run)

    # Log ------------------------------------------------------------------------------------------

    def log_after(self, run: str, after: int = 0) -> list[tuple[int, float, str]]:
        """Pieces of the log after the piece `after`: id, time, text; about `LOG_PAGE` characters.

        Always at least one piece if there is any.
        """
        query = (
            select(log_chunks.c.id, log_chunks.c.at, log_chunks.c.text)
            .where(log_chunks.c.run == run, log_chunks.c.id > after)
            .order_by(log_chunks.c.id)
            .limit(500)
        )
        found, size = [], 0
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                found.append((row.id, row.at, row.text))
                size += len(row.text)
                if size >= LOG_PAGE:
                    break
        return found

    def _append(self, connection: Connection, run: str, text: str) -> None:
        size = self._log_sizes.get(run)
        if size is None:
            query = select(func.coalesce(func.sum(func.length(log_chunks.c.text)), 0))
            size = int(connection.scalar(query.where(log_chunks.c.run == run)) or 0)
        # PostgreSQL's text holds no NUL, and UTF-8 no half of a surrogate pair.
        text = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        room = LOG_LIMIT - size
        if room > 0 and text:
            kept = text if len(text) <= room else text[:room] + LOG_END
            connection.execute(insert(log_chunks).values(run=run, at=time.time(), text=kept))
            size += len(kept)
        self._log_sizes[run] = size

    # Fencing --------------------------------------------------------------------------------------

    def _held(self, connection: Connection, attempt: int) -> Row[Any]:
        """The run that `attempt` holds, locked until the end of the transaction."""
        query: Select[Any] = (
            select(*COLUMNS)
            .where(runs.c.attempt == attempt, runs.c.state == State.RUNNING)
            .with_for_update()
        )
        row = connection.execute(query).first()
        if row is None:
            raise Stale(f"The attempt {attempt} has ended or was replaced; nothing was written.")
        return row

    def _touch(self, connection: Connection, attempt: int) -> None:
        connection.execute(
            update(attempts).where(attempts.c.id == attempt).values(heartbeat_at=time.time())
        )

    def _end_attempt(self, connection: Connection, attempt: int, now: float) -> None:
        connection.execute(update(attempts).where(attempts.c.id == attempt).values(ended_at=now))


_ATTEMPT_FACTS = ("host", "pid", "pid_started", "heartbeat_at")


def _run(row: Row[Any]) -> Run:
    values = {c.name: getattr(row, c.name) for c in COLUMNS}
    run = Run(**values)
    return replace(run, state=State(run.state), target=State(run.target))
