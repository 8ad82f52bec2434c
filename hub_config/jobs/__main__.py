"""The process `jobs`: `python -m hub_config.jobs`."""

from __future__ import annotations

import logging

import uvicorn

from hub_config.identity import Signer
from hub_config.jobs import cluster
from hub_config.jobs.dispatcher import Dispatcher
from hub_config.jobs.measurements import Measurements
from hub_config.jobs.placement import Placement
from hub_config.jobs.service import make_app
from hub_config.jobs.store import RunStore
from hub_config.keys import secret
from hub_config.settings import load_addresses, load_settings
from hub_config.storage.database import open_database


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("distributed", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    settings = load_settings()
    addresses = load_addresses(settings)
    cluster.prepare()
    import distributed  # noqa: F401 (a second of work: before the loop runs, not in it)

    signer = Signer(secret(settings, "platform-key"))
    store = RunStore(open_database(settings.database_url))
    placement = Placement(settings)
    measurements = Measurements(settings, signer, "jobs")
    dispatcher = Dispatcher(settings, store, signer, placement, measurements)
    app = make_app(store, signer, placement, dispatcher)
    uvicorn.run(app, host="127.0.0.1", port=addresses.jobs, access_log=False, log_config=None)


if __name__ == "__main__":
    main()
