"""`temp_hub()`: a real proxy and a real hub on free ports, with a data folder of their own.

    async with temp_hub() as hub:
        await hub.add_account("ana")
        token = await hub.user_token("ana")
        browser = await hub.sign_in("ana")            # an httpx.AsyncClient with the hub's cookies
        await hub.api("POST", "/groups/demo", service="cuaderno")

Services of ours are not started: a test that needs one starts it on `hub.addresses` with
`hub.environment`, by `await hub.start("tracking", argv, health_url)`. All processes bear the
platform's mark and are ended with the context.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine

from hub_config import keys
from hub_config.accounts import store
from hub_config.accounts.model import State
from hub_config.accounts.passwords import hash_password
from hub_config.identity import project_account
from hub_config.node.processes import PLATFORM_MARK, end_marked
from hub_config.settings import Addresses, Settings, load_settings
from hub_config.spawning.proxy import proxy_command
from hub_config.spawning.server_config import write_server_config
from hub_config.storage.database import migrate, open_database

ROOT = Path(__file__).parent.parent
PASSWORD = "a-long-enough-Secret-7"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


async def until(condition: Any, *, seconds: float = 30, what: str = "the condition") -> Any:
    """Poll `condition` (sync or async) until it gives something true; that thing."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"{what} did not come true within {seconds} s")
        await asyncio.sleep(0.1)


async def answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            return (await client.get(url)).status_code < 400
    except httpx.HTTPError:
        return False


@dataclass
class TempHub:
    settings: Settings
    addresses: Addresses
    engine: Engine
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.settings.local_url

    def log(self, name: str) -> str:
        return (self.settings.logs_dir / f"{name}.log").read_text(errors="replace")

    async def start(self, name: str, argv: list[str], health: str, **env: str) -> None:
        """Start a process of the platform and wait until `health` answers."""
        with (self.settings.logs_dir / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv,
                env=self.environment | env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        async def ready() -> bool:
            if self.processes[name].poll() is not None:
                raise RuntimeError(f"{name} ended:\n{self.log(name)[-4000:]}")
            return await answers(health)

        await until(ready, seconds=60, what=f"{name} at {health}")

    async def start_proxy(self) -> None:
        argv, secret_env = proxy_command(self.settings, self.addresses)
        await self.start("proxy", argv, f"{self.url}/_chp_healthz", **secret_env)

    async def start_hub(self) -> None:
        argv = [sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "jupyterhub_config.py")]
        await self.start("hub", argv, self.addresses.url("hub") + "/hub/health")

    async def kill(self, name: str) -> None:
        self.processes[name].kill()
        await asyncio.to_thread(self.processes[name].wait)

    async def api(
        self, method: str, path: str, *, service: str = "cuaderno", token: str = "", **kw: Any
    ) -> httpx.Response:
        """Ask the hub's API as a service of ours, or with `token`."""
        token = token or keys.secret(self.settings, f"service-{service}")
        headers = {"Authorization": f"token {token}"}
        async with httpx.AsyncClient(timeout=60, headers=headers) as client:
            return await client.request(method, f"{self.url}/hub/api{path}", **kw)

    async def add_account(self, name: str, *, admin: bool = False) -> None:
        """An active account with the password `PASSWORD`, known to the hub too."""
        await asyncio.to_thread(
            store.add,
            self.engine,
            name,
            hash_password(PASSWORD),
            state=State.ACTIVE,
            admin=admin,
            by="test",
        )
        (await self.api("POST", f"/users/{name}", service="operator")).raise_for_status()

    async def user_token(self, name: str, **body: Any) -> str:
        """A token of the hub for `name`; with no `scopes`, all that the person may do."""
        answer = await self.api("POST", f"/users/{name}/tokens", service="operator", json=body)
        answer.raise_for_status()
        return answer.json()["token"]

    async def sign_in(self, name: str, password: str = PASSWORD) -> httpx.AsyncClient:
        """A browser's session at the hub; look at `client.cookies` or follow pages with it."""
        client = httpx.AsyncClient(base_url=self.url, follow_redirects=False, timeout=60)
        answer = await self.post_login(client, name, password)
        if answer.status_code != 302:
            raise AssertionError(f"{name} was not signed in: {answer.status_code}")
        return client

    async def post_login(
        self, client: httpx.AsyncClient, name: str, password: str
    ) -> httpx.Response:
        page = await client.get("/hub/login", headers={"Sec-Fetch-Mode": "navigate"})
        found = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert found, page.text[:500]
        form = {"username": name, "password": password, "_xsrf": found[1]}
        return await client.post("/hub/login", data=form, headers={"Sec-Fetch-Mode": "navigate"})

    async def make_project(self, name: str, *, entrants: tuple[str, ...] = ()) -> str:
        """A project's hub account with its repository, shared with `entrants`."""
        account = project_account(name)
        (self.settings.projects_dir / name / "repo").mkdir(parents=True, exist_ok=True)
        for path, body in (
            (f"/users/{account}", None),
            ("/groups/project-accounts/users", {"users": [account]}),
            *((f"/shares/{account}/", {"user": person}) for person in entrants),
        ):
            (await self.api("POST", path, json=body)).raise_for_status()
        return account


@contextlib.asynccontextmanager
async def temp_hub(**overrides: Any) -> AsyncIterator[TempHub]:
    """A proxy and a hub of their own; `overrides` name settings as the environment does."""
    # Not pytest's folder: its paths are too long for the kernels' sockets.
    folder = Path(tempfile.mkdtemp(prefix="cu-hub-"))
    public, *ports = free_ports(9)
    public = overrides.pop("port", public)
    environment = {
        name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ
    } | {
        "CUADERNO_DATA_DIR": str(folder),
        "CUADERNO_PORT": str(public),
        PLATFORM_MARK: str(folder),
        "PYTHONUNBUFFERED": "1",
    }
    extra = {f"CUADERNO_{name.upper()}": str(value) for name, value in overrides.items()}
    environment |= extra
    settings = replace(load_settings(environment), data_dir=folder, port=public)
    addresses = Addresses(*ports)
    for path in (settings.run_dir, settings.logs_dir, settings.runtime_dir):
        path.mkdir(parents=True, exist_ok=True)
    (settings.run_dir / "addresses.json").write_text(json.dumps(asdict(addresses)))
    await asyncio.to_thread(keys.ensure_all, settings)
    await asyncio.to_thread(migrate, settings.database_url)
    write_server_config(settings)
    write_kernelspec(settings)
    hub = TempHub(settings, addresses, open_database(settings.database_url), environment)
    try:
        await hub.start_proxy()
        await hub.start_hub()
        yield hub
    finally:
        await asyncio.to_thread(end_marked, PLATFORM_MARK, str(folder), grace=5)
        for process in hub.processes.values():
            await asyncio.to_thread(process.wait)
        hub.engine.dispose()
        shutil.rmtree(folder, ignore_errors=True)
        if not settings.runtime_dir.is_relative_to(folder):
            shutil.rmtree(settings.runtime_dir, ignore_errors=True)


def write_kernelspec(settings: Settings) -> None:
    import cuaderno.specs

    cuaderno.specs.write(settings.jupyter_dir / "kernels", settings.kernel_python)
