"""Home, the list of dashboards, the switch of colours, signing out."""

from __future__ import annotations

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from hub_config.dashboards.catalogue import list_dashboards
from hub_config.jobs.routes import runs_of
from hub_config.web.health import check_parts
from hub_config.web.pages.common import my_projects, person, render, server
from hub_config.web.view import THEME_COOKIE, THEMES

router = APIRouter()
RECENT = 8


@router.get("/")
def home(request: Request) -> Response:
    state, me = request.app.state, person(request)
    mine = my_projects(request)
    runs, _cursor, _total = runs_of(request).page(me, limit=RECENT)
    health = check_parts(request)
    return render(
        request,
        "home.html",
        section="home",
        projects=mine,
        own=server(request, me.name).state,
        runs=runs,
        dashboards=list_dashboards(state.settings, state.identity, me),
        health=health,
        healthy=all(said == "ok" for said in health.values()),
    )


@router.get("/dashboards")
def dashboards(request: Request) -> Response:
    state = request.app.state
    found = list_dashboards(state.settings, state.identity, person(request))
    return render(request, "dashboards.html", section="dashboards", dashboards=found)


@router.post("/theme")
def theme(request: Request, theme: str = Form(), next: str = Form("")) -> Response:
    """Remember the colours (without scripts; with them the browser does it by itself)."""
    prefix = request.app.state.places.prefix
    answer = RedirectResponse(local(prefix, next), 303)
    if theme in THEMES:
        answer.set_cookie(THEME_COOKIE, theme, max_age=31536000, path=prefix, samesite="lax")
    return answer


@router.post("/logout")
def logout(request: Request) -> Response:
    """Forget the sign-in here, then sign out of the hub."""
    answer = RedirectResponse(f"{request.app.state.places.hub}logout", 303)
    request.app.state.sign_in.sign_out(answer)
    return answer


def local(prefix: str, target: str) -> str:
    """`target` if it is a page of the portal, else the first one."""
    plain = target.startswith(prefix) and "\\" not in target and target.isprintable()
    return target if plain else prefix
