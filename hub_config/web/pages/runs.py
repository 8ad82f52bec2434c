"""Pages of runs: the list of jobs, and one run."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub_config.errors import Conflict, CuadernoError
from hub_config.identity import Role
from hub_config.jobs.model import FILES, Run, State, file_key
from hub_config.jobs.routes import runs_of
from hub_config.jobs.store import RunStore
from hub_config.web.pages.common import person, render, see
from hub_config.web.texts import text

router = APIRouter()
PAGE = 50
LOG_SHOWN = 400_000  # characters of a log that a page holds; up to 50 MB of it are in log.txt
SETTLE_SECONDS = 20  # metrics of an ended run may still arrive for so long


@router.get("/runs")
def jobs_page(request: Request, project: str = "", state: str = "", cursor: str = "") -> Response:
    app, me = request.app.state, person(request)
    mine = list(app.identity.projects(me))
    wanted = State(state) if state in [str(s) for s in State] else None
    found, following, total = runs_of(request).page(
        me, project=project or None, state=wanted, cursor=cursor or None, limit=PAGE
    )
    chosen = {k: v for k, v in (("project", project), ("state", wanted)) if v}
    base = f"{app.places.prefix}runs?"
    return render(
        request,
        "jobs.html",
        section="jobs",
        runs=found,
        total=total,
        projects=mine,
        project=project,
        states=[str(s) for s in State],
        wanted=wanted,
        older=base + urlencode({**chosen, "cursor": following}) if following else None,
        newest=base + urlencode(chosen) if cursor else None,
    )


@router.get("/runs/{run_id}")
def run_page(request: Request, run_id: str) -> Response:
    app, me = request.app.state, person(request)
    run = runs_of(request).find(me, run_id)
    role = app.identity.require(me, run.project, Role.VIEWER)
    log, after = _log(RunStore(app.engine), run)
    metrics, note = _metrics(request, run)
    prefix = f"{app.places.prefix}api/runs/{run.id}"
    now = time.time()
    settled = run.finished_at is not None and now - run.finished_at > SETTLE_SECONDS
    return render(
        request,
        "run.html",
        section="jobs",
        run=run,
        took=run.duration
        if run.duration is not None or not run.started_at
        else now - run.started_at,
        may_edit=role.includes(Role.EDITOR),
        settled=settled,
        log=log,
        log_after=after,
        metrics=metrics,
        metrics_note=note,
        files=[name for name in FILES if app.files.exists(file_key(run.id, name))],
        api=prefix,
    )


@router.post("/runs/{run_id}/cancel")
def cancel(request: Request, run_id: str) -> Response:
    with suppress(Conflict):  # it ended meanwhile: its page says how
        runs_of(request).cancel(person(request), run_id)
    return see(request, f"runs/{run_id}")


def _log(store: RunStore, run: Run) -> tuple[str, int]:
    """The end of the log so far, and the number of its last piece."""
    pieces: deque[str] = deque()
    size, after = 0, 0
    while found := store.log_after(run.id, after):
        for number, _at, piece in found:
            pieces.append(piece)
            size, after = size + len(piece), number
        while size > LOG_SHOWN and len(pieces) > 1:
            size -= len(pieces.popleft())
    return "".join(pieces)[-LOG_SHOWN:], after


def _metrics(request: Request, run: Run) -> tuple[list[dict[str, Any]], str]:
    """What MLflow has of the run, and what to say where it has nothing."""
    if run.state is State.QUEUED:
        return [], text("run.metrics.wait")
    try:
        found = runs_of(request).metrics(person(request), run.id)
    except CuadernoError as error:
        return [], text("run.metrics.down", detail=error.detail)
    if found:
        origin = request.app.state.places.experiments.removesuffix("/services/mlflow/")
        return [{**m, "link": origin + m["link"]} for m in found], ""
    return [], text("run.metrics.empty" if run.state.ended else "run.metrics.wait")
