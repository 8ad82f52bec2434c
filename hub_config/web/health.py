"""REST about the platform itself: `health`, `me`, `processes`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from hub_config.errors import Forbidden, Unavailable
from hub_config.identity import Principal
from hub_config.settings import Settings, load_addresses
from hub_config.storage.schema import projects

router = APIRouter(tags=["platform"])
HEALTH_SECONDS = 2.0


@router.get("/health")
def health(request: Request, response: Response) -> dict[str, Any]:
    """Whether the parts answer. 503 without the database; `degraded` when another part is away."""
    parts = check_parts(request, ("jobs",))
    if parts["database"] != "ok":
        response.status_code = 503
    status = "ok" if all(said == "ok" for said in parts.values()) else "degraded"
    return {"status": status, "parts": parts}


@router.get("/me")
def me(request: Request) -> dict[str, Any]:
    principal: Principal = request.state.principal
    roles = request.app.state.identity.projects(principal)
    return {
        "kind": principal.kind,
        "name": principal.name,
        "admin": principal.admin,
        "projects": {name: str(role) for name, role in roles.items()},
    }


@router.get("/processes")
def list_processes(request: Request) -> dict[str, Any]:
    """Each process of the platform as the supervisor last saw it; for administrators."""
    if not request.state.principal.admin:
        raise Forbidden("Only an administrator sees the platform's processes.")
    items = processes(request.app.state.settings)
    return {"items": items, "next": None, "total": len(items)}


def processes(settings: Settings) -> list[dict[str, Any]]:
    """What the supervisor wrote last. Raises `Unavailable` when there is no supervisor."""
    try:
        return json.loads((settings.run_dir / "processes.json").read_text())
    except FileNotFoundError as error:
        raise Unavailable("No supervisor reports here: was this started by hand?") from error


PARTS = ("hub", "jobs", "mlflow", "dashboards")


def check_parts(request: Request, names: tuple[str, ...] = PARTS) -> dict[str, str]:
    """`ok` or what is wrong, for the database and each part named."""
    state = request.app.state
    addresses = load_addresses(state.settings)
    asked = {
        "hub": addresses.url("hub") + "/hub/health",
        "jobs": addresses.url("jobs") + "/health",
        "mlflow": addresses.url("tracking") + "/services/mlflow/health",
        "dashboards": addresses.url("dashboards") + "/services/dashboards/health",
    }
    with ThreadPoolExecutor(len(names)) as pool:
        said = dict(zip(names, pool.map(_answers, (asked[n] for n in names)), strict=True))
    return {"database": _database(state.engine), **said}


def _database(engine: Any) -> str:
    try:
        with engine.connect() as connection:
            connection.execute(select(projects.c.name).limit(1))
    except SQLAlchemyError:
        return "does not answer"
    return "ok"


def _answers(url: str) -> str:
    try:
        answer = httpx.get(url, timeout=HEALTH_SECONDS)
    except httpx.HTTPError:
        return "does not answer"
    return "ok" if answer.is_success else f"answers {answer.status_code}"
