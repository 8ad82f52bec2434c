"""When a document differs from HEAD: what of a notebook counts, and what is said when unsure."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub_config import keys
from hub_config.errors import Invalid, NotFound, Unavailable
from hub_config.identity import Principal, Role
from hub_config.projects.documents import Documents, author
from hub_config.projects.hub import Server
from hub_config.settings import Settings
from hub_config.storage.repository import project_repository

ED = Principal("person", "ed")
PATH = "deep/one.ipynb"
NOTEBOOK: dict[str, Any] = {
    "cells": [
        {
            "cell_type": "code",
            "id": "a",
            "metadata": {"tags": ["parameters"]},
            "execution_count": None,
            "outputs": [],
            "source": ["x = 1\n", "y = 2"],
        },
        {"cell_type": "markdown", "id": "b", "metadata": {}, "source": "words"},
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


class HubWithServer:
    """A hub that says one state of every server."""

    token = "t"

    def __init__(self, state: str) -> None:
        self.state = state

    def server(self, account: str) -> Server:
        if self.state == "away":
            raise Unavailable("The hub is not answering; try again in a moment.")
        return Server(self.state, f"/user/{account}/")  # type: ignore[arg-type]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # Port 9 answers nobody: a server that the hub calls running, and that does not answer.
    made = Settings(data_dir=tmp_path, port=9)
    keys.ensure_all(made)
    repository = project_repository(made.projects_dir, "team")
    repository.create()
    file = repository.path / PATH
    file.parent.mkdir()
    file.write_text(json.dumps(NOTEBOOK))
    (repository.path / "plain.py").write_text("x = 1\n")
    repository.commit([PATH, "plain.py"], "Begin")
    return made


def documents(settings: Settings, state: str = "stopped") -> Documents:
    return Documents(settings, HubWithServer(state), "team")  # type: ignore[arg-type]


def ran(notebook: dict[str, Any]) -> None:
    cell = notebook["cells"][0]
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "hello"}]
    cell["execution_count"] = 7
    cell["metadata"] |= {"scrolled": True, "collapsed": False, "execution": {"started": "now"}}


def normalised(notebook: dict[str, Any]) -> None:
    notebook["cells"][0]["source"] = "x = 1\ny = 2"
    notebook["nbformat_minor"] = 4
    for cell in notebook["cells"]:
        cell.pop("id")
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.11"}
    notebook["metadata"]["widgets"] = {"state": {}}


def edited(notebook: dict[str, Any]) -> None:
    notebook["cells"][0]["source"] = "x = 1\ny = 3"


def untagged(notebook: dict[str, Any]) -> None:
    notebook["cells"][0]["metadata"] = {}


def shortened(notebook: dict[str, Any]) -> None:
    notebook["cells"].pop()


def reordered(notebook: dict[str, Any]) -> None:
    notebook["cells"].reverse()


def other_kernel(notebook: dict[str, Any]) -> None:
    notebook["metadata"]["kernelspec"]["name"] = "julia"


def broken(notebook: dict[str, Any]) -> None:
    notebook["cells"] = None


Change = Callable[[dict[str, Any]], None]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (ran, None),
        (normalised, None),
        *((c, "disk") for c in (edited, untagged, shortened, reordered, other_kernel, broken)),
    ],
)
def test_what_of_a_notebook_counts(settings: Settings, change: Change, differs: str | None) -> None:
    notebook = copy.deepcopy(NOTEBOOK)
    change(notebook)
    found = documents(settings)
    (found.repository.path / PATH).write_text(json.dumps(notebook))
    assert found.standing(PATH).differs == differs


def test_of_a_text_every_byte_counts(settings: Settings) -> None:
    found = documents(settings)
    assert found.standing("plain.py").differs is None
    (found.repository.path / "plain.py").write_text("x = 1")
    assert found.standing("plain.py").differs == "disk"


def test_a_file_gone_from_disk_or_not_committed_differs(settings: Settings) -> None:
    found = documents(settings)
    (found.repository.path / "plain.py").unlink()
    (found.repository.path / "new.ipynb").write_text("{}")
    assert found.standing("plain.py").differs == "disk"
    assert found.standing("new.ipynb").differs == "disk"
    with pytest.raises(NotFound):
        found.standing("nothing.ipynb")


@pytest.mark.parametrize("path", ["../secrets/platform-key", "/etc/passwd", ".git/config"])
def test_no_path_leaves_the_repository(settings: Settings, path: str) -> None:
    with pytest.raises(Invalid):
        documents(settings).standing(path)
    with pytest.raises(Invalid):
        documents(settings).commit([path], "x", ED)


@pytest.mark.parametrize(("state", "word"), [("running", "open"), ("away", "hub")])
def test_what_does_not_answer_is_said(settings: Settings, state: str, word: str) -> None:
    standing = documents(settings, state).standing(PATH)
    assert (standing.differs, standing.editor) == (None, "unknown")
    assert word in standing.note


def test_a_commit_needs_the_open_documents_saved_first(settings: Settings) -> None:
    found = documents(settings, "running")
    head = found.repository.head()
    (found.repository.path / "plain.py").write_text("x = 2")
    with pytest.raises(Unavailable):
        found.commit(["plain.py"], "Two", ED)
    assert found.repository.head() == head
    made = documents(settings).commit(["plain.py"], "Two", ED)
    latest = found.repository.log(limit=1)[0]
    assert (latest.sha, latest.author, latest.subject) == (made, "ed", "Two")


def test_a_commit_needs_paths_and_a_message(settings: Settings) -> None:
    for paths, message in (([], "x"), (["plain.py"], " ")):
        with pytest.raises(Invalid):
            documents(settings).commit(paths, message, ED)
    with pytest.raises(NotFound):
        documents(settings).commit(["nothing.py"], "x", ED)


def test_the_author_is_who_asked() -> None:
    assert author(ED) == "ed <ed@cuaderno.localhost>"
    team = Principal("project", "team", project="team", role=Role.EDITOR)
    assert author(team).startswith("project-team <")
