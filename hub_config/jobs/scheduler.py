"""The embedded Dask scheduler: `python -m hub_config.jobs.scheduler`."""

from __future__ import annotations

import asyncio
import logging
import signal

from hub_config.jobs import cluster
from hub_config.settings import Settings, load_addresses, load_settings


async def serve(settings: Settings) -> None:
    """Run the scheduler until SIGTERM or SIGINT."""
    from distributed import Scheduler

    addresses = load_addresses(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Scheduler(
        host="127.0.0.1",
        port=addresses.scheduler,
        protocol="tls://",
        security=cluster.security(settings),
        dashboard=False,
        dashboard_address=f"127.0.0.1:{addresses.scheduler_http}",
    ) as scheduler:
        logging.getLogger(__name__).info("Scheduler listens. action=scheduler-ready")
        finished = asyncio.ensure_future(scheduler.finished())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({finished, stopped}, return_when=asyncio.FIRST_COMPLETED)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = load_settings()
    cluster.prepare()
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
