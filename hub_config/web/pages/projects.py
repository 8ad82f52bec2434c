"""Pages of projects: list, new, one project, its members, its server."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from hub_config.dashboards.catalogue import list_dashboards
from hub_config.errors import Conflict, CuadernoError, Forbidden, Invalid
from hub_config.identity import Role, project_account
from hub_config.jobs.routes import runs_of
from hub_config.projects import members as people
from hub_config.projects import projects, store
from hub_config.projects.routes import documents
from hub_config.projects.store import Project
from hub_config.web.pages.common import my_projects, person, render, see, server
from hub_config.web.texts import text

router = APIRouter()
RECENT = 6
SLOW_SECONDS = 30


@router.get("/projects")
def list_page(request: Request) -> Response:
    return render(request, "projects.html", section="projects", projects=my_projects(request))


@router.get("/projects/new")
def new_page(request: Request) -> Response:
    if not person(request).admin:
        raise Forbidden(text("projects.empty.ask"))
    return _new(request)


def _new(request: Request, error: CuadernoError | None = None, **given: str) -> Response:
    return render(
        request,
        "project_new.html",
        section="projects",
        status=error.status if error else 200,
        given={"name": "", "title": "", **given},
        errors={error.extra.get("field", "name"): error.detail} if error else {},
    )


@router.post("/projects")
def create(request: Request, name: str = Form(""), title: str = Form("")) -> Response:
    state, me = request.app.state, person(request)
    try:
        made = projects.create(state.engine, state.settings, me, name.strip(), title)
    except (Invalid, Conflict) as error:
        return _new(request, error, name=name, title=title)
    state.reconciler.poke()
    return see(request, f"projects/{made.name}")


@router.get("/projects/{name}")
def project_page(request: Request, name: str) -> Response:
    state, me = request.app.state, person(request)
    project, role = projects.get(state.engine, state.identity, me, name)
    found = documents(request, name, Role.VIEWER)
    runs, _cursor, _total = runs_of(request).page(me, project=name, limit=RECENT)
    return render(
        request,
        "project.html",
        section="projects",
        project=project,
        enters=role.includes(Role.EDITOR),
        owns=role.includes(Role.OWNER),
        server=server(request, project_account(name)),
        head=found.repository.head(),
        notebooks=found.notebooks(),
        runs=runs,
        dashboards=list_dashboards(state.settings, state.identity, me, name),
        members=store.list_members(state.engine, name),
        commits=[
            {**vars(c), "author": c.author.partition(" <")[0]}
            for c in found.repository.log(limit=5)
        ],
    )


# Members ------------------------------------------------------------------------------------------


@router.get("/projects/{name}/members")
def members_page(request: Request, name: str, done: str = "", who: str = "") -> Response:
    return _members(request, name, done=done, who=who)


@router.post("/projects/{name}/members")
def put_member(
    request: Request, name: str, person_: str = Form("", alias="person"), role: str = Form("")
) -> Response:
    state, who = request.app.state, person_.strip()
    try:
        wanted = people.parse_role(role)
        people.put(state.engine, state.identity, person(request), name, who, wanted)
    except (Invalid, Conflict) as error:
        return _members(request, name, error=error, given={"person": who, "role": role})
    state.reconciler.poke()
    return see(request, f"projects/{name}/members", done="put", who=who)


@router.post("/projects/{name}/members/{who}/remove")
def remove_member(request: Request, name: str, who: str) -> Response:
    state, me = request.app.state, person(request)
    try:
        people.remove(state.engine, state.identity, me, name, who)
    except Conflict as error:
        return _members(request, name, error=error)
    state.reconciler.poke()
    if who == me.name and state.identity.role(me, name) is None:
        return see(request, "projects")
    return see(request, f"projects/{name}/members", done="removed", who=who)


def _members(
    request: Request,
    name: str,
    *,
    error: CuadernoError | None = None,
    given: dict[str, str] | None = None,
    done: str = "",
    who: str = "",
) -> Response:
    state, me = request.app.state, person(request)
    project, role = projects.get(state.engine, state.identity, me, name)
    found = people.members(state.engine, state.identity, me, name)
    owns = role.includes(Role.OWNER)
    present = {m.person: m for m in found}
    notice = None
    if done == "put" and who in present:
        notice = text("members.done.put", person=who, role=text(f"role.{present[who].role}"))
    elif done == "removed" and who and who not in present:
        notice = text("members.done.removed", person=who)
    return render(
        request,
        "members.html",
        section="projects",
        status=error.status if error else 200,
        project=project,
        members=found,
        owns=owns,
        candidates=[n for n in store.active_people(state.engine) if n not in present]
        if owns
        else [],
        given=given or {"person": "", "role": "editor"},
        error=error.detail if error else None,
        notice=notice,
    )


# The shared server --------------------------------------------------------------------------------


@router.get("/projects/{name}/server")
def server_page(request: Request, name: str, path: str = "") -> Response:
    """The way into Lab: there at once when the server runs, else how its start goes."""
    project = _entered(request, name)
    hub = request.app.state.hub
    found = server(request, project_account(name))
    if found.state == "running":
        return RedirectResponse(_lab(request, name, path), 303)
    failure = hub.why_stopped(project_account(name)) if found.state == "stopped" else ""
    return render(
        request,
        "server.html",
        section="projects",
        project=project,
        server=found,
        failure=failure,
        path=path,
        slow=bool(found.since and time.time() - found.since > SLOW_SECONDS),
        refresh=2 if found.state in ("starting", "stopping", "unknown") else None,
    )


@router.post("/projects/{name}/server")
def start_server(request: Request, name: str, path: str = Form("")) -> Response:
    _entered(request, name)
    request.app.state.hub.start_server(name)
    query: dict[str, Any] = {"path": path} if path else {}
    return see(request, f"projects/{name}/server", **query)


@router.post("/projects/{name}/server/stop")
def stop_server(request: Request, name: str) -> Response:
    _entered(request, name)
    request.app.state.hub.stop_server(name)
    return see(request, f"projects/{name}")


def _entered(request: Request, name: str) -> Project:
    state, me = request.app.state, person(request)
    state.identity.require(me, name, Role.EDITOR)
    return projects.get(state.engine, state.identity, me, name)[0]


def _lab(request: Request, name: str, path: str) -> str:
    found = documents(request, name, Role.EDITOR)
    return request.app.state.places.lab(name, found.repository.relative(path) if path else "")
