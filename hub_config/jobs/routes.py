"""Runs in the API. The application mounts `router` at `/services/cuaderno/api` and gives
`request.state.principal` and `request.app.state.runs` and `.files`."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from hub_config.errors import NotFound
from hub_config.identity import Principal
from hub_config.jobs.model import FILES, State, file_key
from hub_config.jobs.submission import Runs

router = APIRouter(tags=["runs"])

# A notebook's page runs its own scripts (plotly), in an origin of its own: no cookie, no API.
SANDBOX = "sandbox allow-scripts; frame-ancestors 'self'"


class NewRun(BaseModel):
    """A run to make."""

    project: str = Field(max_length=20)
    notebook: str = Field(max_length=400, description="A path in the project's repository")
    commit: str | None = Field(None, max_length=200, description="HEAD if not given")
    parameters: dict[str, Any] = Field({}, description="Name → value, as JSON or as text")
    origin: Literal["api", "cli", "portal"] = "api"


def runs_of(request: Request) -> Runs:
    return request.app.state.runs


def _who(request: Request) -> Principal:
    return request.state.principal


@router.get("/runs")
def list_runs(
    request: Request,
    project: str | None = None,
    state: State | None = None,
    cursor: str | None = None,
    limit: int = Query(50, ge=1, le=200),
) -> dict[str, Any]:
    """Runs that you may see, newest first."""
    items, following, total = runs_of(request).page(
        _who(request), project=project, state=state, cursor=cursor, limit=limit
    )
    return {"items": [r.to_json() for r in items], "next": following, "total": total}


@router.post("/runs", status_code=201)
def submit_run(
    request: Request,
    new: NewRun,
    idempotency_key: str | None = Header(None, min_length=1, max_length=100),
) -> dict[str, Any]:
    """Run a notebook. The same `Idempotency-Key` is the same run."""
    run = runs_of(request).submit(
        _who(request),
        project=new.project,
        notebook=new.notebook,
        parameters=new.parameters,
        commit=new.commit,
        key=idempotency_key,
        origin=new.origin,
    )
    return run.to_json()


@router.get("/runs/{run}")
def show_run(request: Request, run: str) -> dict[str, Any]:
    """One run, with the files that are kept of it."""
    found = runs_of(request).find(_who(request), run)
    present = set(request.app.state.files.names(f"runs/{found.id}"))
    return {**found.to_json(), "files": [name for name in FILES if name in present]}


@router.get("/runs/{run}/log")
def read_log(request: Request, run: str, after: int = Query(0, ge=0)) -> dict[str, Any]:
    """The log from a place on: its text, `next` to ask with, and whether it has ended."""
    return runs_of(request).log(_who(request), run, after)


@router.post("/runs/{run}/cancel")
def cancel_run(request: Request, run: str) -> dict[str, Any]:
    """Ask for the end of a run; it is `cancelled` once nothing of it is left."""
    return runs_of(request).cancel(_who(request), run).to_json()


@router.get("/runs/{run}/files/{name}", response_class=Response)
def read_file(request: Request, run: str, name: str) -> Response:
    """A file of a run. Pages come in a sandbox, notebooks as attachments."""
    found = runs_of(request).find(_who(request), run)
    if name not in FILES:
        raise NotFound(f"A run has no file {name!r}; it may have {', '.join(FILES)}.")
    size, pieces = request.app.state.files.stream(file_key(found.id, name))
    headers = {
        "Content-Length": str(size),
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }
    if name.endswith(".ipynb"):
        headers["Content-Disposition"] = f'attachment; filename="{found.id}-{name}"'
    return StreamingResponse(pieces, media_type=FILES[name], headers=headers)


@router.get("/runs/{run}/metrics")
def read_metrics(request: Request, run: str) -> dict[str, Any]:
    """What the notebook logged with MLflow, newest first."""
    return {"items": runs_of(request).metrics(_who(request), run)}
