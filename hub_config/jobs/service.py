"""The process `jobs` over HTTP, for the platform's own processes and runners; loopback only."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from hub_config.errors import CuadernoError, Forbidden, Invalid, NotFound, Unauthenticated
from hub_config.identity import Principal, Signer
from hub_config.jobs.dispatcher import Dispatcher
from hub_config.jobs.model import State
from hub_config.jobs.parameters import check_names
from hub_config.jobs.placement import Placement
from hub_config.jobs.store import RunStore


class NewRun(BaseModel):
    project: str = Field(max_length=20)
    notebook: str = Field(max_length=400)
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    parameters: dict[str, Any] = {}
    submitted_by: str = Field(max_length=64)
    origin: str = Field(max_length=16)
    idempotency_key: str | None = Field(None, min_length=1, max_length=100)


class By(BaseModel):
    by: str = Field(max_length=64)


class Started(BaseModel):
    host: str = Field(max_length=255)
    pid: int
    pid_started: float


class Progress(BaseModel):
    cells_done: int = Field(ge=0)
    cells_total: int = Field(ge=0)


class LogText(BaseModel):
    text: str = Field(max_length=1_000_000)


class Finished(BaseModel):
    state: State
    reason: str = Field("", max_length=10_000)


def make_app(
    store: RunStore, signer: Signer, placement: Placement, dispatcher: Dispatcher
) -> FastAPI:
    """The application; the dispatcher runs while it does."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await dispatcher.start()
        yield
        await dispatcher.stop()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(CuadernoError)
    async def problem(_: Request, error: CuadernoError) -> JSONResponse:
        return JSONResponse(error.problem(), error.status, media_type="application/problem+json")

    def caller(request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send a token of the platform: `Authorization: Bearer …`.")
        return signer.read(token.strip())

    def service(principal: Principal = Depends(caller)) -> Principal:
        if principal.kind != "service":
            raise Forbidden("Only a service of the platform may do this; ask through the API.")
        return principal

    def runner(attempt: int, principal: Principal = Depends(caller)) -> int:
        if principal.kind != "run" or principal.attempt != attempt:
            raise NotFound(f"There is no attempt {attempt} that you make.")
        return attempt

    @app.get("/health")
    def health() -> dict[str, int]:
        queued, running = store.counts()
        return {
            "workers": placement.workers,
            "slots": placement.slots,
            "running": running,
            "queued": queued,
        }

    @app.post("/runs", status_code=201, dependencies=[Depends(service)])
    def create(new: NewRun) -> dict[str, Any]:
        check_names(new.parameters)
        if not re.fullmatch(r"[^\0\n]+\.ipynb", new.notebook):
            raise Invalid(f"{new.notebook!r} is not a notebook: its name must end in .ipynb.")
        run = store.create(
            project=new.project,
            notebook=new.notebook,
            commit=new.commit,
            parameters=new.parameters,
            submitted_by=new.submitted_by,
            origin=new.origin,
            key=new.idempotency_key,
        )
        dispatcher.notice()
        return run.to_json()

    @app.post("/runs/{run}/cancel", dependencies=[Depends(service)])
    def cancel(run: str, by: By) -> dict[str, Any]:
        cancelled = store.cancel(run, by.by)
        dispatcher.notice()
        return cancelled.to_json()

    @app.post("/attempts/{attempt}/start")
    def start(said: Started, attempt: int = Depends(runner)) -> dict[str, State]:
        return {"target": store.start(attempt, **said.model_dump())}

    @app.post("/attempts/{attempt}/heartbeat")
    def heartbeat(said: Progress, attempt: int = Depends(runner)) -> dict[str, State]:
        return {"target": store.heartbeat(attempt, **said.model_dump())}

    @app.post("/attempts/{attempt}/log")
    def log(said: LogText, attempt: int = Depends(runner)) -> dict[str, State]:
        return {"target": store.log(attempt, said.text)}

    @app.post("/attempts/{attempt}/finish")
    def finish(said: Finished, attempt: int = Depends(runner)) -> dict[str, State]:
        run = store.finish(attempt, said.state, said.reason)
        placement.forget(attempt)
        dispatcher.notice(run.project)
        return {"target": run.target}

    return app
