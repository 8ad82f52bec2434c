"""The environment of this process, and the one that a dashboard's kernel gets."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from tornado.httputil import HTTPServerRequest

from hub_config.dashboards import trees
from hub_config.dashboards.catalogue import PREFIX
from hub_config.dashboards.views import LONGEST_SECONDS, View
from hub_config.identity import Signer
from hub_config.node.processes import PLATFORM_MARK
from hub_config.settings import Settings

# Borne by our kernels and all they start; the value is the data folder.
DASHBOARDS_MARK = "CUADERNO_DASHBOARDS_MARK"
INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


def keep_out_home(settings: Settings, environ: MutableMapping[str, str]) -> None:
    """Let nobody's home folder decide which kernels, templates and settings exist."""
    own = str(settings.jupyter_dir)
    environ.update(
        JUPYTER_RUNTIME_DIR=str(settings.runtime_dir),
        JUPYTER_DATA_DIR=own,
        JUPYTER_CONFIG_DIR=f"{own}/config",
        JUPYTER_NO_CONFIG="1",
        JUPYTER_PREFER_ENV_PATH="1",
    )


def kernel_environment(
    settings: Settings, signer: Signer, view: View, request: HTTPServerRequest
) -> dict[str, str]:
    """All that a dashboard's kernel finds: nothing of ours but a token that reads one project.

    The request is there as any page of Voila finds it: the parameters are in `QUERY_STRING`.
    """
    project = view.dashboard.project
    host, _, port = request.host.partition(":")
    return {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "HOME": str(trees.home(settings, project)),
        "PYTHONDONTWRITEBYTECODE": "1",  # the tree is read-only
        PLATFORM_MARK: str(settings.data_dir),
        DASHBOARDS_MARK: str(settings.data_dir),
        **settings.kernel_addresses,
        "CUADERNO_PROJECT": project,
        "CUADERNO_TOKEN": signer.dashboard_token(project, LONGEST_SECONDS),
        "SCRIPT_NAME": request.path,
        "PATH_INFO": "",
        "QUERY_STRING": request.query,
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": request.version,
        "SERVER_SOFTWARE": "voila",
        "VOILA_PREHEAT": "False",
        "VOILA_BASE_URL": PREFIX,
        "VOILA_SERVER_URL": PREFIX,
        "VOILA_REQUEST_URL": request.full_url(),
    }
