"""A real platform for tests: `cuaderno up` on a data folder and a port of its own.

    async with temp_platform() as platform:
        ana = platform.person("ana")
        platform.operator.get("me")

`Person` is someone with an account, signed in like a browser (cookies, XSRF) and holding a token.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from hub_config.node.processes import PLATFORM_MARK, end_marked, marked

ROOT = Path(__file__).parents[1]
CUADERNO = Path(sys.executable).parent / "cuaderno"
PASSWORD = "correct horse battery 9"
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, check: Callable[[], T], seconds: float = 60, every: float = 0.1) -> T:
    """Poll `check` until it is true and return what it gave; fail with `what` after `seconds`."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            last = check()
            if last:
                return last
        except (httpx.HTTPError, AssertionError, KeyError, ValueError) as error:
            last = error  # type: ignore[assignment]
        time.sleep(every)
    raise AssertionError(f"{what} did not come within {seconds:.0f} s; last seen: {last!r}")


class Person:
    """Somebody with an account: `browser` is signed in by cookie, `api` carries a token."""

    def __init__(self, platform: Platform, name: str, password: str) -> None:
        self.name, self.password, self._platform = name, password, platform
        self.browser = platform.sign_in(name, password)
        self.token = platform.cuaderno("token", name).stdout.strip()
        self.api = platform.client(self.token)


class Platform:
    """One `cuaderno up` and the ways to speak to it."""

    def __init__(self, data_dir: Path, environ: dict[str, str], port: int) -> None:
        self.data_dir, self.port = data_dir, port
        self.url = f"http://127.0.0.1:{port}"
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CUADERNO", "JUPYTER"))},
            "CUADERNO_DATA_DIR": str(data_dir),
            **environ,
        }
        self.output = data_dir.with_name(data_dir.name + ".out")
        self.process: subprocess.Popen[bytes] | None = None

    # Life -----------------------------------------------------------------------------------------

    def start(self, seconds: float = 180) -> None:
        with self.output.open("ab") as out:
            start = self.output.stat().st_size
            self.process = subprocess.Popen(
                [str(CUADERNO), "up", "--port", str(self.port)],
                env=self.environ,
                cwd=self.data_dir.parent,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while b"Cuaderno is ready" not in self.output.read_bytes()[start:]:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"The platform did not start:\n{self.diagnosis()}")
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> float:
        """End it by a signal to `cuaderno up`; the seconds it took."""
        assert self.process
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(seconds)
        return time.monotonic() - begun

    def left(self) -> list[psutil.Process]:
        """Living processes that bear this platform's mark."""
        found = []
        for process in marked(PLATFORM_MARK, str(self.data_dir)):
            try:
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                pass
        return found

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        end_marked(PLATFORM_MARK, str(self.data_dir), grace=1)

    def diagnosis(self) -> str:
        parts = [self.output.read_text(errors="replace")[-3000:]]
        for log in sorted((self.data_dir / "logs").glob("*.log")):
            parts.append(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}")
        return "\n".join(parts)

    def pid(self, name: str) -> int:
        """The process id of one of the platform's processes, once it runs."""

        def look() -> int:
            rows = json.loads((self.data_dir / "run" / "processes.json").read_text())
            row = next(r for r in rows if r["name"] == name)
            return row["pid"] if row["state"] == "running" and row["pid"] else 0

        return wait_for(f"process {name}", look, 60)

    # Speaking -------------------------------------------------------------------------------------

    def client(self, token: str | None = None) -> httpx.Client:
        """A client of the REST API; `client.get("runs")`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            base_url=f"{self.url}/services/cuaderno/api/", headers=headers, timeout=60
        )

    @property
    def operator(self) -> httpx.Client:
        token = (self.data_dir / "secrets" / "service-operator").read_text().strip()
        return self.client(token)

    def cuaderno(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line against this platform's data folder."""
        done = subprocess.run(
            [str(CUADERNO), *argv],
            env=self.environ,
            cwd=self.data_dir.parent,
            capture_output=True,
            text=True,
            timeout=240,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(f"cuaderno {' '.join(argv)}: {done.stdout}\n{done.stderr}")
        return done

    def sign_in(self, name: str, password: str) -> httpx.Client:
        """A browser's session: through the hub's form, into the portal."""
        browser = httpx.Client(base_url=self.url, follow_redirects=True, timeout=60)
        browser.headers["Accept"] = "text/html,*/*"
        page = browser.get("/hub/login")
        xsrf = re.search(r'name="_xsrf"[^>]*value="([^"]+)"', page.text)
        assert xsrf, page.text[:500]
        form = {"username": name, "password": password, "_xsrf": xsrf[1]}
        answer = browser.post("/hub/login", data=form)
        assert answer.status_code == 200, (answer.status_code, answer.text[:500])
        home = browser.get("/services/cuaderno/")
        assert home.status_code == 200, (home.status_code, home.url, home.text[:500])
        return browser

    def first_login(self) -> tuple[str, str]:
        lines = (self.data_dir / "first-login").read_text()
        name = re.search(r"^name: *(\S+)$", lines, re.M)
        password = re.search(r"^password: *(\S+)$", lines, re.M)
        assert name and password
        return name[1], password[1]

    def person(self, name: str, project: str | None = None, role: str = "editor") -> Person:
        """Sign up, be approved, become a member of `project` if one is given, sign in."""
        operator = self.operator
        known = {a["name"] for a in operator.get("accounts").json()["items"]}
        if name not in known:
            asked = self.client().post("accounts/signup", json={"name": name, "password": PASSWORD})
            assert asked.is_success, asked.text
            approved = operator.post(f"accounts/{name}/approve")
            assert approved.is_success, approved.text
        if project:
            added = operator.put(f"projects/{project}/members/{name}", json={"role": role})
            assert added.is_success, added.text
        return Person(self, name, PASSWORD)

    def wait_for_run(self, run: str, *states: str, seconds: float = 120) -> dict[str, Any]:
        wanted = states or ("succeeded", "failed", "cancelled")

        def look() -> dict[str, Any] | None:
            answer = self.operator.get(f"runs/{run}")
            assert answer.is_success, answer.text
            return answer.json() if answer.json()["state"] in wanted else None

        return wait_for(f"run {run} in {wanted}", look, seconds)


@contextmanager
def running_platform(
    data_dir: Path | None = None, *, start: bool = True, **environ: str
) -> Iterator[Platform]:
    """A platform on a fresh folder (or `data_dir`); everything is ended and removed afterwards.

    `environ` are settings, as in `CUADERNO_DEMO_FIRST_RUN="false"`.
    """
    room = Path(tempfile.mkdtemp(prefix="cu-", dir="/tmp"))
    platform = Platform(data_dir or room / "data", environ, free_port())
    platform.data_dir.mkdir(exist_ok=True, parents=True)
    try:
        if start:
            platform.start()
        yield platform
    finally:
        platform.close()
        shutil.rmtree(room, ignore_errors=True)


@asynccontextmanager
async def temp_platform(
    data_dir: Path | None = None, *, start: bool = True, **environ: str
) -> AsyncIterator[Platform]:
    """`running_platform` for asynchronous tests."""
    context = running_platform(data_dir, start=start, **environ)
    made = await asyncio.to_thread(context.__enter__)
    try:
        yield made
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
