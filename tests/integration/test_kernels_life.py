"""Real kernels through our provisioner: their environment, their rank in memory, their end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cuaderno import specs
from cuaderno.provisioning import CuadernoProvisioner
from cuaderno.provisioning.environment import KERNEL_MARK
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

KERNEL_PYTHON = Path(sys.prefix).parent / ".venv-kernel" / "bin" / "python"
# A child that leaves its session and its parent, as a careless data loader would.
ESCAPE = """
import subprocess
shell = "setsid sleep 987 >/dev/null 2>&1 & echo $!"
print(int(subprocess.run(["sh", "-c", shell], stdout=subprocess.PIPE).stdout))
"""
# A child of the kernel that left its session and forgot its environment.
FORGET = """
import subprocess
print(subprocess.Popen(["setsid", "env", "-i", "sleep", "987"]).pid)
"""


@pytest.fixture
def kernels_dir(tmp_path: Path) -> Path:
    specs.write(tmp_path / "kernels", KERNEL_PYTHON)
    return tmp_path / "kernels"


@asynccontextmanager
async def running(kernels_dir: Path, **env: str) -> AsyncIterator[tuple[Any, Any]]:
    """A kernel manager and a client of a started kernel, with `env` in its starter's."""
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels_dir)]),
    )
    await manager.start_kernel(env={**os.environ, **env})
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        if manager.has_kernel:
            await manager.shutdown_kernel(now=True)


async def printed(client: Any, code: str) -> str:
    """What `code` writes to its standard output in the kernel."""
    parts: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            parts.append(message["content"]["text"])

    reply = await client.execute_interactive(
        textwrap.dedent(code), output_hook=collect, timeout=60, store_history=False
    )
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(parts)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def escaped() -> Any:
    """Pids that a test expects to end; those left over end with it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


async def test_environment_and_memory_rank(kernels_dir: Path, tmp_path: Path) -> None:
    starter = {
        "CUADERNO_URL": "http://127.0.0.1:26001/",
        "CUADERNO_USER": "ada",
        "JUPYTERHUB_API_TOKEN": "the-token",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ada",
        "CUADERNO_DATABASE_URL": "postgresql://u:secret@h/d",
        "PYTHONPATH": str(tmp_path),
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    async with running(kernels_dir, **starter) as (manager, client):
        assert isinstance(manager.provisioner, CuadernoProvisioner)
        text = await printed(
            client,
            """
            import json, os, subprocess, sys, threading
            shell = lambda line: subprocess.run(line, shell=True, capture_output=True, text=True)
            print(json.dumps({
                "environment": dict(os.environ),
                "executable": sys.executable,
                "path": sys.path,
                "python": shell("python -c 'import sys; print(sys.prefix)'").stdout.strip(),
                "pip": shell("pip --version").stdout,
                "score": int(open("/proc/self/oom_score_adj").read()),
            }))
            """,
        )
    seen = json.loads(text)
    environment = seen["environment"]
    assert seen["executable"] == str(KERNEL_PYTHON)
    assert seen["python"] == str(KERNEL_PYTHON.parent.parent)
    assert str(KERNEL_PYTHON.parent.parent) in seen["pip"]
    assert str(tmp_path) not in seen["path"]
    assert seen["score"] >= 500
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:26001/services/mlflow"
    assert environment["MLFLOW_TRACKING_TOKEN"] == environment["CUADERNO_TOKEN"] == "the-token"
    assert environment["MLFLOW_EXPERIMENT_NAME"] == "~ada"
    assert "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS" not in environment
    for name in ("CUADERNO_DATABASE_URL", "JUPYTERHUB_CLIENT_ID", "JUPYTERHUB_API_TOKEN"):
        assert name not in environment


@pytest.mark.parametrize("code", [ESCAPE, FORGET], ids=["orphan", "without the mark"])
async def test_what_left_the_session_ends_with_the_kernel(
    kernels_dir: Path, escaped: list[int], code: str
) -> None:
    async with running(kernels_dir) as (manager, client):
        pid = int(await printed(client, code))
        escaped.append(pid)
        assert wait_until(lambda: os.getsid(pid) == pid)  # it did leave the kernel's session
        await manager.shutdown_kernel()
        assert not lives(pid)
        assert not lives(manager.provisioner.pid)
        await manager.provisioner.cleanup(restart=False)  # as papermill does: twice


async def test_restart_ends_the_first_kernels_children(
    kernels_dir: Path, escaped: list[int]
) -> None:
    async with running(kernels_dir) as (manager, client):
        first = int(await printed(client, ESCAPE))
        escaped.append(first)
        await manager.restart_kernel()
        await client.wait_for_ready(timeout=60)
        assert not lives(first)
        second = int(await printed(client, ESCAPE))
        escaped.append(second)
        assert lives(second)
    assert not lives(second)


async def test_kill_9_of_the_kernel_ends_its_children(
    kernels_dir: Path, escaped: list[int]
) -> None:
    async with running(kernels_dir) as (manager, client):
        pid = int(await printed(client, ESCAPE))
        escaped.append(pid)
        kernel = manager.provisioner.pid
        os.kill(kernel, signal.SIGKILL)
        assert wait_until(lambda: not lives(kernel))
        await manager.shutdown_kernel(now=True)
        assert not lives(pid)


async def test_a_failed_launch_leaves_nothing(
    kernels_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def too_late(pid: int, score: int) -> None:
        started.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr("cuaderno.provisioning.provisioner.raise_oom_score", too_late)
    with pytest.raises(KeyboardInterrupt):
        async with running(kernels_dir):
            pass
    assert started
    assert wait_until(lambda: not lives(started[0]))


def test_a_kernel_ends_when_its_server_is_killed(kernels_dir: Path) -> None:
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\n"
            "from jupyter_client.kernelspec import KernelSpecManager\n"
            "from jupyter_client.manager import KernelManager\n"
            "m = KernelManager(kernel_name='python3',"
            " kernel_spec_manager=KernelSpecManager(kernel_dirs=[sys.argv[1]]))\n"
            "m.start_kernel()\n"
            "c = m.client(); c.start_channels(); c.wait_for_ready(timeout=60)\n"
            "print(m.provisioner.pid, flush=True)\n"
            "time.sleep(600)",
            str(kernels_dir),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    kernel = int(server.stdout.readline())
    assert KERNEL_MARK.encode() in Path(f"/proc/{kernel}/environ").read_bytes()
    server.kill()
    server.wait()
    try:
        assert wait_until(lambda: not lives(kernel), seconds=15)
    finally:
        with contextlib.suppress(OSError):
            os.kill(kernel, signal.SIGKILL)
