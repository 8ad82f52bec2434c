"""The spawner: servers as processes of this machine, all under the platform's own OS account.

There is no wall between such servers: who runs code in one can read what any other can. That is
why the platform listens on loopback only, unless it is told otherwise. What the spawner does keep
apart: no secret of the platform is in a server's environment, its configuration comes from the
platform and not from its home, and its folders are its own.

A server outlives the hub. It is found again by pid *and* start time: a pid alone may by then belong
to something else, which the hub would end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from jupyterhub.spawner import SimpleLocalProcessSpawner
from traitlets import Float, Instance, default

from hub_config.identity import PROJECT_ACCOUNTS
from hub_config.node.processes import PLATFORM_MARK, end_marked, is_same, start_time
from hub_config.settings import Settings
from hub_config.spawning.places import Places, places

# Set for a server and so for all that it starts; the value is `<data folder>:<account>`.
SERVER_MARK = "CUADERNO_SERVER_MARK"


class PlatformSpawner(SimpleLocalProcessSpawner):
    """Starts the server of a person or a project."""

    settings = Instance(Settings).tag(config=True)
    pid: int
    pid_started = Float(0.0)

    @property
    def places(self) -> Places:
        return places(self.settings, self.user.name)

    @property
    def mark(self) -> str:
        return f"{self.settings.data_dir}:{self.user.name}"

    @default("env_keep")
    def _keep_little(self) -> list[str]:
        return ["LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"]

    @default("cmd")
    def _server_command(self) -> list[str]:
        return [sys.executable, "-m", "jupyterhub.singleuser"]

    @default("args")
    def _server_arguments(self) -> list[str]:
        return ["--allow-root"] if os.geteuid() == 0 else []

    @default("oauth_access_scopes")
    def _who_may_enter(self) -> list[str]:
        """The scopes of which a visitor of this server needs one.

        A server cannot tell which accounts a filter `!group=` covers; so the scope by which `web`
        enters the servers of projects is named to them as it is.
        """
        account = self.user.name
        scopes = [f"access:servers!server={account}/{self.name}", f"access:servers!user={account}"]
        if self.places.project:
            scopes.append(f"access:servers!group={PROJECT_ACCOUNTS}")
        return scopes

    def make_preexec_fn(self, name: str) -> Any:
        return None  # the folder is given to Popen, and nothing else must run after the fork

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        here, settings = self.places, self.settings
        programs = str(Path(sys.executable).parent)
        env |= {
            "USER": here.account,
            "LOGNAME": here.account,
            "HOME": str(here.home),
            "SHELL": "/bin/bash",
            "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
            "JUPYTER_CONFIG_DIR": str(here.config),
            "JUPYTER_DATA_DIR": str(here.data),
            "JUPYTER_RUNTIME_DIR": str(here.runtime),
            "JUPYTER_PATH": str(settings.jupyter_dir),
            "JUPYTER_CONFIG_PATH": str(settings.jupyter_dir / "config"),
            "JUPYTERHUB_ROOT_DIR": str(here.root),
            **settings.kernel_addresses,
            PLATFORM_MARK: str(settings.data_dir),
            SERVER_MARK: self.mark,
        }
        env.setdefault("LANG", "C.UTF-8")
        if here.project:
            env["CUADERNO_PROJECT"] = here.project
        else:
            env["CUADERNO_USER"] = here.account
        return env

    async def start(self) -> tuple[str, int]:
        here = self.places
        await asyncio.to_thread(here.make)
        # What an earlier server of this account left behind would hold its sockets and files.
        await asyncio.to_thread(end_marked, SERVER_MARK, self.mark, grace=2)
        self.popen_kwargs = {"cwd": str(here.root)}
        address = await super().start()
        self.pid_started = start_time(self.pid) or 0.0
        return address

    async def stop(self, now: bool = False) -> None:
        await super().stop(now=now)
        await asyncio.to_thread(end_marked, SERVER_MARK, self.mark, grace=2)

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.pid_started = state.get("pid_started", 0.0)
        if self.pid and not is_same(self.pid, self.pid_started):
            self.pid = 0

    def get_state(self) -> dict[str, Any]:
        state = super().get_state()
        if self.pid:
            state["pid_started"] = self.pid_started
        return state

    def clear_state(self) -> None:
        super().clear_state()
        self.pid_started = 0.0

    async def poll(self) -> int | None:
        # Adopted after a restart of the hub: a process of the same number may be another.
        if self.proc is None and self.pid and not is_same(self.pid, self.pid_started):
            self.clear_state()
            return 0
        return await super().poll()
