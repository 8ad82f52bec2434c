"""A hub, the process `dashboards`, and a project `demo` with its members and an outsider."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from hub_config.node.processes import marked
from hub_config.storage.database import write
from hub_config.storage.repository import project_repository
from hub_config.storage.schema import members, projects
from tests.hub_fixture import TempHub, temp_hub

PREFIX = "/services/dashboards/"
MARK = "CUADERNO_DASHBOARDS_MARK"

NOTEBOOKS: dict[str, list[Any]] = {
    "live": [
        new_markdown_cell("# Live figures\n\nA formula $x^2$ and a slider."),
        new_code_cell(
            "import json, os, warnings\n"
            "import ipywidgets as widgets, plotly.graph_objects as go\n"
            "from helper import answer\n"
            "warnings.warn('a warning for nobody')\n"
            "print(json.dumps({'query': os.environ['QUERY_STRING'], 'answer': answer()}))"
        ),
        new_markdown_cell("## Charts"),
        new_code_cell("go.Figure(go.Scatter(y=[1, 3, 2]))"),
        new_code_cell("figure = go.FigureWidget(go.Scatter(y=[1, 2, 3])); figure"),
        new_code_cell(
            "slider = widgets.IntSlider(3, 1, 9, description='n')\n"
            "label = widgets.Label('n is 3')\n"
            "slider.observe(lambda c: setattr(label, 'value', f'n is {c.new}'), 'value')\n"
            "widgets.VBox([slider, label])"
        ),
    ],
    "environment": [new_code_cell("import os, json; print(json.dumps(dict(os.environ)))")],
    "fails": [
        new_markdown_cell("# Fails\n\n## The division"),
        new_code_cell("numerator = 'for editors only'\n1 / 0"),
    ],
    "dies": [new_code_cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")],
}


@dataclass
class World:
    hub: TempHub
    tokens: dict[str, str]

    def client(self, who: str | None) -> httpx.AsyncClient:
        """Whoever, through the proxy, with a token of the hub."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return httpx.AsyncClient(base_url=self.hub.url, headers=headers, timeout=60)

    async def browser(self, who: str) -> httpx.AsyncClient:
        """Somebody who signed in to the dashboards as a browser does, with a cookie."""
        session = await self.hub.sign_in(who)
        answer = await session.get(f"{PREFIX}demo/nothing", follow_redirects=True)
        assert answer.status_code == 404 and "service-dashboards" in session.cookies
        return session

    async def view(
        self, client: httpx.AsyncClient, name: str, query: str = ""
    ) -> tuple[str, str, httpx.Response]:
        """Open a dashboard and wait for its page: the view's id, its kernel's, the page."""
        waiting = await client.get(f"{PREFIX}demo/{name}{query}")
        assert waiting.status_code == 200, waiting.text
        found = re.search(r'id="cu-instructions">(.*?)</script>', waiting.text)
        assert found, waiting.text
        said = json.loads(found[1])
        version = -1
        while True:
            progress = await client.get(said["progress"], params={"after": version})
            now = progress.raise_for_status().json()
            version = now["version"]
            if now["state"] in ("ready", "failed"):
                break
        page = await client.get(said["page"])
        kernel = re.search(r'"kernelId": "([\w-]+)"', page.text)
        return said["progress"].rsplit("/", 1)[-1], kernel[1] if kernel else "", page

    def kernels(self, kernel: str = "") -> list[psutil.Process]:
        """The processes of all dashboards' kernels, or of one."""
        found = []
        for process in marked(MARK, str(self.hub.settings.data_dir)):
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                if "ipykernel_launcher" in line and kernel in line[-1]:
                    found.append(process)
        return found

    async def start(self) -> None:
        health = f"{self.hub.addresses.url('dashboards')}{PREFIX}health"
        await self.hub.start("dashboards", [sys.executable, "-m", "hub_config.dashboards"], health)


def printed(page: str) -> str:
    """All that the cells of a rendered page wrote to stdout."""
    return html.unescape("".join(re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)))


@contextlib.asynccontextmanager
async def temp_dashboards(**overrides: Any) -> AsyncIterator[World]:
    async with temp_hub(**overrides) as hub:
        roles = {"ana": "editor", "vic": "viewer", "val": "viewer"}
        tokens = {}
        for person in (*roles, "out"):
            await hub.add_account(person)
            tokens[person] = await hub.user_token(person)
        with write(hub.engine) as connection:
            connection.execute(
                projects.insert().values(name="demo", title="Demo", created_at=0, created_by="x")
            )
            connection.execute(
                members.insert(),
                [
                    {"project": "demo", "person": p, "role": r, "added_at": 0, "added_by": "x"}
                    for p, r in roles.items()
                ],
            )
        repository = project_repository(hub.settings.projects_dir, "demo")
        await asyncio.to_thread(repository.create)
        folder = repository.path / "dashboards"
        folder.mkdir()
        for name, cells in NOTEBOOKS.items():
            (folder / f"{name}.ipynb").write_text(nbformat.writes(new_notebook(cells=cells)))
        (folder / "helper.py").write_text("def answer():\n    return 42\n")
        await asyncio.to_thread(repository.commit, ["dashboards"], "Dashboards")
        world = World(hub, tokens)
        await world.start()
        # As the supervisor does: the hub adds a service's route when it is asked to.
        (await hub.api("POST", "/proxy", service="supervisor")).raise_for_status()
        yield world
