"""REST of projects: members, notebooks at HEAD, commits, the shared server.

The application provides `request.state.principal` and, on `app.state`, `settings`, `engine`,
`identity`, `hub` (the hub's client) and `reconciler`. `GET projects/{p}/notebooks/{path}` also
reads parameters, which belong to jobs; it is put together in `web`.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field

from hub_config.errors import Conflict, Forbidden
from hub_config.identity import Role, project_account
from hub_config.projects import members as people
from hub_config.projects import projects
from hub_config.projects.documents import Documents
from hub_config.projects.hub import Server
from hub_config.projects.store import Member, Project

router = APIRouter(tags=["projects"])


class NewProject(BaseModel):
    name: str
    title: str = ""
    owner: str | None = Field(None, description="an account; else who makes it, or the admin")


class NewRole(BaseModel):
    role: str = Field(description="viewer, editor or owner")


class NewCommit(BaseModel):
    paths: list[str]
    message: str


@router.get("/projects")
def list_projects(request: Request) -> dict[str, Any]:
    state = request.app.state
    found = projects.visible(state.engine, state.identity, request.state.principal)
    return page([project_model(p, role) for p, role in found])


@router.post("/projects", status_code=201)
def create_project(
    request: Request, body: NewProject, idempotency_key: str | None = Header(None)
) -> dict[str, Any]:
    """Make a project. With an `Idempotency-Key`, asking again for the same one returns it."""
    state, principal = request.app.state, request.state.principal
    try:
        made = projects.create(
            state.engine, state.settings, principal, body.name, body.title, owner=body.owner
        )
    except Conflict:
        made, _role = projects.get(state.engine, state.identity, principal, body.name)
        same = made.created_by == principal.name and made.title == (body.title or body.name)
        if not idempotency_key or not same:
            raise
    state.reconciler.poke()
    return project_model(made, Role.OWNER)


@router.get("/projects/{project}")
def get_project(request: Request, project: str) -> dict[str, Any]:
    state = request.app.state
    found, role = projects.get(state.engine, state.identity, request.state.principal, project)
    return project_model(found, role)


@router.get("/projects/{project}/members")
def list_members(request: Request, project: str) -> dict[str, Any]:
    state = request.app.state
    found = people.members(state.engine, state.identity, request.state.principal, project)
    return page([member_model(m) for m in found])


@router.put("/projects/{project}/members/{person}")
def put_member(request: Request, project: str, person: str, body: NewRole) -> dict[str, Any]:
    state, role = request.app.state, people.parse_role(body.role)
    member = people.put(
        state.engine, state.identity, request.state.principal, project, person, role
    )
    state.reconciler.poke()
    return member_model(member)


@router.delete("/projects/{project}/members/{person}", status_code=204)
def delete_member(request: Request, project: str, person: str) -> Response:
    state = request.app.state
    people.remove(state.engine, state.identity, request.state.principal, project, person)
    state.reconciler.poke()
    return Response(status_code=204)


@router.get("/projects/{project}/notebooks")
def list_notebooks(request: Request, project: str) -> dict[str, Any]:
    return page([{"path": path} for path in documents(request, project, Role.VIEWER).notebooks()])


@router.post("/projects/{project}/commits", status_code=201)
def create_commit(request: Request, project: str, body: NewCommit) -> dict[str, Any]:
    """Commit paths as they are in the open editor and on disk, in the name of who asks."""
    found = documents(request, project, Role.EDITOR)
    if request.state.principal.kind not in ("person", "operator", "project"):
        raise Forbidden("Only people and the project's own server commit.")
    return {"commit": found.commit(body.paths, body.message, request.state.principal)}


@router.get("/projects/{project}/server")
def get_server(request: Request, project: str) -> dict[str, Any]:
    _require(request, project, Role.EDITOR)
    return server_model(request.app.state.hub.server(project_account(project)))


@router.post("/projects/{project}/server", status_code=202)
def start_server(request: Request, project: str) -> dict[str, Any]:
    _require(request, project, Role.EDITOR)
    return server_model(request.app.state.hub.start_server(project))


@router.delete("/projects/{project}/server", status_code=202)
def stop_server(request: Request, project: str) -> dict[str, Any]:
    _require(request, project, Role.EDITOR)
    return server_model(request.app.state.hub.stop_server(project))


# What routes and pages share ----------------------------------------------------------------------


def documents(request: Request, project: str, needed: Role) -> Documents:
    """The project's documents for who holds the role `needed` there."""
    _require(request, project, needed)
    return Documents(request.app.state.settings, request.app.state.hub, project)


def _require(request: Request, project: str, needed: Role) -> None:
    request.app.state.identity.require(request.state.principal, project, needed)


def page(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A whole list as the one and only page of it."""
    return {"items": items, "next": None, "total": len(items)}


def project_model(project: Project, role: Role) -> dict[str, Any]:
    return {**vars(project), "role": str(role)}


def member_model(member: Member) -> dict[str, Any]:
    return {**vars(member), "role": str(member.role)}


def server_model(server: Server) -> dict[str, Any]:
    return vars(server)
