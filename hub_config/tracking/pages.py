"""MLflow's own pages: the first one with our defaults, and what they may load.

MLflow opens with an assistant that is not here, a note that usage is reported (it is not) and the
view for language models. `first-visit.js` sets the pages' own preferences otherwise, in a browser
that has none yet; whoever changes them keeps the change.
"""

from __future__ import annotations

import json
from pathlib import Path

from hub_config.tracking.server import PREFIX

INDEX = f"{PREFIX}/"
FIRST_VISIT = f"{PREFIX}/first-visit.js"
STATIC = f"{PREFIX}/static-files/"

PREFERENCES = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.telemetry.info.alert.dismissed_v1": "true",
    "mlflow.settings.telemetry.enabled_v1": "false",
}

# Nothing from outside: MLflow's pages want a film from mlflow.org, a figure logged by plotly wants
# plotly from its CDN. Inline scripts are those of HTML artifacts, which MLflow shows in a frame
# without an origin (`sandbox="allow-scripts"`) that inherits this policy.
PAGE_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "worker-src 'self' blob:",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' data: blob:",
        "frame-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
# Everything else, artifacts above all, shares the hub's origin and must not act in it.
SANDBOX = "sandbox"


def policy(path: str) -> str:
    """The Content-Security-Policy of the answer at `path`."""
    page = path in (INDEX, FIRST_VISIT) or path.startswith(STATIC)
    return PAGE_POLICY if page else SANDBOX


def first_visit() -> str:
    """The script that sets preferences where there are none."""
    return (
        f"for (const [key, value] of Object.entries({json.dumps(PREFERENCES)})) "
        "if (localStorage.getItem(key) === null) localStorage.setItem(key, value);\n"
    )


def index(static_folder: str) -> str:
    """MLflow's page, with the script before its own."""
    page = (Path(static_folder) / "index.html").read_text()
    return page.replace("<script", '<script src="first-visit.js"></script><script', 1)
