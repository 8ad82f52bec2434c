"""Entry point of the process `dashboards`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from hub_config.errors import Misconfigured
from hub_config.identity import Identity, open_identity
from hub_config.settings import Settings, load_settings


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("httpx", "tornado.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        settings = load_settings()
        identity = open_identity(settings, "dashboards")
    except Misconfigured as error:
        print(error.detail, file=sys.stderr)
        return 2
    asyncio.run(serve(settings, identity))
    return 0


async def serve(settings: Settings, identity: Identity) -> None:
    from hub_config.dashboards.environment import keep_out_home

    # Jupyter reads these when it is imported.
    keep_out_home(settings, os.environ)
    from hub_config.dashboards.server import Dashboards

    app = Dashboards()
    app.begin(settings, identity)
    await app.serve()


if __name__ == "__main__":
    sys.exit(main())
