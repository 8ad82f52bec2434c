"""What a notebook imports to reach its platform. Importing it loads nothing heavy.

    import cuaderno

    cuaderno.use_template()           # plotly figures in the platform's hand
    cuaderno.runs(limit=20)           # the project's runs, newest first
    cuaderno.logged_runs()            # what they logged to MLflow, as a pandas DataFrame

Logging needs nothing of this: MLflow is configured in every kernel by its environment.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuaderno.client import Platform, PlatformError, run_url, runs
    from cuaderno.template import PALETTE, STATE_COLOURS, use_template
    from cuaderno.tracked import logged_run_url, logged_runs

_HOMES = {
    "Platform": "client",
    "PlatformError": "client",
    "run_url": "client",
    "runs": "client",
    "PALETTE": "template",
    "STATE_COLOURS": "template",
    "use_template": "template",
    "logged_run_url": "tracked",
    "logged_runs": "tracked",
}

__all__ = [
    "PALETTE",
    "STATE_COLOURS",
    "Platform",
    "PlatformError",
    "logged_run_url",
    "logged_runs",
    "run_url",
    "runs",
    "use_template",
]


def __getattr__(name: str) -> Any:
    # The provisioner's package lies below this one, and every server imports that.
    if name in _HOMES:
        return getattr(importlib.import_module(f"cuaderno.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cuaderno' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
