"""REST of the catalogue, mounted by `web`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from hub_config.dashboards.catalogue import list_dashboards

router = APIRouter(tags=["dashboards"])


@router.get("/dashboards", summary="The dashboards of my projects")
def get_dashboards(request: Request, project: str | None = None) -> dict[str, Any]:
    """All at once: a team has tens of dashboards, not thousands."""
    state = request.app.state
    found = list_dashboards(state.settings, state.identity, request.state.principal, project)
    return {"items": [d.as_json() for d in found], "next": None, "total": len(found)}
