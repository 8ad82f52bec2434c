"""`tracking_house()`: a real hub and the process `tracking`, with a project `demo` and its people.

ana owns demo, bob edits it, vic views it; eve belongs to `other` alone; kim is an administrator.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from hub_config.identity import Signer
from hub_config.keys import secret
from hub_config.storage.database import new_id, write
from hub_config.storage.schema import attempts, members, projects, runs
from tests.hub_fixture import TempHub, temp_hub

PEOPLE = {"ana": ("demo", "owner"), "bob": ("demo", "editor"), "vic": ("demo", "viewer")}
PEOPLE |= {"eve": ("other", "owner"), "kim": ("", "")}
API = "/api/2.0/mlflow"


@dataclass
class TrackingHouse:
    hub: TempHub
    tokens: dict[str, str]
    signer: Signer
    client: httpx.AsyncClient

    @property
    def url(self) -> str:
        """MLflow's tracking URI, through the proxy."""
        return self.hub.url + "/services/mlflow"

    async def ask(self, who: str | None, method: str, path: str, **kw: Any) -> httpx.Response:
        """A request with the token of `who`: a person's name or a token itself."""
        headers = dict(kw.pop("headers", {}))
        if who:
            headers["Authorization"] = f"Bearer {self.tokens.get(who, who)}"
        return await self.client.request(method, self.url + path, headers=headers, **kw)

    async def post(self, who: str | None, path: str, **body: Any) -> httpx.Response:
        return await self.ask(who, "POST", API + path, json=body)

    async def get(self, who: str | None, path: str, **query: Any) -> httpx.Response:
        return await self.ask(who, "GET", API + path, params=query)

    async def experiment(self, who: str, name: str) -> str:
        made = await self.post(who, "/experiments/create", name=name)
        if made.status_code == 400:
            found = await self.get(who, "/experiments/get-by-name", experiment_name=name)
            return str(found.json()["experiment"]["experiment_id"])
        assert made.status_code == 200, made.text
        return str(made.json()["experiment_id"])

    async def run(self, who: str, experiment_id: str, **body: Any) -> dict[str, Any]:
        made = await self.post(who, "/runs/create", experiment_id=experiment_id, **body)
        assert made.status_code == 200, made.text
        return dict(made.json()["run"])

    def live_run(self, project: str = "demo", *, ended: bool = False) -> tuple[str, str]:
        """A run of the platform in the database: its id and its token."""
        run = new_id()
        with write(self.hub.engine) as connection:
            values = {
                column.name: 0 if column.type.python_type in (int, float) else ""
                for column in runs.c
                if not column.nullable and column.name != "parameters"
            }
            values |= {"id": run, "project": project, "parameters": {}, "state": "running"}
            connection.execute(runs.insert().values(**values))
            attempt = connection.execute(
                attempts.insert().values(run=run, created_at=0, ended_at=1.0 if ended else None)
            ).inserted_primary_key[0]
            connection.execute(runs.update().where(runs.c.id == run).values(attempt=attempt))
        return run, self.signer.run_token(run, attempt, project)


@contextlib.asynccontextmanager
async def tracking_house(**overrides: Any) -> AsyncIterator[TrackingHouse]:
    async with temp_hub(**overrides) as hub:
        for name in PEOPLE:
            await hub.add_account(name, admin=name == "kim")
        with write(hub.engine) as connection:
            for project in ("demo", "other"):
                connection.execute(
                    projects.insert().values(
                        name=project, title=project, created_at=0, created_by="kim"
                    )
                )
            for person, (project, role) in PEOPLE.items():
                if project:
                    connection.execute(
                        members.insert().values(
                            project=project, person=person, role=role, added_at=0, added_by="kim"
                        )
                    )
        health = hub.addresses.url("tracking") + "/services/mlflow/health"
        await hub.start("tracking", [sys.executable, "-m", "hub_config.tracking"], health)
        # The service was not there when the hub started, so the proxy has no route to it yet.
        (await hub.api("POST", "/proxy", service="supervisor")).raise_for_status()
        tokens = {name: await hub.user_token(name) for name in PEOPLE}
        signer = Signer(secret(hub.settings, "platform-key"))
        async with httpx.AsyncClient(timeout=60) as client:
            yield TrackingHouse(hub, tokens, signer, client)
