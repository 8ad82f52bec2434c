"""What scheduler, workers and the dispatcher's client have in common: lean Dask over TLS.

Dask places runs and carries nothing else: no data, no retries, no dashboard. So all that looks
after data is off, and numpy is not loaded (Dask takes it where it can be imported, for 20 MB a
process).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hub_config.jobs.certificates import certificate_paths
from hub_config.settings import Settings, load_addresses

if TYPE_CHECKING:
    from distributed import Security

CONFIGURATION = {
    "distributed.scheduler.allowed-failures": 0,  # a task that kills its worker is not tried again
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.http.routes": ["hub_config.jobs.registry"],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "200ms",
    "distributed.diagnostics.nvml": False,
    "distributed.comm.timeouts.connect": "5s",
}


def prepare() -> None:
    """Configure Dask for this process; call it before the first import of `distributed`."""
    if "numpy" not in sys.modules:
        sys.modules["numpy"] = None  # type: ignore[assignment]
    import dask

    dask.config.set(CONFIGURATION)


def scheduler_address(settings: Settings) -> str:
    """The scheduler that places runs: the one in the settings, else the embedded one."""
    if settings.dask.scheduler_address:
        return settings.dask.scheduler_address
    return f"tls://127.0.0.1:{load_addresses(settings).scheduler}"


def security(settings: Settings) -> Security | None:
    """TLS for the embedded cluster; for another one, what Dask's own configuration says."""
    if settings.dask.scheduler_address:
        return None
    from distributed import Security

    certificate, key = (str(path) for path in certificate_paths(settings))
    return Security(
        require_encryption=True,
        tls_ca_file=certificate,
        **{
            f"tls_{role}_{part}": path
            for role in ("scheduler", "worker", "client")
            for part, path in (("cert", certificate), ("key", key))
        },
    )
