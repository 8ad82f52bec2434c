"""The process `web`: `python -m hub_config.web`."""

from __future__ import annotations

import logging
import sys

import uvicorn

from hub_config.errors import CuadernoError
from hub_config.settings import load_addresses, load_settings
from hub_config.web.app import create_app


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = load_settings()
        app = create_app(settings)
        port = load_addresses(settings).web
    except CuadernoError as error:
        print(error.detail, file=sys.stderr)
        return 1
    # No access log: the proxy's addresses would fill it, and codes of the sign-in with them.
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_config=None, access_log=False, server_header=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
