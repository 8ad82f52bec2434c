"""A notebook at HEAD with its parameters: where projects and jobs meet.

Which commit, and whether people see something else, is the projects' knowledge; which parameters
the notebook declares is the jobs'. Features do not import each other, so they meet here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request

from hub_config.errors import NotFound
from hub_config.identity import Role
from hub_config.jobs.parameters import Parameter, declared
from hub_config.projects.documents import Standing
from hub_config.projects.routes import documents

router = APIRouter(tags=["projects"])


@dataclass(frozen=True)
class Notebook:
    path: str
    standing: Standing
    parameters: list[Parameter]


@router.get("/projects/{project}/notebooks/{path:path}")
def get_notebook(request: Request, project: str, path: str) -> dict[str, Any]:
    found = notebook(request, project, path)
    return {
        "path": path,
        "head": found.standing.head,
        "differs": found.standing.differs,
        "editor": found.standing.editor,
        "note": found.standing.note,
        "parameters": [p.to_json() for p in found.parameters],
    }


def notebook(request: Request, project: str, path: str) -> Notebook:
    """The notebook for who may see the project. Raises `NotFound`.

    One that is on disk only has no head to run, and no parameters yet; it still can be committed.
    """
    found = documents(request, project, Role.VIEWER)
    standing = found.standing(path)
    try:
        _head, content = found.at_head(path)
    except NotFound:
        return Notebook(path, Standing(None, "disk", standing.editor, standing.note), [])
    return Notebook(path, standing, declared(content))
