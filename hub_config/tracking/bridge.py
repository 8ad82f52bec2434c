"""A Flask application inside an ASGI one: the request's body in, the answer's body streamed out.

Only small bodies come this way (MLflow allows 1 MB for a batch and 10 MB for a file from its
pages); artifacts go around it. So the body is kept in memory, up to `MAX_BODY`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from typing import Any

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

from hub_config.errors import CuadernoError

MAX_BODY = 32 * 2**20


class TooLarge(CuadernoError):
    status = 413
    title = "The request is too large"


async def call_flask(app: Callable[..., Iterable[bytes]], request: Request) -> Response:
    """The answer of the WSGI application `app`, run in a thread with this request's context."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise TooLarge(f"A request may hold {MAX_BODY // 2**20} MB; send files as artifacts.")
    environ = wsgi_environ(request, bytes(body))
    chunks, status, headers = await run_in_threadpool(_run, app, environ)
    close = getattr(chunks, "close", None)

    async def stream() -> Any:
        try:
            async for chunk in iterate_in_threadpool(chunks):
                yield chunk
        finally:
            if close:
                await run_in_threadpool(close)

    answer = StreamingResponse(stream(), status_code=int(status.split(" ", 1)[0]))
    answer.raw_headers = [(k.lower().encode("latin1"), v.encode("latin1")) for k, v in headers]
    return answer


def _run(app: Any, environ: dict[str, Any]) -> tuple[Iterable[bytes], str, Headers]:
    return run_wsgi_app(app, environ)


def wsgi_environ(request: Request, body: bytes) -> dict[str, Any]:
    scope = request.scope
    host, port = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8").decode("latin1"),
        "QUERY_STRING": scope["query_string"].decode("latin1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ
