"""The provisioner of every kernel that the platform starts.

Guarantees, kept here:

- the kernel's environment is `environment.kernel_environment`, whoever starts it;
- the OS ends the kernel before hub and services when memory is short;
- when the kernel ends, by request, by restart, by `kill -9` or because its launch failed, all that
  it started ends with it (see `tree`);
- a kernel whose server is killed ends by itself: it polls its parent (`JPY_PARENT_PID`);
- the end of a kernel raises nothing: callers may be half-way through a shutdown of their own.

Order of calls, which differs by caller: a restart is `shutdown_requested(True)`, `cleanup(True)`,
`pre_launch`; after a crash or for "restart now" `kill`, `cleanup(True)`, `pre_launch`; papermill
calls `cleanup(False)` twice; when `pre_launch` or `launch_kernel` raises there is no cleanup. So
everything is ended in `cleanup`, and in `launch_kernel` itself when that fails.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from cuaderno.provisioning.environment import KERNEL_MARK, kernel_environment
from cuaderno.provisioning.tree import end_tree, end_tree_now, raise_oom_score, starts, tree

OOM_SCORE = 500
# How long a kernel may take to end before it is sent TERM (half of it) and KILL (the other half).
# At its exit it still sends metrics that it logged; a run has its kernel do that before (see the
# runner's engine), and in Lab somebody watches "restart kernel". Some kernels of ipykernel 7.4 do
# not end at all until TERM: so not longer.
SHUTDOWN_SECONDS = 10.0


class CuadernoProvisioner(LocalProvisioner):
    """Starts a kernel as a child of the server, runner or Voila that asks for it."""

    _launches = 0
    _seen: dict[int, int]  # descendants seen just before the kernel was ended: pid → start

    @property
    def mark(self) -> str:
        """The mark of the present launch, as it stands in an environment."""
        return f"{KERNEL_MARK}={self._mark_value}"

    @property
    def _mark_value(self) -> str:
        return f"{self.kernel_id}.{self._launches}"

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        kwargs = await super().pre_launch(**kwargs)
        self._launches += 1
        self._seen, self.pgid = {}, None
        command = kwargs.get("cmd") or [""]
        python = Path(command[0])
        starter = kwargs["env"]
        environment = kernel_environment(
            starter,
            python=python if python.is_absolute() else None,
            platform_prefix=Path(sys.prefix),
        )
        environment[KERNEL_MARK] = self._mark_value
        kwargs["env"] = environment
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        try:
            info = await super().launch_kernel(cmd, **kwargs)
            if self.pid:
                raise_oom_score(self.pid, OOM_SCORE)
            return info
        except BaseException:  # cancelled too: nobody else would end what has started
            end_tree_now(self.mark, self._session)
            raise

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        return max(recommended, SHUTDOWN_SECONDS)

    async def shutdown_requested(self, restart: bool = False) -> None:
        self._remember()
        await super().shutdown_requested(restart=restart)

    async def kill(self, restart: bool = False) -> None:
        self._remember()
        await super().kill(restart=restart)

    async def cleanup(self, restart: bool = False) -> None:
        try:
            await super().cleanup(restart=restart)
        except Exception:
            self._log.exception("A kernel's ports could not be returned")
        try:
            if self._launches:
                session, self.pgid = self._session, None  # its number may soon be another's
                await end_tree(self.mark, session, known=self._seen.items())
        except Exception:
            self._log.exception("What the kernel %s started could not be ended", self.kernel_id)

    def _remember(self) -> None:
        """Note who descends from the kernel while parents still tell."""
        try:
            self._seen = starts(tree(self.mark, self._session) - {self.pid or 0})
        except Exception:
            self._log.exception("What the kernel %s started could not be listed", self.kernel_id)

    @property
    def _session(self) -> int | None:
        """The session that the kernel leads; None before it has started."""
        own = os.getsid(0)
        return self.pgid if self.pgid and self.pgid != own else None

    @property
    def _log(self) -> logging.Logger:
        return logging.getLogger("cuaderno.provisioning")
