"""Administration: who waits for approval, all accounts, the platform's processes."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub_config.accounts.model import State
from hub_config.accounts.routes import accounts_of
from hub_config.errors import Conflict, CuadernoError, Forbidden, Unavailable
from hub_config.web.health import processes
from hub_config.web.pages.common import person, render, see
from hub_config.web.texts import text

router = APIRouter()
PAGE = 50


@router.get("/admin")
def admin_page(request: Request, after: str = "", done: str = "") -> Response:
    return _page(request, after=after, done=done)


@router.post("/admin/accounts/{name}/{decision}")
def decide(
    request: Request, name: str, decision: Literal["approve", "refuse", "disable"]
) -> Response:
    me = _admin(request)
    try:
        accounts_of(request).decide(name, decision, me)
    except Conflict as error:
        return _page(request, error=error)
    request.app.state.reconciler.poke()
    return see(request, "admin", done=name)


def _page(
    request: Request, *, after: str = "", done: str = "", error: CuadernoError | None = None
) -> Response:
    _admin(request)
    accounts = accounts_of(request)
    found, _total = accounts.page(None, after, PAGE + 1)
    waiting, _more = accounts.page(State.PENDING, "", 200)
    try:
        running, note = processes(request.app.state.settings), ""
    except Unavailable as unavailable:
        running, note = [], unavailable.detail
    decided = next((a for a in [*found, *waiting] if a.name == done), None)
    prefix = request.app.state.places.prefix
    return render(
        request,
        "admin.html",
        section="admin",
        status=error.status if error else 200,
        error=error.detail if error else None,
        notice=decided
        and text("admin.done", name=decided.name, state=text(f"state.{decided.state}")),
        waiting=sorted(waiting, key=lambda a: a.created_at),
        accounts=[a for a in found[:PAGE] if a.state is not State.PENDING],
        older=f"{prefix}admin?after={found[PAGE - 1].name}" if len(found) > PAGE else None,
        processes=running,
        processes_note=note,
    )


def _admin(request: Request) -> str:
    me = person(request)
    if not me.admin:
        raise Forbidden("Only administrators see this page.")
    return me.name
