"""Where an account's server lives on this machine.

A person's server serves the person's home. A project's server serves the project's repository and
has its home beside it, in `state`. What Jupyter itself keeps (settings, the history of documents,
their ids) lies in hidden folders of the home: outside the repository, and inside what
`disable_user_config` leaves out when a server looks for configuration.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hub_config.identity import PROJECT_ACCOUNT_PREFIX
from hub_config.settings import Settings


@dataclass(frozen=True)
class Places:
    """The folders of one account's server."""

    account: str
    project: str | None
    root: Path
    home: Path
    runtime: Path

    @property
    def config(self) -> Path:
        return self.home / ".jupyter"

    @property
    def data(self) -> Path:
        return self.home / ".local" / "share" / "jupyter"

    def make(self) -> None:
        """Make the folders, for their account alone."""
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in (self.home, self.config, self.data):
            folder.mkdir(parents=True, exist_ok=True)
        self.runtime.mkdir(parents=True, mode=0o700, exist_ok=True)
        for folder in (self.home, self.runtime):
            folder.chmod(0o700)


def places(settings: Settings, account: str) -> Places:
    # The folder of sockets must be short whatever the account is called, see IPC_PATH_LIMIT.
    runtime = settings.runtime_dir / hashlib.sha256(account.encode()).hexdigest()[:10]
    if account.startswith(PROJECT_ACCOUNT_PREFIX):
        project = account.removeprefix(PROJECT_ACCOUNT_PREFIX)
        folder = settings.projects_dir / project
        return Places(account, project, folder / "repo", folder / "state", runtime)
    home = settings.users_dir / account
    return Places(account, None, home, home, runtime)
