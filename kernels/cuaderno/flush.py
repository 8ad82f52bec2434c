"""MLflow's asynchronous logging, emptied before Python takes its threads away.

Python joins the pools of `concurrent.futures` before it runs `atexit` hooks, and MLflow's own hook,
which sends what waits, is one of these: a script or notebook that ends right after `log_metric`
without `end_run()` lost 1 to 5 of its last 50 metrics (MLflow 3.17, seen 8 of 8 times). Hooks of
`threading` run last-registered first, so ours, registered after that of `concurrent.futures`,
comes while the threads still work. There is no public name for this; without it nothing is worse
than MLflow alone.

MLflow loads this as one of its run context providers (an entry point), so it is there wherever
`cuaderno-kernels` is installed, and costs nothing where MLflow is not imported.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 (its own hook must be registered before ours)
import sys
import threading


class FlushAtExit:
    """A run context provider that adds no tag; made once, when MLflow is imported."""

    def __init__(self) -> None:
        register = getattr(threading, "_register_atexit", None)
        if register:
            register(flush)

    def in_context(self) -> bool:
        return False

    def tags(self) -> dict[str, str]:
        return {}


def flush() -> None:
    """Send what MLflow still holds; at the end of a process, so it never raises."""
    fluent = sys.modules.get("mlflow.tracking.fluent")
    try:
        if fluent is not None:
            fluent._shut_down_async_logging()
    except Exception as error:
        print(f"cuaderno: the last metrics may be lost: {error}", file=sys.stderr)
