"""The process `tracking`: `python -m hub_config.tracking`."""

from __future__ import annotations

import logging
import sys

import uvicorn

from hub_config.errors import Misconfigured
from hub_config.identity import open_identity
from hub_config.oauth import HubSignIn
from hub_config.settings import load_addresses, load_settings
from hub_config.tracking.server import load_mlflow

SERVICE = "mlflow"


def main() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("alembic", "httpx", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = load_settings()
        addresses = load_addresses(settings)
        identity = open_identity(settings, SERVICE)
        mlflow = load_mlflow(settings)
    except Misconfigured as error:
        sys.exit(f"tracking: {error.detail}")
    from hub_config.tracking.app import TrackingApp  # imports MLflow, which needs its switches set

    uvicorn.run(
        TrackingApp(mlflow, identity, HubSignIn(settings, SERVICE)),
        host="127.0.0.1",
        port=addresses.tracking,
        lifespan="off",
        access_log=False,
        log_level="warning",
        ws="none",
        # The proxy and no one else speaks for a client's address and scheme.
        forwarded_allow_ips="127.0.0.1",
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
