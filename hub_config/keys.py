"""The platform's secrets: one file of mode 0600 each, in a folder of mode 0700.

They never travel in a command line, a log or an environment of a user's process. The supervisor
makes all of them before it starts anything; every other process only reads.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from hub_config.settings import Settings

# What each secret is for. `service-…` are API tokens of hub services.
NAMES = {
    "platform-key": "signs our own tokens (runs, dashboards, calls between services)",
    "hub-cookie": "JupyterHub's cookie secret",
    "proxy-token": "what the hub shows to the proxy",
    "service-cuaderno": "hub token of the process web",
    "service-mlflow": "hub token of the process tracking",
    "service-dashboards": "hub token of the process dashboards",
    "service-supervisor": "hub token of the supervisor",
    "service-operator": "hub token of the command line on this machine",
}


def ensure_all(settings: Settings) -> None:
    """Make each secret that is missing; leave those that exist."""
    settings.secrets_dir.mkdir(parents=True, exist_ok=True)
    settings.secrets_dir.chmod(0o700)
    for name in NAMES:
        path = settings.secrets_dir / name
        if not path.exists():
            write_private(path, secrets.token_hex(32))


def secret(settings: Settings, name: str) -> str:
    """The secret `name`. Raises FileNotFoundError before the first `ensure_all`."""
    if name not in NAMES:
        raise KeyError(name)
    return (settings.secrets_dir / name).read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` atomically with mode 0600, never readable by others in between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
