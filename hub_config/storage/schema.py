"""Every table of Cuaderno, in one place; the migrations build exactly this (a test compares).

Times are seconds since the epoch, UTC, as floats. The process `web` writes all tables but `runs`,
`attempts` and `log_chunks`, which only `jobs` writes.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A person who may sign in; state: pending (asked to sign up) | active | refused | disabled.
accounts = Table(
    "accounts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("password_hash", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("decided_at", Double),
    Column("decided_by", String(32)),
)

projects = Table(
    "projects",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("title", String(200), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", String(32), nullable=False),
)

# role: viewer | editor | owner
members = Table(
    "members",
    metadata,
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), primary_key=True),
    Column("person", String(32), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("added_at", Double, nullable=False),
    Column("added_by", String(32), nullable=False),
)

# A run: an immutable input, and what became of it. `target` is what it should come to
# (succeeded, or cancelled once somebody asked); `attempt` is the id of the attempt that may write.
runs = Table(
    "runs",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), nullable=False),
    Column("notebook", String(400), nullable=False),
    Column("commit", String(40), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("submitted_by", String(64), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("idempotency_key", String(100)),
    Column("state", String(16), nullable=False),
    Column("target", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer),
    Column("cells_done", Integer, nullable=False),
    Column("cells_total", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    UniqueConstraint("project", "submitted_by", "idempotency_key"),
    Index(None, "project", "created_at"),
    Index(None, "state", "created_at"),
)

# One try at a run. Its id only grows: it is the fencing token of everything the try writes.
attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("host", String(255)),
    Column("pid", Integer),
    Column("pid_started", Double),
    Column("created_at", Double, nullable=False),
    Column("heartbeat_at", Double),
    Column("ended_at", Double),
    sqlite_autoincrement=True,
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("text", Text, nullable=False),
)
