"""What every request passes: who asks, from where, how much; and what every answer bears.

In this order: a request id; a limit on the body; the principal (`request.state.principal`), except
on the few public paths; refusal of what another site caused. Every answer gets the security
headers. An error becomes problem details under `api/` and a calm page elsewhere; a browser without
sign-in that asks for a page goes to the hub and comes back.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub_config.errors import CuadernoError, NotFound, TooManyRequests, Unauthenticated
from hub_config.identity import Identity
from hub_config.oauth import HubSignIn

log = logging.getLogger(__name__)

MAX_BODY = 1024 * 1024
PUBLIC = frozenset(
    {"api/health", "api/openapi.json", "api/accounts/signup", "signup", "oauth_callback", "logout"}
)
# What a browser sends with every unsafe request (one of the first three) or with our sign-in. A
# request without any is a program's that signs up: there is no sign-in that it could abuse.
BROWSER_HEADERS = ("sec-fetch-site", "origin", "referer", "cookie")
PUBLIC_FOLDER = "static/"
# Set while a browser whose sign-in was refused goes to the hub, so that it goes there once only.
AGAIN_COOKIE = "cuaderno-again"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'{}; "
    "base-uri 'none'; frame-ancestors 'none'"
)

ErrorPage = Callable[[Request, CuadernoError], Response]


class TooLarge(CuadernoError):
    status = 413
    title = "Too much was sent"


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        identity: Identity,
        sign_in: HubSignIn,
        error_page: ErrorPage,
        other_origins: str = "",
    ) -> None:
        """`other_origins`: where besides here a form may lead (hub and Lab, with subdomains)."""
        self._app = app
        self._identity = identity
        self._sign_in = sign_in
        self._error_page = error_page
        self._policy = PAGE_POLICY.format(other_origins and f" {other_origins}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.request_id = secrets.token_hex(8)
        request.state.principal = None
        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                added = {**HEADERS, "x-request-id": request.state.request_id}
                added["cache-control"] = self._cache(request)
                message["headers"] = _with_headers(message["headers"], added, self._policy)
            await send(message)

        try:
            await self._admit(request)
            if scope["method"] == "HEAD":  # as GET; the server leaves the body out
                scope = {**scope, "method": "GET"}
            await self._app(scope, _limited(receive), guarded_send)
        except CuadernoError as error:
            if started:
                raise
            await self.answer(request, error)(scope, receive, guarded_send)
        except Exception:
            log.exception(
                "Request %s %s %s failed.",
                request.state.request_id,
                request.method,
                request.url.path,
                extra={"action": "request-failed"},
            )
            if started:
                raise
            failure = CuadernoError(
                "The platform failed on this request. An administrator finds it in the log of web "
                f"under {request.state.request_id}."
            )
            await self.answer(request, failure)(scope, receive, guarded_send)

    def answer(self, request: Request, error: CuadernoError) -> Response:
        """An error as the asker understands it."""
        if self._relative(request).startswith("api/"):
            problem = {**error.problem(), "request_id": request.state.request_id}
            answer = JSONResponse(problem, error.status, media_type="application/problem+json")
            if isinstance(error, Unauthenticated):
                answer.headers["www-authenticate"] = "Bearer"
            if isinstance(error, TooManyRequests) and "retry_after" in error.extra:
                answer.headers["retry-after"] = str(int(error.extra["retry_after"]))
            return answer
        if isinstance(error, Unauthenticated) and request.method in ("GET", "HEAD"):
            refused = self._sign_in.token(request) is not None
            if not (refused and request.cookies.get(AGAIN_COOKIE)):
                answer_ = self._sign_in.redirect(request)
                if refused:
                    answer_.set_cookie(
                        AGAIN_COOKIE,
                        "1",
                        max_age=20,
                        path=self._sign_in.prefix,
                        httponly=True,
                        samesite="lax",
                    )
                return answer_
        return self._error_page(request, error)

    async def _admit(self, request: Request) -> None:
        declared = request.headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > MAX_BODY:
            raise _too_large()
        path = self._relative(request)
        if not request.url.path.startswith(self._sign_in.prefix):
            raise NotFound(f"There is nothing at {request.url.path}.")
        public = path in PUBLIC or path.startswith(PUBLIC_FOLDER)
        if not public:
            token = self._sign_in.token(request)
            request.state.principal = await anyio.to_thread.run_sync(
                self._identity.principal, token
            )
        if any(name in request.headers for name in BROWSER_HEADERS):
            self._sign_in.refuse_cross_site(request)

    def _cache(self, request: Request) -> str:
        """Our own files are kept: for good under an address that names their content."""
        if not self._relative(request).startswith(PUBLIC_FOLDER):
            return "no-store"
        return "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"

    def _relative(self, request: Request) -> str:
        return request.url.path.removeprefix(self._sign_in.prefix)


def _too_large() -> TooLarge:
    return TooLarge(f"A request here may hold {MAX_BODY // 1024} KiB; this one holds more.")


def _limited(receive: Receive) -> Receive:
    """`receive`, which counts what a body without a declared length holds."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY:
            raise _too_large()
        return message

    return counted


def _with_headers(
    headers: Iterable[tuple[bytes, bytes]], added: dict[str, str], policy: str
) -> list[tuple[bytes, bytes]]:
    """`headers` and those of `added` that are not there; a policy of its own stays alone."""
    present = {name.lower() for name, _value in headers}
    if b"content-security-policy" not in present:
        added |= {"content-security-policy": policy, "x-frame-options": "DENY"}
    more = [(k.encode(), v.encode()) for k, v in added.items() if k.encode() not in present]
    return [*headers, *more]
