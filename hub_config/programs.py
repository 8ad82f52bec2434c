"""The platform's processes: what each is called, how it is started, how it is known to be ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from hub_config.node.processes import PLATFORM_MARK
from hub_config.settings import Addresses, Settings

Check = Callable[[httpx.AsyncClient], Awaitable[bool]]

# What a child may inherit of our own environment. The rest (tokens of the person who typed
# `cuaderno up`, settings already resolved into run/settings.toml) is none of its business.
INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "SHELL",
)
INHERITED_PREFIXES = ("SSL_", "AWS_", "FSSPEC_", "GOOGLE_", "AZURE_")


@dataclass(frozen=True)
class Program:
    """One process of the platform."""

    name: str
    argv: list[str]
    address: str
    check: Check
    env: dict[str, str] = field(default_factory=dict)
    # A process that was running and whose check fails for so long is ended and started again.
    patience_seconds: float = 60.0


def programs(
    settings: Settings, addresses: Addresses, proxy: tuple[list[str], dict[str, str]]
) -> list[Program]:
    """All processes of a platform; `proxy` is the proxy's command and its secret environment."""
    base = environment(settings)
    public = settings.local_url

    def service(name: str, address: str, health: str) -> Program:
        argv = [sys.executable, "-m", f"hub_config.{name}"]
        return Program(name, argv, address, answers(address + health), base)

    argv, extra = proxy
    hub_config_file = Path(__file__).parent.parent / "jupyterhub_config.py"
    result = [
        Program("proxy", argv, public, answers(public + "/_chp_healthz"), {**base, **extra}),
        Program(
            "hub",
            [sys.executable, "-m", "jupyterhub", "-f", str(hub_config_file)],
            addresses.url("hub"),
            answers(addresses.url("hub") + "/hub/health"),
            base,
        ),
        service("web", addresses.url("web"), "/services/cuaderno/api/health"),
        service("jobs", addresses.url("jobs"), "/health"),
        service("tracking", addresses.url("tracking"), "/services/mlflow/health"),
        service("dashboards", addresses.url("dashboards"), "/services/dashboards/health"),
    ]
    if not settings.dask.scheduler_address:
        listing = f"{addresses.url('scheduler_http')}/workers"
        result.append(
            Program(
                "scheduler",
                [sys.executable, "-m", "hub_config.jobs.scheduler"],
                f"tls://127.0.0.1:{addresses.scheduler}",
                answers(listing),
                base,
            )
        )
        result += [
            Program(
                f"worker-{n}",
                [sys.executable, "-m", "hub_config.jobs.worker", str(n)],
                "",
                registered(listing, f"worker-{n}"),
                base,
                # Its pid is no sign of health: a worker may live that no scheduler knows.
                patience_seconds=6.0,
            )
            for n in range(settings.dask.workers)
        ]
    return result


def environment(settings: Settings) -> dict[str, str]:
    """What every process of this platform finds in its environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }
    # Programs of the platform's own environment come first, wherever `cuaderno` was called from.
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept | {
        "CUADERNO_DATA_DIR": str(settings.data_dir),
        "CUADERNO_CONFIG": str(settings.run_dir / "settings.toml"),
        "PYTHONUNBUFFERED": "1",
        PLATFORM_MARK: str(settings.data_dir),
    }


# Checks -------------------------------------------------------------------------------------------


def answers(url: str) -> Check:
    """Whether `url` answers with a success."""

    async def check(client: httpx.AsyncClient) -> bool:
        return (await client.get(url)).is_success

    return check


def registered(url: str, worker: str) -> Check:
    """Whether the scheduler counts a worker of this name among its own."""

    async def check(client: httpx.AsyncClient) -> bool:
        answer = await client.get(url)
        return answer.is_success and worker in answer.json()["workers"]

    return check
