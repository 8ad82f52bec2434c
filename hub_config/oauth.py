"""Signing in to a service of ours with the hub: the OAuth dance.

`SignIn` is the dance without a web framework, `HubSignIn` the one for ASGI applications. It owns
three things under a service's prefix: the redirect to the hub, the callback and the cookie. The
cookie holds the hub's access token: HttpOnly, SameSite=Lax, only for this prefix. A state cookie
ties the callback to the browser that began, a PKCE verifier ties the code to it, and the page to
return to must lie under the prefix.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from hub_config.errors import Forbidden, Unauthenticated, Unavailable
from hub_config.keys import secret
from hub_config.settings import Settings, load_addresses

COOKIE_DAYS = 14  # as long as the hub's own token lives
STATE_SECONDS = 600


def shown_token(header: str | None) -> str | None:
    """The token in `Authorization: Bearer|token …`; None for no header and for any other scheme.

    The one reading of this header: who shows a token is a program, all others come by cookie.
    """
    scheme, _, value = (header or "").partition(" ")
    return value.strip() or None if scheme.lower() in ("bearer", "token") else None


class SignIn:
    """The dance itself, for the hub service `service`; knows no web framework.

    Whoever speaks HTTP keeps two cookies: `state_cookie` between `begin` and `finish`, and
    `client_id` with the token; both with `cookie_attributes`.
    """

    def __init__(self, settings: Settings, service: str) -> None:
        self.prefix = f"/services/{service}/"
        self.client_id = f"service-{service}"
        self.state_cookie = f"{self.client_id}-state"
        self._redirect_uri = f"{settings.service_origin(service)}{self.prefix}oauth_callback"
        self._secret = secret(settings, f"service-{service}")
        self._token_url = load_addresses(settings).url("hub") + "/hub/api/oauth2/token"
        self._hub_url = settings.base_url if settings.hub.subdomain_host else ""
        self._secure = settings.base_url.startswith("https://")

    def cookie_attributes(self) -> dict[str, Any]:
        return {"path": self.prefix, "secure": self._secure, "httponly": True, "samesite": "lax"}

    def begin(self, target: str) -> tuple[str, str]:
        """The hub's address to send a browser to, and the state to keep until it comes back.

        `target` is the page to return to: a path, with its query.
        """
        verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        digest = hashlib.sha256(verifier.encode()).digest()
        query = urlencode(
            {
                "client_id": self.client_id,
                "redirect_uri": self._redirect_uri,
                "response_type": "code",
                "state": nonce,
                "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
                "code_challenge_method": "S256",
            }
        )
        value = "|".join((nonce, verifier, self.local(target)))
        state = base64.urlsafe_b64encode(value.encode()).decode()
        return f"{self._hub_url}/hub/api/oauth2/authorize?{query}", state

    async def finish(self, kept: str, state: str, code: str) -> tuple[str, str]:
        """Code → token; the token and the page first asked for.

        `kept` is the state cookie; `state` and `code` are what the hub sent along, or empty.
        """
        try:
            nonce, verifier, target = base64.urlsafe_b64decode(kept).decode().split("|", 2)
        except ValueError as error:
            raise Unauthenticated("The sign-in took too long. Open the page again.") from error
        if not hmac.compare_digest(nonce.encode(), state.encode()):
            raise Unauthenticated("This sign-in began in another browser. Open the page again.")
        if not code:
            raise Forbidden("The hub did not let you in here.")
        form = {
            "client_id": self.client_id,
            "client_secret": self._secret,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        try:
            async with httpx.AsyncClient(timeout=15) as client:
                said = await client.post(self._token_url, data=form)
        except httpx.HTTPError as error:
            raise Unavailable("The hub is not answering; try again in a moment.") from error
        if said.status_code != 200:
            raise Unauthenticated("The hub did not accept this sign-in. Open the page again.")
        return said.json()["access_token"], self.local(target)

    def local(self, target: str) -> str:
        """`target` if it is a page under our prefix, else our first page."""
        if target.startswith(self.prefix) and "\\" not in target and "//" not in target[:2]:
            return target
        return self.prefix


class HubSignIn(SignIn):
    """`SignIn` for an ASGI application, mounted at `/services/<service>/`."""

    def token(self, request: HTTPConnection) -> str | None:
        """The token a request carries: `Authorization: Bearer|token …`, else our cookie."""
        shown = shown_token(request.headers.get("authorization"))
        return shown or request.cookies.get(self.client_id)

    def is_browser(self, request: HTTPConnection) -> bool:
        """Whether the request comes by cookie, so that another site might have caused it."""
        return shown_token(request.headers.get("authorization")) is None

    def refuse_cross_site(self, request: Request) -> None:
        """Raise `Forbidden` for a request that changes something and that another site caused."""
        if request.method in ("GET", "HEAD", "OPTIONS") or not self.is_browser(request):
            return
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            same = site == "same-origin"
        else:
            origin = request.headers.get("origin") or request.headers.get("referer") or ""
            same = urlsplit(origin).netloc == request.headers.get("host")
        if not same:
            raise Forbidden("This request came from another site, so nothing was done.")

    def redirect(self, request: Request) -> Response:
        """Send a browser to the hub, to come back to the page it asked for."""
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        url, state = self.begin(target)
        answer = RedirectResponse(url, 302)
        answer.set_cookie(self.state_cookie, state, STATE_SECONDS, **self.cookie_attributes())
        return answer

    async def callback(self, request: Request) -> Response:
        """Finish the dance: code → token → cookie → the page first asked for."""
        said = request.query_params
        token, target = await self.finish(
            request.cookies.get(self.state_cookie, ""), said.get("state", ""), said.get("code", "")
        )
        answer = RedirectResponse(target, 302)
        answer.set_cookie(self.client_id, token, COOKIE_DAYS * 86400, **self.cookie_attributes())
        answer.delete_cookie(self.state_cookie, path=self.prefix)
        return answer

    def sign_out(self, answer: Response) -> None:
        answer.delete_cookie(self.client_id, path=self.prefix)
