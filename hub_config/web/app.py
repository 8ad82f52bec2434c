"""The application: everything that the process `web` serves is put together here, and only here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from hub_config.accounts.routes import router as accounts_router
from hub_config.dashboards.routes import router as dashboards_router
from hub_config.errors import CuadernoError, Invalid, NotFound
from hub_config.identity import open_identity
from hub_config.jobs.routes import router as jobs_router
from hub_config.jobs.submission import Runs
from hub_config.oauth import HubSignIn
from hub_config.projects.hub import Hub
from hub_config.projects.reconciler import Reconciler
from hub_config.projects.routes import router as projects_router
from hub_config.settings import Settings
from hub_config.storage.database import open_database
from hub_config.storage.files import FileStore
from hub_config.web import health, notebooks
from hub_config.web.first_start import FirstStart
from hub_config.web.guard import Guard
from hub_config.web.pages import router as pages_router
from hub_config.web.places import Places
from hub_config.web.view import View

PREFIX = "/services/cuaderno"
STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings) -> FastAPI:
    """The app of a running platform: its addresses and secrets must be there."""
    engine = open_database(settings.database_url)
    identity = open_identity(settings, "cuaderno", engine)
    sign_in = HubSignIn(settings, "cuaderno")
    hub = Hub(settings)
    reconciler = Reconciler(engine, hub)
    runs = Runs(settings, engine, identity)
    first_start = FirstStart(engine, settings, runs)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        first_start.start()
        reconciler.start()
        yield
        first_start.stop()
        reconciler.stop()
        engine.dispose()

    app = FastAPI(
        title="Cuaderno",
        version="0.1.0",
        openapi_url=f"{PREFIX}/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.settings, app.state.engine, app.state.identity = settings, engine, identity
    app.state.files, app.state.runs = FileStore(settings.artifacts_url), runs
    app.state.sign_in, app.state.hub, app.state.reconciler = sign_in, hub, reconciler
    places = Places(settings, sign_in.prefix)
    app.state.places, app.state.view = places, (view := View(settings, places))

    for router in (
        health.router,
        accounts_router,
        projects_router,
        notebooks.router,
        jobs_router,
        dashboards_router,
    ):
        app.include_router(router, prefix=f"{PREFIX}/api")
    app.mount(f"{PREFIX}/static", StaticFiles(directory=STATIC), name="static")

    @app.get(f"{PREFIX}/oauth_callback", include_in_schema=False)
    async def oauth_callback(request: Request) -> Response:
        return await sign_in.callback(request)

    @app.get(PREFIX, include_in_schema=False)
    def with_slash() -> Response:
        return RedirectResponse(f"{PREFIX}/", 308)

    app.include_router(pages_router, prefix=PREFIX, include_in_schema=False)

    app.add_exception_handler(RequestValidationError, _raise_invalid)
    app.add_exception_handler(HTTPException, _raise_http)
    app.add_middleware(
        Guard,
        identity=identity,
        sign_in=sign_in,
        error_page=view.error,
        other_origins=places.other_origins,
    )
    return app


# FastAPI's own errors become ours and rise to the guard, which answers all of them alike.


def _raise_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [
        {"field": ".".join(str(part) for part in e["loc"][1:]), "message": e["msg"]}
        for e in error.errors()
    ]
    first = found[0] if found else {"field": "", "message": "not valid"}
    raise Invalid(f"{first['field'] or 'The body'}: {first['message']}.", errors=found)


def _raise_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, CuadernoError):  # the guard's, met while the body was read
        raise error.__cause__
    if error.status_code == 404:
        raise NotFound(f"There is nothing at {request.url.path}.")
    raised = CuadernoError(str(error.detail))
    raised.status, raised.title = error.status_code, str(error.detail)
    raise raised
