"""What happens before the first process starts: every check, and everything that is made once.

A refusal is a `Misconfigured` in one line that says what to do; nothing has been changed then that
would hinder the next try.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import IO

from hub_config import keys
from hub_config.errors import Misconfigured
from hub_config.node.processes import PLATFORM_MARK, end_marked
from hub_config.settings import Addresses, Settings, dump_settings

FOLDERS = ("secrets", "logs", "run", "projects", "users", "jupyter", "hub", "tracking", "artifacts")


def lock(settings: Settings) -> IO[str]:
    """Make the data folder and hold it for this process; the lock lasts while the file is open.

    Raises `Misconfigured` when the folder cannot be written or another platform runs on it.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS:
            (settings.data_dir / name).mkdir(exist_ok=True)
        for name in ("secrets", "run", "logs", "users", "projects"):
            (settings.data_dir / name).chmod(0o700)
        file = (settings.run_dir / "lock").open("a+")
    except OSError as error:
        raise Misconfigured(
            f"Cannot write to the data folder {settings.data_dir}: {error.strerror}. "
            "Choose another with --data-dir or CUADERNO_DATA_DIR."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise Misconfigured(
            f"A platform already runs on {settings.data_dir} (process {holder}). "
            "See it with `cuaderno status`, or choose another folder with --data-dir."
        ) from error
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def end_leftovers(settings: Settings) -> int:
    """End what a killed predecessor left on this data folder; how many processes."""
    return end_marked(PLATFORM_MARK, str(settings.data_dir), grace=3)


def check_port(settings: Settings) -> None:
    """Raise `Misconfigured` when the public port is taken or may not be bound."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
            raise Misconfigured(
                f"Port {settings.port} on {settings.host} {why}. Choose another with --port."
            ) from error


def choose_addresses(settings: Settings) -> Addresses:
    """Ports for the processes: those of the last start where they are still free, else new ones."""
    path = settings.run_dir / "addresses.json"
    try:
        last = json.loads(path.read_text())
    except (OSError, ValueError):
        last = {}
    chosen: dict[str, int] = {}
    with ExitStack() as held:  # hold each until all are chosen, so that none is given twice
        for key in fields(Addresses):
            candidates = chain([last.get(key.name)], _below_ephemeral())
            chosen[key.name] = next(p for p in candidates if p and _hold(held, int(p)))
    addresses = Addresses(**chosen)
    keys.write_private(path, json.dumps(asdict(addresses)))
    return addresses


def _below_ephemeral() -> Iterator[int]:
    """Ports in any order that the OS never gives to outgoing connections by itself."""
    try:
        limit = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        limit = 32768
    low = 20000 if limit > 21000 else 1024
    yield from random.sample(range(low, limit), limit - low)


def _hold(held: ExitStack, port: int) -> bool:
    probe = held.enter_context(socket.socket())
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def check_stores(settings: Settings) -> None:
    """Raise `Misconfigured` when a database or the artifact store cannot be reached."""
    from sqlalchemy.exc import SQLAlchemyError

    from hub_config.storage.database import make_engine
    from hub_config.storage.files import FileStore

    for name, url in (
        ("database.url", settings.database_url),
        ("hub.database_url", settings.hub_database_url),
        ("tracking.database_url", settings.tracking_database_url),
    ):
        engine = make_engine(url)
        try:
            engine.connect().close()
        except SQLAlchemyError as error:
            # The driver's first line says what failed; it names host and user, never the password.
            why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise Misconfigured(f"Setting {name}: the database cannot be opened: {why}") from error
        finally:
            engine.dispose()
    try:
        FileStore(settings.artifacts_url).exists("probe")
    except Exception as error:  # each file system raises its own
        raise Misconfigured(
            f"Setting artifacts.url: the store cannot be read: {type(error).__name__}: {error}"
        ) from error


def prepare(settings: Settings) -> None:
    """Make what the processes need: secrets, certificates, tables, first account, configuration."""
    # Imported here: the supervisor lives for weeks and need not carry what only this moment uses.
    from hub_config.accounts.domain import ensure_admin
    from hub_config.jobs.certificates import ensure_certificates
    from hub_config.spawning.server_config import write_server_config
    from hub_config.storage.database import migrate, open_database

    keys.ensure_all(settings)
    keys.write_private(settings.run_dir / "settings.toml", dump_settings(settings))
    make_runtime_dir(settings.runtime_dir)
    check_stores(settings)
    migrate(settings.database_url)
    engine = open_database(settings.database_url)
    try:
        ensure_admin(settings, engine)
    finally:
        engine.dispose()
    ensure_certificates(settings)
    write_kernelspecs(settings)
    write_server_config(settings)


def write_kernelspecs(settings: Settings) -> None:
    import cuaderno.specs

    python = settings.kernel_python
    if not python.exists():
        raise Misconfigured(
            f"There is no kernel environment at {python}. Make it with `make install`, or name "
            "another in kernels.python."
        )
    cuaderno.specs.write(settings.jupyter_dir / "kernels", python)


def make_runtime_dir(path: Path) -> None:
    """The folder of the kernels' sockets: ours alone, even where it lies in a shared /tmp."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.getuid() or not path.is_dir() or path.is_symlink():
        raise Misconfigured(
            f"The folder {path} belongs to somebody else. Remove it, or choose a data folder with "
            "a shorter path."
        )
    path.chmod(0o700)
