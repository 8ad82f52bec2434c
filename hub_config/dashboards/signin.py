"""Who is at the browser: the hub's sign-in, for the handlers of Voila and Jupyter Server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from jupyter_server.auth.identity import IdentityProvider, User
from tornado.web import RequestHandler

from hub_config.errors import Unauthenticated
from hub_config.identity import Identity, Principal
from hub_config.oauth import COOKIE_DAYS, STATE_SECONDS, SignIn, shown_token


@dataclass
class SignedIn(User):
    """A Jupyter user that remembers the principal behind it."""

    principal: Principal | None = None


class HubIdentityProvider(IdentityProvider):
    """Asks `identity` who holds the token of a request; knows no passwords and no own tokens."""

    identity: Identity
    sign_in: SignIn

    async def _get_user(self, handler: RequestHandler) -> User | None:
        try:
            principal = await asyncio.to_thread(self.identity.principal, self.token_of(handler))
        except Unauthenticated:
            return None
        name = f"{principal.kind}:{principal.name}"
        return SignedIn(username=name, name=principal.name, principal=principal)

    def token_of(self, handler: RequestHandler) -> str | None:
        shown = shown_token(handler.request.headers.get("Authorization"))
        return shown or handler.get_cookie(self.sign_in.client_id)

    def is_token_authenticated(self, handler: RequestHandler) -> bool:
        return shown_token(handler.request.headers.get("Authorization")) is not None

    @property
    def auth_enabled(self) -> bool:
        return True

    def get_handlers(self) -> list[tuple[str, object]]:
        return []

    def begin(self, handler: RequestHandler) -> str:
        """Where to send the browser to sign in; leaves the state cookie."""
        url, state = self.sign_in.begin(handler.request.uri or "")
        attributes: dict[str, Any] = self.sign_in.cookie_attributes()
        handler.set_cookie(self.sign_in.state_cookie, state, max_age=STATE_SECONDS, **attributes)
        return url

    async def finish(self, handler: RequestHandler) -> str:
        """After the hub sent the browser back: keep its token; the page first asked for."""
        token, target = await self.sign_in.finish(
            handler.get_cookie(self.sign_in.state_cookie, "") or "",
            handler.get_query_argument("state", ""),
            handler.get_query_argument("code", ""),
        )
        attributes: dict[str, Any] = self.sign_in.cookie_attributes()
        handler.set_cookie(self.sign_in.client_id, token, max_age=COOKIE_DAYS * 86400, **attributes)
        handler.clear_cookie(self.sign_in.state_cookie, path=self.sign_in.prefix)
        return target


def from_own_page(handler: RequestHandler) -> bool:
    """Whether a request that may change something was caused by a page of this very origin.

    A program that shows a token in `Authorization` was not caused by any page. Browsers send
    `Origin` with every websocket and every post, so its absence is no excuse.
    """
    if shown_token(handler.request.headers.get("Authorization")):
        return True
    origin = handler.request.headers.get("Origin")
    return bool(origin) and urlsplit(origin).netloc.lower() == handler.request.host.lower()
