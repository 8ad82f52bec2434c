"""A notebook somebody edits in Lab: we say that it differs, and commit what they see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from jupyter_ydoc import YNotebook
from pycrdt import (
    Awareness,
    Doc,
    create_awareness_message,
    create_sync_message,
    create_update_message,
    handle_sync_message,
)
from websockets.sync.client import connect

from tests.platform import Person, Platform, wait_for

PATH = "notebooks/edited.ipynb"
NOTEBOOK: dict[str, Any] = {
    "cells": [
        {
            "cell_type": "code",
            "id": "one",
            "metadata": {"tags": ["parameters"]},
            "execution_count": None,
            "outputs": [],
            "source": "depth = 3  # how deep",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python (CPU)"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture(scope="module")
def edith(platform: Platform) -> Person:
    return platform.person("edith", "demo", "editor")


@pytest.fixture(scope="module")
def server(platform: Platform, edith: Person) -> httpx.Client:
    """The API of the demo's shared server, as the portal's service reaches it."""
    edith.api.post("projects/demo/server")

    def runs() -> bool:
        return edith.api.get("projects/demo/server").json()["state"] == "running"

    wait_for("the project's server", runs, 90)
    token = (platform.data_dir / "secrets" / "service-cuaderno").read_text().strip()
    return httpx.Client(
        base_url=f"{platform.url}/user/project-demo/",
        headers={"Authorization": f"token {token}"},
        timeout=20,
    )


class Typing:
    """Somebody who has the document open, with autosave off so that only the room has the edit."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._doc: Doc = Doc()
        self.notebook = YNotebook(self._doc)
        awareness = Awareness(self._doc)
        awareness.set_local_state({"autosave": False, "user": {"name": "edith"}})
        update = awareness.encode_awareness_update([awareness.client_id])
        socket.send(create_awareness_message(update))
        socket.send(create_sync_message(self._doc))
        while True:
            message = socket.recv(timeout=10)
            if message[0] == 0:
                reply = handle_sync_message(message[1:], self._doc)
                if reply:
                    socket.send(reply)
                if message[1] == 1:
                    return

    def write(self, source: str) -> None:
        before = self._doc.get_state()
        cell = self.notebook.get_cell(0)
        cell["source"] = source
        self.notebook.set_cell(0, cell)
        self._socket.send(create_update_message(self._doc.get_update(before)))


@contextmanager
def opened(server: httpx.Client, path: str) -> Iterator[Typing]:
    said = server.put(
        f"api/collaboration/session/{path}", json={"format": "json", "type": "notebook"}
    ).json()
    url = str(server.base_url).replace("http://", "ws://")
    with connect(
        f"{url}api/collaboration/room/json:notebook:{said['fileId']}?sessionId={said['sessionId']}",
        additional_headers={"Authorization": server.headers["Authorization"]},
        close_timeout=0.5,
    ) as socket:
        yield Typing(socket)


@pytest.fixture
def committed(platform: Platform, edith: Person) -> str:
    """The notebook as in NOTEBOOK, on disk and at HEAD; HEAD's id."""
    file = platform.data_dir / "projects" / "demo" / "repo" / PATH
    file.write_text(json.dumps(NOTEBOOK, indent=1))
    body = {"paths": [PATH], "message": "A notebook to edit"}
    answer = edith.api.post("projects/demo/commits", json=body)
    if answer.status_code == 422:  # committed by the test before
        return edith.api.get(f"projects/demo/notebooks/{PATH}").json()["head"]
    assert answer.status_code == 201, answer.text
    return answer.json()["commit"]


def standing(edith: Person) -> dict[str, Any]:
    answer = edith.api.get(f"projects/demo/notebooks/{PATH}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_edit_in_the_open_document_differs_and_is_committed_as_seen(
    platform: Platform, edith: Person, server: httpx.Client, committed: str
) -> None:
    file = platform.data_dir / "projects" / "demo" / "repo" / PATH
    seen = standing(edith)
    assert (seen["head"], seen["differs"]) == (committed, None), seen
    assert [p["name"] for p in seen["parameters"]] == ["depth"]
    with opened(server, PATH) as typing:
        seen = standing(edith)
        assert (seen["differs"], seen["editor"]) == (None, "open"), seen
        typing.write("depth = 4  # how deep")
        wait_for("the edit to be seen", lambda: standing(edith)["differs"] == "editor", 5)
        assert "depth = 3" in file.read_text()
        body = {"paths": [PATH], "message": "Deeper"}
        made = edith.api.post("projects/demo/commits", json=body)
        assert made.status_code == 201, made.text
        seen = standing(edith)
        assert (seen["head"], seen["differs"]) == (made.json()["commit"], None), seen
    assert "depth = 4" in file.read_text()
    author = platform_git(platform, "log", "-1", "--format=%an", made.json()["commit"])
    assert author.strip() == "edith"


def test_asking_makes_no_room(
    platform: Platform, edith: Person, server: httpx.Client, committed: str
) -> None:
    path = "dashboards/training_overview.ipynb"
    assert edith.api.get(f"projects/demo/notebooks/{path}").json()["editor"] == "closed"
    said = server.put(
        f"api/collaboration/session/{path}", json={"format": "json", "type": "notebook"}
    ).json()
    probe = server.put(f"api/collaboration/fork/json:notebook:{said['fileId']}", content=b"{")
    assert probe.status_code == 404  # 400 where there is a room


def test_a_change_on_disk_is_said_and_can_be_committed_from_the_form(
    platform: Platform, edith: Person, server: httpx.Client, committed: str
) -> None:
    file = platform.data_dir / "projects" / "demo" / "repo" / PATH
    changed = json.loads(json.dumps(NOTEBOOK))
    changed["cells"][0]["source"] = "depth = 9  # how deep"
    file.write_text(json.dumps(changed, indent=1))
    assert standing(edith)["differs"] == "disk"
    page = edith.browser.get(f"/services/cuaderno/projects/demo/run/{PATH}")
    assert "The file on disk differs from the last commit" in page.text
    form = {"action": "commit", "p.depth": "x", "message": "Nine"}
    headers = {"Sec-Fetch-Site": "same-origin"}
    answer = edith.browser.post(
        f"/services/cuaderno/projects/demo/run/{PATH}", data=form, headers=headers
    )
    # Committed, but the wrong value keeps it from being run.
    assert answer.status_code == 422
    assert "must be a whole number" in answer.text
    assert standing(edith)["differs"] is None


def test_a_server_that_does_not_answer_is_said_and_not_guessed(
    platform: Platform, edith: Person, server: httpx.Client, committed: str
) -> None:
    proxy = platform.pid("proxy")
    os.kill(proxy, signal.SIGSTOP)
    try:
        web = json.loads((platform.data_dir / "run" / "addresses.json").read_text())["web"]
        begun = time.monotonic()
        answer = httpx.get(
            f"http://127.0.0.1:{web}/services/cuaderno/api/projects/demo/notebooks/{PATH}",
            headers={"Authorization": f"Bearer {edith.token}"},
            timeout=20,
        ).json()
        took = time.monotonic() - begun
    finally:
        os.kill(proxy, signal.SIGCONT)
    assert (answer["differs"], answer["editor"]) == (None, "unknown"), answer
    assert "does not say what the open" in answer["note"]
    assert took < 6


def platform_git(platform: Platform, *args: str) -> str:
    repo = platform.data_dir / "projects" / "demo" / "repo"
    return subprocess.check_output(["git", "-C", str(repo), *args], text=True)
