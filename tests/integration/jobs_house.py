"""Jobs without the rest: `jobs`, `scheduler` and `worker-1` on a data folder of their own.

No hub, no web: runs are submitted to `jobs` as `web` would, and a stand-in for the proxy is absent,
which is what a run meets when tracking is away.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import Engine, insert

from hub_config import keys
from hub_config.identity import Signer
from hub_config.jobs.certificates import ensure_certificates
from hub_config.jobs.model import Run, file_key
from hub_config.jobs.store import RunStore
from hub_config.node.processes import PLATFORM_MARK, RUN_MARK, end_marked, marked
from hub_config.settings import Settings, load_settings
from hub_config.storage.database import migrate, open_database, write
from hub_config.storage.files import FileStore
from hub_config.storage.repository import project_repository
from hub_config.storage.schema import projects

COMMANDS = {
    "scheduler": ["hub_config.jobs.scheduler"],
    "worker-1": ["hub_config.jobs.worker", "1"],
    "jobs": ["hub_config.jobs"],
}


def free_ports(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in held]
    for one in held:
        one.close()
    return ports


def notebook(*sources: str, parameters: str | None = None) -> bytes:
    def cell(source: str, *tags: str) -> dict[str, Any]:
        return {
            "cell_type": "code",
            "id": f"c{abs(hash((source, tags))) % 10**8}",
            "execution_count": None,
            "metadata": {"tags": list(tags)} if tags else {},
            "outputs": [],
            "source": source,
        }

    cells = [cell(parameters, "parameters")] if parameters is not None else []
    cells += [cell(source) for source in sources]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    shape = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
    return json.dumps(shape).encode()


class JobsHouse:
    """A data folder with the project `demo`, and the processes that run its notebooks."""

    def __init__(self) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix="cj-"))
        names = ("proxy_api", "hub", "web", "jobs", "tracking", "dashboards")
        ports = free_ports(9)
        self.addresses = dict(zip((*names, "scheduler", "scheduler_http"), ports, strict=False))
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CUADERNO", "JUPYTER"))},
            "CUADERNO_DATA_DIR": str(self.data_dir),
            "CUADERNO_PORT": str(ports[8]),
            "CUADERNO_JOBS_HEARTBEAT_SECONDS": "0.5",
            "CUADERNO_JOBS_LOST_AFTER_SECONDS": "6",
            "CUADERNO_JOBS_CANCEL_GRACE_SECONDS": "5",
            PLATFORM_MARK: str(self.data_dir),
        }
        self.settings: Settings = load_settings(self.environ)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        keys.ensure_all(self.settings)
        ensure_certificates(self.settings)
        for folder in (self.settings.run_dir, self.settings.logs_dir, self.settings.runtime_dir):
            folder.mkdir(parents=True, exist_ok=True)
        (self.settings.run_dir / "addresses.json").write_text(json.dumps(self.addresses))
        migrate(self.settings.database_url)
        self.engine: Engine = open_database(self.settings.database_url)
        with write(self.engine) as connection:
            row = {"name": "demo", "title": "Demo", "created_at": time.time(), "created_by": "ana"}
            connection.execute(insert(projects).values(row))
        self.repository = project_repository(self.settings.projects_dir, "demo")
        self.repository.create()
        self._kernelspec()
        self.store = RunStore(self.engine)
        self.files = FileStore(self.settings.artifacts_url)
        self.signer = Signer(keys.secret(self.settings, "platform-key"))
        self.url = f"http://127.0.0.1:{self.addresses['jobs']}"

    def _kernelspec(self) -> None:
        folder = self.settings.jupyter_dir / "kernels"
        folder.mkdir(parents=True)
        from cuaderno import specs

        specs.write(folder, self.settings.kernel_python)

    # Processes ------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        for name in names or COMMANDS:
            with (self.settings.logs_dir / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", *COMMANDS[name]],
                    env=self.environ,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def wait_ready(self) -> None:
        self.wait(lambda: self.health().get("slots", 0) > 0, "slots", 40)

    def kill(self, name: str) -> None:
        process = self.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        end_marked(PLATFORM_MARK, str(self.data_dir), grace=3)
        for process in self.processes.values():
            process.wait()
        self.engine.dispose()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    # Runs -----------------------------------------------------------------------------------------

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.signer.service_token('web')}"}

    def health(self) -> dict[str, int]:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).json()
        except httpx.HTTPError:
            return {}

    def submit(self, *cells: str, parameters: str | None = None, **given: Any) -> Run:
        name = f"n{time.monotonic_ns()}.ipynb"
        (self.repository.path / name).write_bytes(notebook(*cells, parameters=parameters))
        commit = self.repository.commit([name], f"Add {name}")
        body = {
            "project": "demo",
            "notebook": name,
            "commit": commit,
            "parameters": given,
            "submitted_by": "ana",
            "origin": "api",
        }
        answer = httpx.post(f"{self.url}/runs", json=body, headers=self.headers(), timeout=20)
        assert answer.status_code == 201, answer.text
        return self.store.get(answer.json()["id"])

    def cancel(self, run: Run) -> None:
        url = f"{self.url}/runs/{run.id}/cancel"
        answer = httpx.post(url, json={"by": "ben"}, headers=self.headers(), timeout=20)
        assert answer.status_code == 200, answer.text

    def ended(self, run: Run, seconds: float = 60) -> Run:
        self.wait(lambda: self.store.get(run.id).state.ended, f"end of {run.id}", seconds)
        return self.store.get(run.id)

    def running(self, run: Run, text: str, seconds: float = 40) -> int:
        """Wait until the run's log holds `text`; the runner's pid."""
        self.wait(lambda: text in self.log(run), f"{text!r} in the log of {run.id}", seconds)
        [attempt] = [a for a in self.store.running() if a.run.id == run.id]
        assert attempt.pid
        return attempt.pid

    def log(self, run: Run) -> str:
        return "".join(text for _, _, text in self.store.log_after(run.id))

    def file(self, run: Run, name: str) -> str:
        return self.files.read(file_key(run.id, name)).decode()

    def left_of(self, run: Run) -> list[str]:
        """Processes that still bear the mark of the run's last attempt."""
        attempt = self.store.get(run.id).attempt
        left = []
        for process in marked(RUN_MARK, f"{run.id}.{attempt}"):
            with suppress(psutil.NoSuchProcess):  # gone meanwhile, or a zombie
                left.append(" ".join(process.cmdline()))
        return left

    def wait(self, condition: Any, what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(f"{what} did not come in {seconds} s\n{self.logs()}")

    def logs(self) -> str:
        parts = []
        for path in sorted(self.settings.logs_dir.glob("*.log")):
            parts.append(f"--- {path.name}\n{path.read_text()[-3000:]}")
        for path in sorted((self.data_dir / "jobs").glob("*/*/*.log")):
            parts.append(f"--- {path.name}\n{path.read_text()[-3000:]}")
        return "\n".join(parts)
