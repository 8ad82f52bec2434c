"""What MLflow asks us, wherever `cuaderno-kernels` is installed: who started the kernel.

MLflow loads this as one of its run context providers (an entry point), which costs nothing where
MLflow is not imported. The tag `cuaderno.started_by` says who started the kernel in which a run
was made. Tracking takes it from a project's shared server only, whose token names no person; it
is a note for readers, and nothing is permitted by it.

Being made once, when MLflow is imported, the provider also has MLflow's asynchronous logging
emptied before Python takes its threads away. Python joins the pools of `concurrent.futures` before
it runs `atexit` hooks, and MLflow's own hook, which sends what waits, is one of these: a script or
notebook that ends right after `log_metric` without `end_run()` lost 1 to 5 of its last 50 metrics
(MLflow 3.17, seen 8 of 8 times). Hooks of `threading` run last-registered first, so ours,
registered after that of `concurrent.futures`, comes while the threads still work. There is no
public name for this; without it nothing is worse than MLflow alone.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 (its own hook must be registered before ours)
import os
import sys
import threading


class KernelContext:
    """A run context provider: who started this kernel."""

    def __init__(self) -> None:
        register = getattr(threading, "_register_atexit", None)
        if register:
            register(flush)

    def in_context(self) -> bool:
        return bool(os.environ.get("CUADERNO_STARTED_BY"))

    def tags(self) -> dict[str, str]:
        return {"cuaderno.started_by": os.environ["CUADERNO_STARTED_BY"]}


def flush() -> None:
    """Send what MLflow still holds; at the end of a process, so it never raises."""
    fluent = sys.modules.get("mlflow.tracking.fluent")
    try:
        if fluent is not None:
            fluent._shut_down_async_logging()
    except Exception as error:
        print(f"cuaderno: the last metrics may be lost: {error}", file=sys.stderr)
