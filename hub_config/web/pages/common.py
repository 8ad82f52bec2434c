"""What pages share: who looks at them, answers after a form, the state of servers."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from hub_config.errors import CuadernoError, Forbidden
from hub_config.identity import Principal, Role, project_account
from hub_config.projects import projects
from hub_config.projects.hub import Server


def person(request: Request) -> Principal:
    """Who looks at the page. Pages are for people; programs have the API."""
    principal: Principal = request.state.principal
    if principal.kind != "person":
        raise Forbidden("Pages are for people. Programs use the API under api/.")
    return principal


def render(request: Request, template: str, **context: Any) -> Response:
    return request.app.state.view.page(request, template, **context)


def see(request: Request, path: str, **query: str) -> Response:
    """After a form: go and see a page of the portal (by GET)."""
    tail = f"?{urlencode(query)}" if query else ""
    return RedirectResponse(f"{request.app.state.places.prefix}{path}{tail}", 303)


def my_projects(request: Request) -> list[dict[str, Any]]:
    """The person's projects with role and server, as lists show them."""
    state = request.app.state
    found = projects.visible(state.engine, state.identity, person(request))
    servers = server_states(request, [p.name for p, _role in found])
    return [
        {
            "name": p.name,
            "title": p.title,
            "role": role,
            "enters": role.includes(Role.EDITOR),
            "server": servers[p.name],
        }
        for p, role in found
    ]


def server_states(request: Request, names: Iterable[str]) -> dict[str, str]:
    """The state of each project's server; `unknown` where the hub does not say."""
    names = list(names)
    if not names:
        return {}
    with ThreadPoolExecutor(min(8, len(names))) as pool:
        found = pool.map(lambda n: server(request, project_account(n)), names)
        return {name: s.state for name, s in zip(names, found, strict=True)}


def server(request: Request, account: str) -> Server:
    try:
        return request.app.state.hub.server(account)
    except CuadernoError:
        return Server("unknown", f"/user/{account}/")
