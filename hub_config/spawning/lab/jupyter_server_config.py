"""Configuration of every Lab server, copied into the data folder at each start of the platform.

Read by Jupyter Server, never imported. What differs between accounts comes from the environment
that the spawner sets.
"""

import os
from pathlib import Path
from typing import Any

from jupyter_server.base.call_context import CallContext
from jupyter_server.services.contents.filecheckpoints import AsyncGenericFileCheckpoints
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

c = get_config()  # type: ignore[name-defined]  # noqa: F821 (Jupyter's loader provides it)
data = Path(os.environ["JUPYTER_DATA_DIR"])

# Kernels: only the platform's own specs; the kernel environment is another than this one. IPC
# sockets, because any local process could speak to a kernel over TCP.
c.KernelSpecManager.ensure_native_kernel = False
c.KernelSpecManager.allowed_kernelspecs = {"python3"}
c.MultiKernelManager.default_kernel_name = "python3"
c.KernelManager.transport = "ipc"


class KernelsKnowTheirStarter(AsyncMappingKernelManager):
    """Tells a kernel who started it, since several people share a project's server."""

    async def start_kernel(self, **arguments: Any) -> str:  # type: ignore[override]
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        if handler is not None and handler.current_user:
            name = handler.current_user.username
            environment = arguments.get("env") or os.environ
            arguments["env"] = {**environment, "CUADERNO_STARTED_BY": name}
        return await super().start_kernel(**arguments)


c.ServerApp.kernel_manager_class = KernelsKnowTheirStarter

# Who may ask: the hub decides, and is asked again soon, so that who left a project is soon out.
c.ServerApp.allow_unauthenticated_access = False
c.HubOAuth.cache_max_age = 15

# Files: a deletion is a deletion (there is no trash bin to be found here), and hidden files such
# as .git stay out of reach of the browser.
c.FileContentsManager.delete_to_trash = False
c.ContentsManager.allow_hidden = False


class CheckpointsElsewhere(AsyncGenericFileCheckpoints):
    """Checkpoints in a tree of their own, so that no `.ipynb_checkpoints` litters a repository."""

    def checkpoint_path(self, checkpoint_id: str, path: str) -> str:
        # Where the folder is missing, the original falls back to one that all accounts share.
        (Path(self.root_dir) / path.strip("/")).parent.mkdir(parents=True, exist_ok=True)
        return super().checkpoint_path(checkpoint_id, path)


c.ContentsManager.checkpoints_class = CheckpointsElsewhere
c.CheckpointsElsewhere.root_dir = str(data / "checkpoints")

# Co-editing: what it remembers lies beside the home, never in the repository, and outlives the
# server: without its history a document that is open in a browser would have its cells doubled.
c.SQLiteYStore.db_path = str(data / "ystore.db")
c.SQLiteYStore.squash_after_inactivity_of = 24 * 60 * 60
c.YDocExtension.session_store_path = str(data / "collaboration_sessions.json")
c.BaseFileIdManager.db_path = str(data / "file_ids.db")

# Nothing is fetched from the internet, and no server extension runs that nobody asked for.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.ServerApp.jpserver_extensions = {
    "jupyter_lsp": False,
    "notebook_shim": False,
    "voila.server_extension": False,
}
