"""The ASGI application: who asks, then MLflow; and the headers of what goes out.

Open without sign-in are exactly two paths, compared as whole strings: health and the end of the
sign-in. A path that is not written plainly (`//`, `/../`, `\\`) reaches nothing at all.
"""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from typing import Any

import anyio
from flask import Flask
from flask import Response as FlaskResponse
from flask import request as flask_request
from mlflow.exceptions import MlflowException
from mlflow.server import artifact_router
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.types import Receive, Scope, Send

from hub_config.errors import CuadernoError, NotFound, Unauthenticated
from hub_config.identity import Identity, Role
from hub_config.oauth import HubSignIn
from hub_config.tracking import pages
from hub_config.tracking.bridge import call_flask
from hub_config.tracking.guard import EmptyRegistry, GuardedStore
from hub_config.tracking.ownership import Caller, set_caller
from hub_config.tracking.routes import check_artifact, check_route
from hub_config.tracking.server import PREFIX, Mlflow

log = logging.getLogger("cuaderno.tracking")

# Requests that only read, though MLflow takes them by POST.
READS_BY_POST = ("/search", "/graphql")
HEALTH, CALLBACK = f"{PREFIX}/health", f"{PREFIX}/oauth_callback"
ARTIFACTS = tuple(f"{PREFIX}/{api}/2.0/mlflow-artifacts/artifacts/" for api in ("api", "ajax-api"))
# The words that MLflow's clients know errors by.
ERROR_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "INVALID_PARAMETER_VALUE",
    422: "INVALID_PARAMETER_VALUE",
    503: "TEMPORARILY_UNAVAILABLE",
}


def problem(error: CuadernoError) -> dict[str, Any]:
    """Problem details which MLflow's clients can read too."""
    code = ERROR_CODES.get(error.status, "INTERNAL_ERROR")
    return {**error.problem(), "error_code": code, "message": error.detail}


def guard_flask(mlflow: Mlflow) -> Flask:
    """MLflow's Flask application, with guarded stores and the table of routes in front."""
    store = GuardedStore(mlflow.store)
    mlflow.handlers._tracking_store = store
    mlflow.handlers._model_registry_store = EmptyRegistry()
    app = mlflow.flask

    @app.before_request
    def check() -> None:
        asked = flask_request
        if asked.endpoint is None or asked.url_rule is None:
            raise NotFound("There is no such page in MLflow.")
        check_route(asked.endpoint, asked.url_rule.rule, asked.view_args or {}, asked.args, store)

    # First, before anything of MLflow's own.
    app.before_request_funcs[None].insert(0, app.before_request_funcs[None].pop())

    @app.errorhandler(CuadernoError)
    def refused(error: CuadernoError) -> FlaskResponse:
        return FlaskResponse(
            json.dumps(problem(error)), error.status, content_type="application/problem+json"
        )

    @app.errorhandler(MlflowException)
    def failed(error: MlflowException) -> FlaskResponse:
        return FlaskResponse(
            error.serialize_as_json(), error.get_http_status_code(), mimetype="application/json"
        )

    return app


class TrackingApp:
    """MLflow behind the hub's identity, as one ASGI application."""

    def __init__(self, mlflow: Mlflow, identity: Identity, sign_in: HubSignIn) -> None:
        self._flask = guard_flask(mlflow)
        self._store: GuardedStore = mlflow.handlers._tracking_store
        self._index = pages.index(self._flask.static_folder or "")
        self._identity = identity
        self._sign_in = sign_in
        # MLflow reads before it writes, in one transaction. On SQLite two of these at once end in
        # "database is locked", at once and whatever the timeout, and clients that log
        # asynchronously then drop what they sent. This process is the only writer: one at a time.
        one_at_a_time = mlflow.store.engine.dialect.name == "sqlite"
        self._writing = anyio.Lock() if one_at_a_time else nullcontext()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except CuadernoError as error:
            answer = self._refusal(request, error)
        except MlflowException as error:
            content = json.loads(error.serialize_as_json())
            answer = JSONResponse(content, error.get_http_status_code())
        except HTTPException as error:  # of MLflow's streaming functions
            content = {
                "error_code": ERROR_CODES.get(error.status_code, ""),
                "message": error.detail,
            }
            answer = JSONResponse(content, error.status_code)
        self._secure(scope["path"], answer)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        if path == HEALTH:
            return PlainTextResponse("OK")
        if path == PREFIX:
            return RedirectResponse(PREFIX + "/", 307)
        inside = path.startswith(PREFIX + "/")
        if not inside or "\\" in path or "//" in path or {".", ".."} & set(path.split("/")):
            raise NotFound("There is no such page here.")
        if path == CALLBACK:
            return await self._sign_in.callback(request)
        token = self._sign_in.token(request)
        principal = await run_in_threadpool(self._identity.principal, token)
        self._sign_in.refuse_cross_site(request)
        set_caller(Caller(principal, self._identity))
        if path == pages.INDEX:
            return HTMLResponse(self._index)
        if path == pages.FIRST_VISIT:
            return Response(pages.first_visit(), media_type="text/javascript")
        for prefix in ARTIFACTS:
            if path.startswith(prefix) and request.method in ("GET", "PUT"):
                return await self._artifact(request, path.removeprefix(prefix))
        if request.method == "GET" or path.endswith(READS_BY_POST):
            return await call_flask(self._flask, request)
        async with self._writing:
            return await call_flask(self._flask, request)

    async def _artifact(self, request: Request, path: str) -> Response:
        """An artifact by its path, streamed: uploads may be larger than memory."""
        needed = Role.VIEWER if request.method == "GET" else Role.EDITOR
        clean = await run_in_threadpool(check_artifact, path, needed, self._store)
        if request.method == "GET":
            return await artifact_router.download_artifact(clean)
        return await artifact_router.upload_artifact(clean, request)

    def _refusal(self, request: Request, error: CuadernoError) -> Response:
        opens_a_page = (
            request.method == "GET"
            and self._sign_in.is_browser(request)
            and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
            and "text/html" in request.headers.get("accept", "")
        )
        path = request.scope["path"]
        if isinstance(error, Unauthenticated) and opens_a_page and path != CALLBACK:
            return self._sign_in.redirect(request)
        return JSONResponse(problem(error), error.status, media_type="application/problem+json")

    @staticmethod
    def _secure(path: str, answer: Response) -> None:
        answer.headers["content-security-policy"] = pages.policy(path)
        answer.headers["x-content-type-options"] = "nosniff"
        answer.headers["referrer-policy"] = "same-origin"
        if not path.startswith(pages.STATIC):
            answer.headers.setdefault("cache-control", "no-store")
