"""The routes of the process `dashboards`: pages, progress, and the guarded ways to a kernel.

Everything of Voila and Jupyter Server that is not named in `server.py` does not exist here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from tornado.web import HTTPError, authenticated
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from hub_config.dashboards import catalogue
from hub_config.dashboards.signin import HubIdentityProvider, SignedIn, from_own_page
from hub_config.dashboards.views import View
from hub_config.errors import CuadernoError, Forbidden, Unauthenticated
from hub_config.identity import Principal, Role

if TYPE_CHECKING:
    from hub_config.dashboards.server import Dashboards

POLL_SECONDS = 5.0
# Scripts of the notebook run here, and Voila evaluates code; but nothing comes from or goes to
# another site, and no other page may frame this one.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)


class Guarded:
    """What our handlers share: who asks, which view is theirs, how an error looks."""

    @property
    def dashboards(self) -> Dashboards:
        return cast("Dashboards", self.settings["dashboards"])  # type: ignore[attr-defined]

    @property
    def principal(self) -> Principal:
        user = self.current_user  # type: ignore[attr-defined]
        if not isinstance(user, SignedIn) or user.principal is None:
            raise Unauthenticated("Sign in first.")
        return user.principal

    async def own_view_of(self, kernel_id: str) -> View:
        """The asker's view behind a kernel. Raises `NotFound`, for other people's too."""
        try:
            view = self.dashboards.views.of_kernel(kernel_id, self.principal)
            await self.require_member(view)
        except CuadernoError as error:
            raise HTTPError(error.status, error.detail) from error
        return view

    async def require_member(self, view: View) -> Role:
        """The asker's role, now: a membership may end while a tab is open."""
        return await asyncio.to_thread(
            self.dashboards.identity.require, self.principal, view.dashboard.project, Role.VIEWER
        )


class PageHandler(Guarded, JupyterHandler):
    """Pages for people: signs in whoever is not, and shows every error as a page."""

    @property
    def content_security_policy(self) -> str:
        return POLICY

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def get_login_url(self) -> str:
        provider = cast(HubIdentityProvider, self.identity_provider)
        if provider.is_token_authenticated(self):
            raise Unauthenticated("This token is not valid, or no longer.")
        return provider.begin(self)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, CuadernoError):
            super().log_exception(typ, value, tb)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, CuadernoError):
            status_code, title, detail = error.status, error.title, error.detail
        elif status_code == 404:
            title, detail = "Not found", "There is no such page here."
        else:
            title, detail = "This did not work", "Reload the page, or try again in a moment."
        self.set_status(status_code)
        self.finish(self.dashboards.pages.message(title, detail))


class FirstPage(PageHandler):
    @allow_unauthenticated
    def get(self) -> None:
        """The list of dashboards is a page of the portal."""
        self.redirect(self.dashboards.pages.catalogue_url)


class Callback(PageHandler):
    @allow_unauthenticated
    async def get(self) -> None:
        target = await cast(HubIdentityProvider, self.identity_provider).finish(self)
        self.redirect(target)


class Health(PageHandler):
    @allow_unauthenticated
    def get(self) -> None:
        self.finish({"status": "ok", "views": len(self.dashboards.views)})

    async def prepare(self, **_kwargs: Any) -> None:
        """Nobody is asked for: the hub may be down while we are well."""


class Open(PageHandler):
    """`<project>/<name>`: starts a view and answers at once with a page that waits for it."""

    @authenticated
    async def get(self, project: str, name: str) -> None:
        principal, own = self.principal, self.dashboards
        await asyncio.to_thread(own.identity.require, principal, project, Role.VIEWER)
        if principal.kind not in ("person", "operator"):
            raise Forbidden("Only people open dashboards.")
        dashboard = await asyncio.to_thread(catalogue.find, own.deployment, project, name)
        view = own.open(dashboard, principal, self.request)
        self.finish(own.pages.waiting(view))


class Progress(Guarded, APIHandler):
    """`api/views/<id>`: what is being done; also how a page learns that its kernel is gone."""

    async def get(self, id: str) -> None:
        try:
            view = self.dashboards.views.get(id, self.principal)
            await self.require_member(view)
            after = int(self.get_query_argument("after", "-1"))
        except CuadernoError as error:
            raise HTTPError(error.status, error.detail) from error
        except ValueError as error:
            raise HTTPError(400, "`after` must be a whole number.") from error
        self.finish(await view.progress(after, POLL_SECONDS))


class Rendered(PageHandler):
    """`api/views/<id>/page`: the page of a finished view, once, with its true status."""

    @authenticated
    async def get(self, id: str) -> None:
        view = self.dashboards.views.get(id, self.principal)
        await self.require_member(view)
        page = view.take_page()
        if page is None:
            self.redirect(view.address)
            return
        if view.status != 200:
            await self.dashboards.end(view, "its page was shown")
        self.set_status(view.status)
        self.finish(page)


class Kernel(Guarded, KernelHandler):
    """A kernel's model, for its owner. Ending it goes through `Shutdown`."""

    @authenticated
    async def get(self, kernel_id: str) -> None:
        await self.own_view_of(kernel_id)
        await ensure_async(super().get(kernel_id))

    def delete(self, kernel_id: str) -> None:
        raise HTTPError(405)


class Channels(Guarded, VoilaKernelWebsocketHandler):
    """A kernel's websocket, for its owner and from our own pages only."""

    view: View | None = None

    def check_origin(self, origin: str | None = None) -> bool:
        return from_own_page(self)

    async def pre_get(self) -> None:
        # Tornado compares the origin only when it upgrades; a kernel must not hear of it before.
        if not self.check_origin():
            raise HTTPError(403, "This request came from another site.")
        view = await self.own_view_of(self.kernel_id)
        await super().pre_get()
        self.view = view

    async def open(self, kernel_id: str) -> None:
        if self.view is not None:
            self.view.sockets.add(self)
        await super().open(kernel_id)

    def on_close(self) -> None:
        if self.view is not None:
            self.view.detach(self)
        super().on_close()


class Shutdown(Guarded, APIHandler):
    """The beacon of a tab that closes."""

    def check_xsrf_cookie(self) -> None:
        """A beacon carries no token of ours; that it comes from our own page must do."""
        if not from_own_page(self):
            raise HTTPError(403, "This request came from another site.")

    @authenticated
    async def post(self, kernel_id: str) -> None:
        view = await self.own_view_of(kernel_id)
        await self.dashboards.end(view, "its tab was closed")
        self.set_status(204)
        self.finish()
