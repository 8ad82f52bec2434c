"""The database: SQLite in WAL mode or PostgreSQL, by URL; schema revisions by Alembic.

Only `cuaderno up` migrates. Every other process calls `open_database`, which refuses a revision
that this version of the code does not know.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event

from hub_config.errors import Misconfigured

MIGRATIONS = Path(__file__).parent / "migrations"


def make_engine(url: str) -> Engine:
    """An engine on `url` (`sqlite:///…` or `postgresql://…`); SQLite in WAL mode, writes queued.

    Read with `engine.connect()`, write with `write(engine)`.
    """
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=4, max_overflow=8)
    engine = create_engine(url, connect_args={"timeout": 15})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        mode = "IMMEDIATE" if connection.get_execution_options().get("writes") else "DEFERRED"
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; committed at the end, rolled back on an exception.

    On SQLite it takes the write lock at once (BEGIN IMMEDIATE), so that two writers wait for one
    another instead of failing half-way.
    """
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


def open_database(url: str) -> Engine:
    """An engine on a migrated database. Raises `Misconfigured` on any other revision."""
    engine = make_engine(url)
    present, expected = revision(engine), head()
    if present != expected:
        raise Misconfigured(
            f"The database is at schema revision {present}, this version needs {expected}. "
            "Start the platform with `cuaderno up`, which migrates it."
        )
    return engine


def migrate(url: str) -> None:
    """Bring the database to this version's schema. Refuses one from a newer version."""
    engine = make_engine(url)
    try:
        present = revision(engine)
        known = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
        if present is not None and present not in known:
            raise Misconfigured(
                f"The database is at schema revision {present}, which this version does not know: "
                "it was written by a newer Cuaderno. Start that version."
            )
        if present == head():
            return
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with write(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def new_id() -> str:
    """A new identifier, 22 hexadecimal digits, in order of time (milliseconds)."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(5)}"
