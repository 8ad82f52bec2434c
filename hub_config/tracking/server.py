"""MLflow loaded into this process: its Flask application, its store, nothing that calls out.

The switches below are read while MLflow is imported, so it is imported here, inside a function,
after they are set.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import make_url

from hub_config.errors import Misconfigured
from hub_config.settings import Settings

PREFIX = "/services/mlflow"

SWITCHES = {
    "_MLFLOW_STATIC_PREFIX": PREFIX,
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    # Nothing is reported anywhere, neither by the server nor by the pages it serves.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
    "MLFLOW_ENABLE_WORKSPACES": "false",
    # It answers every port of localhost with CORS headers that allow cookies. Ours (app.py) sends
    # none, and refuses what another origin sends.
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
}
# MLflow imports these to know their types in a client; a server never meets them. Hidden while it
# is imported they cost nothing: 155 MB instead of 255, and 2 s less.
HEAVY = ("pandas", "scipy", "pyarrow", "numpy")


@dataclass(frozen=True)
class Mlflow:
    """What the rest of the room needs of MLflow."""

    flask: Any
    store: Any  # MLflow's own, unguarded
    handlers: Any


def load_mlflow(settings: Settings) -> Mlflow:
    """Import MLflow for these settings and open its database, which is made when there is none.

    Once per process. Raises `Misconfigured` when the database is of another version of MLflow.
    """
    for name in [n for n in os.environ if n.startswith(("MLFLOW_", "_MLFLOW_"))]:
        del os.environ[name]  # what the operator's shell says to MLflow's client is not for us
    os.environ.update(SWITCHES)
    os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = (
        settings.artifacts_url.rstrip("/") + "/mlflow"
    )
    hidden = [name for name in HEAVY if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    # MLflow's permission application is imported by a search if it can be; it must not be there.
    sys.modules["mlflow.server.auth"] = None  # type: ignore[assignment]
    try:
        import mlflow.server
        from mlflow.exceptions import MlflowException
        from mlflow.server import handlers
    finally:
        for name in hidden:
            del sys.modules[name]
    try:
        store = handlers._tracking_store_registry.get_store(
            _database(settings), SWITCHES["_MLFLOW_SERVER_ARTIFACT_ROOT"]
        )
    except MlflowException as error:
        raise Misconfigured(f"MLflow cannot use its database: {error.message}") from error
    _prefer_wal(store.engine)
    return Mlflow(mlflow.server.app, store, handlers)


def _database(settings: Settings) -> str:
    url = make_url(settings.tracking_database_url)
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    # As given: rendered, "ä" would be %C3%A4, and MLflow would make an empty folder of that name.
    return settings.tracking_database_url


def _prefer_wal(engine: Any) -> None:
    """On SQLite: readers do not wait for a writer, and a commit does not wait for the disk."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()
