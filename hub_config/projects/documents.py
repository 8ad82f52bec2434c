"""A project's documents: at HEAD, on disk, in the open editor; and committing them.

Jobs run what is committed. *Differs* says whether somebody who looks at the file sees something
else: `disk` when the file on disk differs from HEAD, `editor` when only the open shared document
does (it is saved a second after the last key). Of a notebook we compare what a run depends on: the
cells' kinds, sources and metadata, and the kernel's name. Outputs, execution counts, cell ids, the
format's minor number and what Lab writes by itself (collapsed, scrolled, trusted, timing, language
info, widget state) are ignored: executing a cell is not a change to commit.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

from hub_config.errors import CuadernoError, Invalid, NotFound
from hub_config.identity import Principal, project_account
from hub_config.projects.hub import Hub
from hub_config.projects.rooms import OpenDocuments
from hub_config.settings import Settings
from hub_config.storage.repository import Repository, project_repository

VOLATILE_CELL = frozenset(
    {"collapsed", "scrolled", "trusted", "execution", "ExecuteTime", "papermill", "jupyter"}
)
# What the editor is known to hold: nothing (closed, or its server is stopped), the document, or
# not known because hub or server did not answer.
Editor = Literal["closed", "open", "unknown"]


@dataclass(frozen=True)
class Standing:
    """How a document at HEAD compares with what people see. `note` says what is not known."""

    head: str | None
    differs: Literal["disk", "editor"] | None
    editor: Editor
    note: str = ""


# Git keeps one index per repository: commits of one project wait for each other.
_committing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


class Documents:
    """The documents of one project."""

    def __init__(self, settings: Settings, hub: Hub, project: str) -> None:
        self._hub = hub
        self._project = project
        self._open = OpenDocuments(settings, hub.token, project)
        self.repository: Repository = project_repository(settings.projects_dir, project)

    def notebooks(self) -> list[str]:
        """Paths of the notebooks at HEAD."""
        head = self.repository.head()
        return self.repository.files(head, ".ipynb") if head else []

    def at_head(self, path: str) -> tuple[str, bytes]:
        """HEAD's commit and the document's bytes there. Raises `NotFound`."""
        head = self.repository.head()
        if not head:
            raise NotFound(f"Nothing is committed in the project {self._project} yet.")
        return head, self.repository.read(path, head)

    def standing(self, path: str) -> Standing:
        """Compare the document at HEAD with disk and open editor. Raises `NotFound`.

        Takes at most about 3 s, when the project's server does not answer.
        """
        head, committed = self.repository.head(), None
        if head:
            try:
                committed = self.repository.read(path, head)
            except NotFound:
                committed = None
        disk = self.repository.on_disk(path)
        if committed is None and disk is None:
            raise NotFound(f"There is no {path} in the project {self._project}.")
        if committed is None or disk is None or _differ(path, committed, disk):
            return Standing(head, "disk", "unknown")
        try:
            live = self._live(path)
        except CuadernoError as error:
            return Standing(head, None, "unknown", error.detail)
        if live is None:
            return Standing(head, None, "closed")
        return Standing(head, "editor" if _differ(path, committed, live) else None, "open")

    def commit(self, paths: list[str], message: str, principal: Principal) -> str:
        """Save the open documents, then commit `paths` as they are on disk; the commit's id."""
        if not paths:
            raise Invalid("Name at least one path to commit.", field="paths")
        message = message.strip()
        if not message:
            raise Invalid("A commit needs a message that says what changed.", field="message")
        for path in paths:
            if self.repository.on_disk(path) is None and path not in self._committed():
                raise NotFound(f"There is no {path} in the project {self._project}.")
        with _committing[self._project]:
            if self._server_runs():
                for path in paths:
                    self._open.save(path)
            return self.repository.commit(paths, message, author(principal))

    def _committed(self) -> list[str]:
        head = self.repository.head()
        return self.repository.files(head) if head else []

    def _server_runs(self) -> bool:
        return self._hub.server(project_account(self._project)).state == "running"

    def _live(self, path: str) -> bytes | None:
        if not self._server_runs():
            return None
        said = self._open.content(path)
        if said is None:
            return None
        return said.encode() if isinstance(said, str) else json.dumps(said).encode()


def author(principal: Principal) -> str:
    """Who git names as the author: the person, or the project when its code commits."""
    name = project_account(principal.name) if principal.kind == "project" else principal.name
    return f"{name} <{name}@cuaderno.localhost>"


def _differ(path: str, one: bytes, other: bytes) -> bool:
    if one == other:
        return False
    if not path.endswith(".ipynb"):
        return True
    try:
        return _essence(json.loads(one)) != _essence(json.loads(other))
    except (ValueError, TypeError, AttributeError, KeyError):
        return True  # not a notebook that can be read: bytes decide


def _essence(notebook: dict[str, Any]) -> Any:
    """What of a notebook a run depends on; see the module's docstring for what is left out."""
    cells = [
        (
            cell["cell_type"],
            _text(cell.get("source", "")),
            {k: v for k, v in cell.get("metadata", {}).items() if k not in VOLATILE_CELL},
        )
        for cell in notebook["cells"]
    ]
    kernel = notebook.get("metadata", {}).get("kernelspec", {}).get("name")
    return notebook.get("nbformat"), kernel, cells


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
