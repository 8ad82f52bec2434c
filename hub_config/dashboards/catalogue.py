"""Which dashboards a project has: the notebooks directly under `dashboards/` at HEAD.

A *dashboard* is one such notebook; its name is the file's, without `.ipynb`. Title and description
come from the notebook's metadata (`cuaderno.title`, `cuaderno.description`), else from its first
heading and first paragraph. What is not committed is not published. Notebooks in subfolders are
helpers, not dashboards.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from hub_config.errors import Invalid, NotFound
from hub_config.identity import Identity, Principal
from hub_config.settings import Settings
from hub_config.storage.repository import Repository, project_repository

FOLDER = "dashboards"
SERVICE = "dashboards"
PREFIX = f"/services/{SERVICE}/"


@dataclass(frozen=True)
class Dashboard:
    project: str
    name: str
    title: str
    description: str
    url: str
    path: str
    commit: str
    updated_at: float  # when the notebook last changed, seconds since the epoch
    updated_by: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def list_dashboards(
    settings: Settings, identity: Identity, principal: Principal, project: str | None = None
) -> list[Dashboard]:
    """The dashboards of the principal's projects, or of `project` if given, in order of title.

    Raises `NotFound` when `project` is not one of them.
    """
    mine = identity.projects(principal)
    if project is not None and project not in mine:
        raise NotFound(f"There is no project {project!r} that you can see.")
    found: list[Dashboard] = []
    for name in mine if project is None else [project]:
        found += published(settings, name)
    return sorted(found, key=lambda d: (d.title.lower(), d.project, d.name))


def published(settings: Settings, project: str) -> list[Dashboard]:
    """The dashboards of `project` at HEAD; empty for a project without a repository or commit."""
    repository = project_repository(settings.projects_dir, project)
    commit = repository.head() if (repository.path / ".git").exists() else None
    if commit is None:
        return []
    origin = settings.service_origin(SERVICE)
    return list(_at_commit(repository.path, project, commit, origin))


def find(settings: Settings, project: str, name: str) -> Dashboard:
    """The dashboard `name` of `project` at HEAD. Raises `NotFound`."""
    for dashboard in published(settings, project):
        if dashboard.name == name:
            return dashboard
    raise NotFound(
        f"There is no dashboard {name!r} in the project {project}. A dashboard is a notebook under "
        f"{FOLDER}/ of the project's repository, and shows once it is committed."
    )


@lru_cache(maxsize=64)
def _at_commit(root: Path, project: str, commit: str, origin: str) -> tuple[Dashboard, ...]:
    """Kept per commit, for a commit never changes."""
    repository = Repository(root)
    found = []
    for path in repository.files(commit, ".ipynb"):
        pure = PurePosixPath(path)
        if str(pure.parent) != FOLDER:
            continue
        try:
            title, description = describe(repository.read(path, commit), pure.stem)
            latest = repository.log(path, limit=1)
        except Invalid as error:  # a file name that git knows and we do not serve
            title, description, latest = pure.stem, error.detail, []
        found.append(
            Dashboard(
                project=project,
                name=pure.stem,
                title=title,
                description=description,
                url=f"{origin}{PREFIX}{quote(project)}/{quote(pure.stem, safe='')}",
                path=path,
                commit=commit,
                updated_at=latest[0].at if latest else 0.0,
                updated_by=latest[0].author if latest else "",
            )
        )
    return tuple(found)


def describe(notebook: bytes, name: str) -> tuple[str, str]:
    """Title and description of a notebook; of one that cannot be read, why."""
    fallback = name.replace("_", " ").replace("-", " ").strip().capitalize() or name
    try:
        document = json.loads(notebook)
        metadata = document.get("metadata", {}).get("cuaderno", {})
        prose = [
            "".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "markdown"
        ]
        title = str(metadata.get("title") or "")
        description = str(metadata.get("description") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return fallback, "This file is not a notebook that can be read."
    for block in re.split(r"\n\s*\n", "\n\n".join(prose)):
        for line in _paragraphs(block.strip()):
            if line.startswith("#"):
                title = title or plain(line.lstrip("#"))
            elif line and not description:
                description = plain(line)
    return title or fallback, description


def headings(source: str) -> list[str]:
    """The texts of the Markdown headings in a cell, in order."""
    return [plain(m) for m in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", source, flags=re.MULTILINE)]


def _paragraphs(block: str) -> list[str]:
    """A block split so that a heading stands alone, and other lines are joined."""
    parts: list[str] = []
    for line in block.splitlines():
        if line.startswith("#") or not parts or parts[-1].startswith("#"):
            parts.append(line.strip())
        else:
            parts[-1] += f" {line.strip()}"
    return parts


def plain(markdown: str) -> str:
    """One line of Markdown as plain text: links by their text, no images, emphasis, code marks."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", markdown)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[*`]|(?<!\w)_|_(?!\w)", "", text).strip()
