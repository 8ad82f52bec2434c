"""Stock commands beside ours, and the platform itself: started and ended for a measure."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from hub_config.node.processes import end_marked, marked, proportional_bytes
from tests.platform import Platform, free_port

BIN = Path(sys.executable).parent
MARK = "CUADERNO_BENCHMARK"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cub-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def platform(room: Path) -> Iterator[Platform]:
    """A platform on `room`, not started yet; ended afterwards."""
    made = Platform(room / "data", {"CUADERNO_DEMO_FIRST_RUN": "false"}, free_port())
    made.data_dir.mkdir(exist_ok=True)
    try:
        yield made
    finally:
        made.close()


def memory(mark: str, value: str) -> float:
    """PSS of all processes that bear a mark, MiB."""
    return sum(proportional_bytes(p.pid) for p in marked(mark, value)) / 2**20


@contextlib.contextmanager
def stock_services(room: Path) -> Iterator[float]:
    """A platform's parts, started side by side by hand; yields the seconds until all answer."""
    room.mkdir(exist_ok=True)
    hub, proxy_api, hub_api, mlflow, voila, scheduler, board = (free_port() for _ in range(7))
    environ = {**os.environ, MARK: str(room), "PATH": f"{BIN}:{os.environ['PATH']}"}
    proxy = Path(__file__).parents[1] / "node_modules" / ".bin" / "configurable-http-proxy"
    (room / "hub.py").write_text(
        f"c.ConfigurableHTTPProxy.command = [{str(proxy)!r}]\n"
        f"c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{proxy_api}'\n"
        f"c.JupyterHub.bind_url = 'http://127.0.0.1:{hub}'\n"
        f"c.JupyterHub.hub_bind_url = 'http://127.0.0.1:{hub_api}'\n"
        "c.JupyterHub.authenticator_class = 'dummy'\nc.DummyAuthenticator.allow_all = True\n"
        "c.JupyterHub.spawner_class = 'simple'\n"
    )
    (room / "boards").mkdir(exist_ok=True)
    store = f"sqlite:///{room}/mlflow.db"
    commands = [
        [BIN / "jupyterhub", "-f", room / "hub.py"],
        [BIN / "mlflow", "server", "--port", mlflow, "--backend-store-uri", store],
        [BIN / "voila", "--no-browser", f"--port={voila}", room / "boards"],
        [BIN / "dask", "scheduler", "--host=127.0.0.1", f"--port={scheduler}",
         f"--dashboard-address=127.0.0.1:{board}"],
        [BIN / "dask", "worker", f"tcp://127.0.0.1:{scheduler}", "--nthreads=2", "--no-dashboard"],
    ]  # fmt: skip
    begun = time.monotonic()
    started = []
    with (room / "log").open("ab") as log:
        for argv in commands:
            started.append(
                subprocess.Popen(
                    [str(word) for word in argv], env=environ, cwd=room, stdout=log, stderr=log
                )
            )
    try:
        for url in (
            f"http://127.0.0.1:{hub}/hub/health",
            f"http://127.0.0.1:{mlflow}/health",
            f"http://127.0.0.1:{voila}/",
            f"http://127.0.0.1:{board}/health",
        ):
            _wait(url, room / "log")
        yield time.monotonic() - begun
    finally:
        end_marked(MARK, str(room), grace=3)
        for process in started:
            process.wait()


def _wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).status_code < 400:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} did not answer:\n{log.read_text()[-2000:]}")
