"""The environment of a kernel, made from that of the process which starts it.

Inputs are the variables of whoever starts kernels: `CUADERNO_URL` (the proxy's address),
`CUADERNO_TOKEN` (runner, dashboard) or `JUPYTERHUB_API_TOKEN` (a user's server),
`CUADERNO_PROJECT` (not in a person's own server), `CUADERNO_USER` (in a person's own server), and
for links that a browser follows `CUADERNO_PUBLIC_URL` and `CUADERNO_PUBLIC_TRACKING_URL`.

What is removed is removed for order, not for protection: a kernel runs under the same OS account
as its server and could read that server's environment. But what stands in a kernel's environment
ends up in outputs (`%env`), in crash reports and in the environment of everything it starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Borne by a kernel and all it starts; the value is the kernel's id and the number of its start.
KERNEL_MARK = "CUADERNO_KERNEL_MARK"

# Ours that a kernel keeps, beside every mark (`…_MARK`), by which processes are found and ended.
# Any other `CUADERNO_…` is a setting of the platform, which may hold the password of a database.
KEPT_CUADERNO = frozenset(
    {
        "CUADERNO_URL",
        "CUADERNO_PUBLIC_URL",
        "CUADERNO_PUBLIC_TRACKING_URL",
        "CUADERNO_TOKEN",
        "CUADERNO_PROJECT",
        "CUADERNO_USER",
        "CUADERNO_RUN",
        "CUADERNO_STARTED_BY",  # who started a kernel of a shared server
        "CUADERNO_PLATFORM",  # a mark too, see hub_config/node
    }
)
# The hub's that a kernel keeps: libraries build links through the proxy from them (Dask's does).
# The rest are the server's OAuth client, its activity reports, its listening address.
KEPT_HUB = frozenset({"JUPYTERHUB_USER", "JUPYTERHUB_BASE_URL", "JUPYTERHUB_SERVICE_PREFIX"})
HUB_PREFIXES = ("JUPYTERHUB_", "JPY_API_TOKEN", "JPY_HUB_", "JPY_COOKIE_", "CONFIGPROXY_")
# Of the platform's own environment; with them a kernel would import or install in the wrong place.
PYTHON_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX")


def kernel_environment(
    starter: Mapping[str, str], *, python: Path | None, platform_prefix: Path
) -> dict[str, str]:
    """The environment of a kernel that runs `python`, started by a process that has `starter`.

    `python` is None for a kernel whose command names no interpreter by its full path.
    """
    environment = {
        name: value
        for name, value in starter.items()
        if not _belongs_to_the_platform(name) and name not in PYTHON_VARIABLES
    }
    environment.update(_own_python(environment.get("PATH", os.defpath), python, platform_prefix))
    # Two variables, since container runtimes read the second: no GPU at all, not "the first one".
    environment.update(CUDA_VISIBLE_DEVICES="", NVIDIA_VISIBLE_DEVICES="void")
    environment.update(_tracking(starter))
    # As data that the front end draws: Lab, Voila and the HTML of a run each bring plotly.js once,
    # where the other renderers put a copy of it, or a link to a CDN, into the notebook.
    environment.setdefault("PLOTLY_RENDERER", "plotly_mimetype")
    return environment


def _belongs_to_the_platform(name: str) -> bool:
    if name.startswith("CUADERNO_"):
        return name not in KEPT_CUADERNO and not name.endswith("_MARK")
    return name.startswith(HUB_PREFIXES) and name not in KEPT_HUB


def _own_python(path: str, python: Path | None, platform_prefix: Path) -> dict[str, str]:
    """`PATH` and `VIRTUAL_ENV`, so that `!python` and `!pip` in a notebook are the kernel's own."""
    folders = [f for f in path.split(os.pathsep) if f and Path(f) != platform_prefix / "bin"]
    if python is None:
        return {"PATH": os.pathsep.join(folders)}
    own = str(python.parent)
    result = {"PATH": os.pathsep.join([own, *(f for f in folders if f != own)])}
    if (python.parent.parent / "pyvenv.cfg").is_file():
        result["VIRTUAL_ENV"] = str(python.parent.parent)
    return result


def _tracking(starter: Mapping[str, str]) -> dict[str, str]:
    """What MLflow needs to log with no configuration, as the principal that the kernel acts for.

    Logging is asynchronous, so that a slow server does not slow training, and never buffered:
    `MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS` loses the last batches of a notebook that does not call
    `end_run()`. Unbuffered, each call is handed to a pool of threads at once, which Python joins
    at exit; `CuadernoProvisioner.get_shutdown_wait_time` leaves the kernel time for that.
    """
    url = starter.get("CUADERNO_URL", "").rstrip("/")
    if not url:
        return {}
    variables = {
        "MLFLOW_TRACKING_URI": f"{url}/services/mlflow",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    if token := starter.get("CUADERNO_TOKEN") or starter.get("JUPYTERHUB_API_TOKEN"):
        variables.update(CUADERNO_TOKEN=token, MLFLOW_TRACKING_TOKEN=token)
    if project := starter.get("CUADERNO_PROJECT"):
        variables["MLFLOW_EXPERIMENT_NAME"] = project
    elif user := starter.get("CUADERNO_USER"):
        variables["MLFLOW_EXPERIMENT_NAME"] = f"~{user}"
    return variables
