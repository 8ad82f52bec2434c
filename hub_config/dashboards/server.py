"""The process `dashboards`: Voila's standalone application, with our routes and our rules.

Standalone, and not an extension of Jupyter Server, since only so Voila keeps a viewer's websocket
to messages about widgets: no code from a browser reaches a kernel. The routes are listed one by
one, so that no contents, terminals, sessions or progressive execution exist here to be guarded.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any

import tornado.web
from jupyter_server.base.handlers import FileFindHandler
from jupyterlab_server.themes_handler import ThemesHandler
from tornado.httputil import HTTPServerRequest
from voila.app import Voila
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.utils import get_page_config

from hub_config.dashboards import handlers, trees
from hub_config.dashboards.catalogue import PREFIX, SERVICE, Dashboard
from hub_config.dashboards.environment import DASHBOARDS_MARK, kernel_environment
from hub_config.dashboards.pages import STATIC, STATIC_URL, TEMPLATES, Pages
from hub_config.dashboards.rendering import KERNEL, RENDER_SECONDS, CellFailed, DashboardRenderer
from hub_config.dashboards.signin import HubIdentityProvider
from hub_config.dashboards.views import State, View, Views
from hub_config.errors import CuadernoError
from hub_config.identity import Identity, Principal, Role, Signer
from hub_config.keys import secret
from hub_config.node.processes import end_marked
from hub_config.oauth import SignIn
from hub_config.settings import Settings, load_addresses
from hub_config.storage.repository import project_repository

SWEEP_SECONDS = 5.0
PRUNE_SECONDS = 600.0
START_SECONDS = 60
# What a page may say to its kernel. Not among them: anything that runs code or ends the kernel.
WIDGET_MESSAGES = [
    "comm_open",
    "comm_close",
    "comm_msg",
    "comm_info_request",
    "kernel_info_request",
]
# The front ends that draw widgets; Lab's other extensions have no work on a dashboard.
EXTENSIONS = [
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
    "jupyterlab-plotly",
]
KERNEL_ID = r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)"

log = logging.getLogger("cuaderno.dashboards")


class Dashboards(Voila):
    """Voila for the dashboards of all projects."""

    deployment: Settings
    identity: Identity
    signer: Signer
    views: Views
    pages: Pages

    def begin(self, deployment: Settings, identity: Identity, views: Views | None = None) -> None:
        """Set up everything but the socket."""
        self.deployment, self.identity = deployment, identity
        self.signer = Signer(secret(deployment, "platform-key"))
        self.views = views or Views()
        self.pages = Pages(deployment)
        self.base_url = PREFIX
        self.root_dir = str(trees.folder(deployment))
        self.identity_provider_class = HubIdentityProvider
        self.token = ""
        self.config.KernelManager.transport = "ipc"
        self.config.KernelManager.autorestart = False  # an empty kernel serves no page
        self.config.KernelSpecManager.ensure_native_kernel = False
        self.config.VoilaConfiguration.extension_allowlist = EXTENSIONS
        self.config.VoilaExecutor.startup_timeout = START_SECONDS
        self.config_file_paths: list[str] = []  # nobody's ~/.jupyter/voila.json decides here
        self.initialize([])
        self.template_paths.insert(0, str(TEMPLATES))
        # Kernels' sockets lie in a folder short enough for their names, and only for us.
        deployment.runtime_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.connection_dir = str(deployment.runtime_dir)
        self.app = tornado.web.Application(**self.init_settings())
        self.app.add_handlers(".*$", self.init_handlers())

    def init_settings(self) -> dict[str, Any]:
        settings = super().init_settings()
        self.kernel_spec_manager.kernel_dirs = [str(self.deployment.jupyter_dir / "kernels")]
        self.kernel_manager.allowed_message_types = WIDGET_MESSAGES
        self.identity_provider.identity = self.identity
        self.identity_provider.sign_in = SignIn(self.deployment, SERVICE)
        # Without an address for MathJax, Voila draws formulas with the one it brings along.
        none = {"mathjax_url": None, "mathjax_config": None}
        return {**settings, **none, "dashboards": self, "compress_response": True}

    def init_handlers(self) -> list[Any]:
        anything = r"(.*)"
        themes = {
            "themes_url": "/voila/api/themes",
            "path": self.themes_dir,
            "labextensions_path": self.labextensions_path,
            "no_cache_paths": [],
        }
        return [
            (PREFIX.rstrip("/") + "/?", handlers.FirstPage),
            (f"{PREFIX}health", handlers.Health),
            (f"{PREFIX}oauth_callback", handlers.Callback),
            (f"{PREFIX}api/views/([0-9a-f]+)", handlers.Progress),
            (f"{PREFIX}api/views/([0-9a-f]+)/page", handlers.Rendered),
            (f"{PREFIX}api/kernels/{KERNEL_ID}", handlers.Kernel),
            (f"{PREFIX}api/kernels/{KERNEL_ID}/channels", handlers.Channels),
            (f"{PREFIX}voila/api/shutdown/{KERNEL_ID}", handlers.Shutdown),
            # Files of the programs, the same for everybody and nobody's secret.
            (f"{STATIC_URL}{anything}", tornado.web.StaticFileHandler, {"path": str(STATIC)}),
            (f"{PREFIX}voila/templates/{anything}", TemplateStaticFileHandler),
            (
                f"{PREFIX}voila/static/{anything}",
                MultiStaticFileHandler,
                {"paths": self.static_paths},
            ),
            (f"{PREFIX}voila/api/themes/{anything}", ThemesHandler, themes),
            (
                f"{PREFIX}voila/labextensions/{anything}",
                FileFindHandler,
                {"path": self.labextensions_path, "no_cache_paths": []},
            ),
            # Two segments, after all others: routes of our own have one, or more than two.
            (f"{PREFIX}([^/]+)/([^/]+)", handlers.Open),
            (r".*", NoSuchPage),
        ]

    # Views ----------------------------------------------------------------------------------------

    def open(self, dashboard: Dashboard, owner: Principal, request: HTTPServerRequest) -> View:
        """A new view of `dashboard`, rendering in the background."""
        view = self.views.open(dashboard, owner, request.uri or PREFIX)
        environment = kernel_environment(self.deployment, self.signer, view, request)
        view.task = asyncio.create_task(self._render(view, environment))
        return view

    async def _render(self, view: View, environment: dict[str, str]) -> None:
        d = view.dashboard
        try:
            async with asyncio.timeout(RENDER_SECONDS):
                tree = await asyncio.to_thread(trees.checkout, self.deployment, d.project, d.commit)
                repository = project_repository(self.deployment.projects_dir, d.project)
                source = await asyncio.to_thread(repository.read, d.path, d.commit)
                await self.kernel_manager.start_kernel(
                    kernel_id=view.kernel_id,
                    kernel_name=KERNEL,
                    cwd=str(tree / Path(d.path).parent),
                    env=environment,
                )
                view.finish(await self._page(view, source, tree))
                return
        except CellFailed as failure:
            log.info("%s/%s failed at %s: %s", d.project, d.name, failure.where, failure.error)
            page = await asyncio.to_thread(self._failure, view, failure)
        except TimeoutError:
            page = self.pages.message(
                "This dashboard takes too long",
                f"It was stopped after {RENDER_SECONDS:.0f} s while it was at: {view.doing}. Its "
                "editors can make it shorter, for example by computing in a run.",
                dashboard=d,
            )
        except Exception:
            log.exception("%s/%s could not be shown (%s)", d.project, d.name, view.doing)
            starting = view.state is State.STARTING
            page = self.pages.message(
                "The kernel could not start" if starting else "This dashboard could not be shown",
                "An administrator finds the reason in the log of the process dashboards. Reload "
                "the page to try again.",
                dashboard=d,
            )
        await self._end_kernel(view)
        view.fail(page, 500)

    async def _page(self, view: View, source: bytes, tree: Path) -> str:
        configuration = self.voila_configuration
        page_config = get_page_config(
            base_url=self.base_url,
            settings=self.app.settings,
            log=self.log,
            voila_configuration=configuration,
        )
        renderer = DashboardRenderer(
            view,
            source,
            tree,
            frame=self.pages.frame(view),
            voila_configuration=configuration,
            traitlet_config=self.config,
            template_paths=self.template_paths,
            config_manager=self.config_manager,
            base_url=self.base_url,
            kernel_spec_manager=self.kernel_spec_manager,
            page_config=page_config,
        )
        await renderer.initialize()
        kernel = self.kernel_manager.get_kernel(view.kernel_id)
        return await renderer.generate_content_str(view.kernel_id, kernel)

    def _failure(self, view: View, failure: CellFailed) -> str:
        """The page of a failed cell: all of it for who can mend it, a sentence for who cannot."""
        project = view.dashboard.project
        role = self.identity.role(view.owner, project)
        if role is not None and role.includes(Role.EDITOR):
            detail = f"It stopped at {failure.where}: {failure.error}"
            trace = failure.traceback
        else:
            detail = (
                f"It stopped at {failure.where}. The editors of the project {project} see the "
                "reason on this page; tell one of them, or try again later."
            )
            trace = ""
        return self.pages.message(
            "This dashboard failed", detail, dashboard=view.dashboard, trace=trace
        )

    async def end(self, view: View, reason: str) -> None:
        """End a view with its kernel. Safe to call twice."""
        if not self.views.remove(view):
            return
        log.info("The view of %s ended: %s", view.dashboard.url, reason)
        if view.task is not None and view.task is not asyncio.current_task():
            view.task.cancel()
            await asyncio.wait([view.task])
        for socket in list(view.sockets):
            socket.close()
        await self._end_kernel(view)

    async def _end_kernel(self, view: View) -> None:
        if view.kernel_id in self.kernel_manager:
            try:
                await self.kernel_manager.shutdown_kernel(view.kernel_id, now=True)
            except Exception:
                log.exception("A kernel of %s did not end as asked", view.dashboard.url)

    async def sweep(self) -> None:
        """End the views that are over, whose kernel died, or whose owner is no longer a member."""
        for view, reason in self.views.over():
            await self.end(view, reason)
        for view in self.views:
            if view.state is State.READY and not await self._is_alive(view):
                await self.end(view, "its kernel died")
                continue
            try:
                await asyncio.to_thread(
                    self.identity.require, view.owner, view.dashboard.project, Role.VIEWER
                )
            except CuadernoError as error:
                await self.end(view, error.detail)

    async def _is_alive(self, view: View) -> bool:
        try:
            return bool(await self.kernel_manager.is_alive(view.kernel_id))
        except KeyError:
            return False

    # The process ----------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Listen on loopback until TERM or INT, then end every kernel."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        # A predecessor that was killed left kernels that nobody can reach any more.
        mark = (DASHBOARDS_MARK, str(self.deployment.data_dir))
        await asyncio.to_thread(end_marked, *mark, grace=1.0)
        port = load_addresses(self.deployment).dashboards
        server = self.app.listen(port, "127.0.0.1", xheaders=True)
        log.info("Dashboards are served on 127.0.0.1:%d%s", port, PREFIX)
        sweeper = asyncio.create_task(self._keep_sweeping())
        await stop.wait()
        server.stop()
        sweeper.cancel()
        await asyncio.gather(*(self.end(v, "the platform stops") for v in self.views))
        await asyncio.to_thread(end_marked, *mark, grace=1.0)

    async def _keep_sweeping(self) -> None:
        pruned = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await self.sweep()
                if clock() - pruned > PRUNE_SECONDS:
                    used = {(v.dashboard.project, v.dashboard.commit) for v in self.views}
                    await asyncio.to_thread(trees.prune, self.deployment, used)
                    pruned = clock()
            except Exception:
                log.exception("A sweep failed; the next one follows")
            await asyncio.sleep(SWEEP_SECONDS)


class NoSuchPage(handlers.PageHandler):
    @handlers.allow_unauthenticated
    def get(self) -> None:
        raise tornado.web.HTTPError(404)
