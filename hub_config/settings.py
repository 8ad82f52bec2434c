"""Settings: `cuaderno.toml` and the environment, read once into frozen dataclasses.

Every key has one name in the file (`[database] url`) and one in the environment
(`CUADERNO_DATABASE_URL`; keys outside a table: `CUADERNO_PORT`). The environment wins over the
file, arguments of the command win over both. Each key is documented in
docs/reference/settings.md; a test compares the two.

Paths that follow from the data folder are properties here, so that its layout stands in one place.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from hub_config.errors import Misconfigured

IPC_PATH_LIMIT = 57  # a longer runtime folder makes the kernels' socket names too long for the OS


@dataclass(frozen=True)
class DatabaseSettings:
    """Where Cuaderno's own tables live. Empty: SQLite in the data folder."""

    url: str = ""


@dataclass(frozen=True)
class HubSettings:
    """JupyterHub: its own database, the first administrator, sign-up."""

    database_url: str = ""
    admin: str = "admin"
    signup: bool = True
    subdomain_host: str = ""


@dataclass(frozen=True)
class TrackingSettings:
    """MLflow's own database. Empty: SQLite in the data folder."""

    database_url: str = ""


@dataclass(frozen=True)
class ArtifactSettings:
    """Where executed notebooks, logs and models are kept, as an fsspec URL."""

    url: str = ""


@dataclass(frozen=True)
class DaskSettings:
    """Where runs are placed: a scheduler's address, or an embedded scheduler and workers."""

    scheduler_address: str = ""
    workers: int = 1
    slots_per_worker: int = 2


@dataclass(frozen=True)
class JobSettings:
    """How long a silent runner is believed, and how long a cancelled one may take to end."""

    heartbeat_seconds: float = 2.0
    lost_after_seconds: float = 20.0
    cancel_grace_seconds: float = 10.0


@dataclass(frozen=True)
class KernelSettings:
    """The environment in which notebooks run. Empty: `.venv-kernel` beside the platform's own."""

    python: str = ""


@dataclass(frozen=True)
class DemoSettings:
    """The first project, made once when there is none."""

    enabled: bool = True
    first_run: bool = True


@dataclass(frozen=True)
class Settings:
    """The whole configuration of one platform."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = ""
    allow_remote: bool = False
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    artifacts: ArtifactSettings = field(default_factory=ArtifactSettings)
    dask: DaskSettings = field(default_factory=DaskSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    kernels: KernelSettings = field(default_factory=KernelSettings)
    demo: DemoSettings = field(default_factory=DemoSettings)

    # What follows from the keys above -----------------------------------------------------------

    @property
    def local_url(self) -> str:
        """The proxy's address for processes on this machine, without a trailing slash."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host  # noqa: S104
        host = "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The address that people use, without a trailing slash."""
        return (self.public_url or self.hub.subdomain_host or self.local_url).rstrip("/")

    def service_origin(self, service: str) -> str:
        """Where a hub service's pages live: an origin of its own with subdomains, else empty.

        Empty means "the same as every page", so that origin + path is always a good link.
        """
        host = urlsplit(self.hub.subdomain_host)
        if not host.hostname:
            return ""
        port = f":{host.port}" if host.port else ""
        # What JupyterHub's `idna` hook makes of a service whose name is plain letters.
        return f"{host.scheme}://{service}--service.{host.hostname}{port}"

    @property
    def kernel_addresses(self) -> dict[str, str]:
        """The variables by which whoever starts kernels tells them where the platform is.

        The first is for the kernel itself, the others for links that a browser follows.
        """
        return {
            "CUADERNO_URL": self.local_url,
            "CUADERNO_PUBLIC_URL": self.service_origin("cuaderno") or self.base_url,
            "CUADERNO_PUBLIC_TRACKING_URL": self.service_origin("mlflow") or self.base_url,
        }

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir / 'cuaderno.db'}"

    @property
    def hub_database_url(self) -> str:
        return self.hub.database_url or f"sqlite:///{self.data_dir / 'hub' / 'jupyterhub.sqlite'}"

    @property
    def tracking_database_url(self) -> str:
        return self.tracking.database_url or f"sqlite:///{self.data_dir / 'tracking' / 'mlflow.db'}"

    @property
    def artifacts_url(self) -> str:
        return self.artifacts.url or (self.data_dir / "artifacts").as_uri()

    @property
    def kernel_python(self) -> Path:
        if self.kernels.python:
            return Path(self.kernels.python)
        return Path(sys.prefix).parent / ".venv-kernel" / "bin" / "python"

    @property
    def secrets_dir(self) -> Path:
        return self.data_dir / "secrets"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def run_dir(self) -> Path:
        """What the running processes tell each other: lock, addresses, states, pids."""
        return self.data_dir / "run"

    @property
    def projects_dir(self) -> Path:
        """One folder per project: `<name>/repo` (its git repository), `<name>/state`."""
        return self.data_dir / "projects"

    @property
    def users_dir(self) -> Path:
        """One home folder per person."""
        return self.data_dir / "users"

    @property
    def jupyter_dir(self) -> Path:
        """Kernelspecs and server configuration, written at each start."""
        return self.data_dir / "jupyter"

    @property
    def runtime_dir(self) -> Path:
        """Kernels' connection files and sockets: short enough for a socket's name."""
        inside = self.data_dir / "rt"
        if len(str(inside)) <= IPC_PATH_LIMIT - 12:
            return inside
        digest = hashlib.sha256(str(self.data_dir).encode()).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"cu-{os.getuid()}-{digest}"


# Reading -----------------------------------------------------------------------------------------


def default_data_dir(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "cuaderno"


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
    data_dir: Path | None = None,
    port: int | None = None,
) -> Settings:
    """Read `cuaderno.toml` and the environment.

    The file is `config`, else `CUADERNO_CONFIG`, else `cuaderno.toml` in the working folder, else
    the one in the data folder; none of the last two need exist. Raises `Misconfigured`, in one
    line, on an unknown key, a value of the wrong type or one that cannot work.
    """
    environ = os.environ if environ is None else environ
    folder = data_dir or Path(environ.get("CUADERNO_DATA_DIR") or default_data_dir(environ))
    explicit = config or (Path(p) if (p := environ.get("CUADERNO_CONFIG")) else None)
    path = explicit or next(
        (p for p in (Path("cuaderno.toml"), folder / "cuaderno.toml") if p.is_file()), None
    )
    values = _read_file(path) if path else {}
    if data_dir is None and "CUADERNO_DATA_DIR" not in environ and "data_dir" in values:
        folder = Path(str(values["data_dir"]))
    values["data_dir"] = folder.expanduser().resolve()
    settings = _build(Settings, values, environ, prefix="CUADERNO", where=str(path or "settings"))
    if port is not None:
        settings = replace(settings, port=port)
    _check(settings)
    return settings


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(
            f"Cannot read the settings file {path}: {error.strerror}. "
            "Name an existing file with --config or CUADERNO_CONFIG."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is not valid TOML: {error}.") from error


def _build(
    cls: type, values: dict[str, Any], environ: Mapping[str, str], *, prefix: str, where: str
) -> Any:
    known = {f.name for f in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise Misconfigured(
            f"Unknown setting {unknown[0]!r} in {where}; known here: {', '.join(sorted(known))}."
        )
    hints = get_type_hints(cls)
    result: dict[str, Any] = {}
    for name, kind in hints.items():
        env_name = f"{prefix}_{name.upper()}"
        if is_dataclass(kind):
            table = values.get(name, {})
            if not isinstance(table, dict):
                raise Misconfigured(f"Setting {name!r} in {where} must be a table: [{name}].")
            result[name] = _build(
                kind,  # type: ignore[arg-type]
                table,
                environ,
                prefix=env_name,
                where=f"[{name}] of {where}",
            )
        elif name == "data_dir":
            result[name] = values[name]
        elif env_name in environ:
            result[name] = _convert(environ[env_name], kind, env_name)
        elif name in values:
            result[name] = _convert(values[name], kind, f"{name} in {where}")
    return cls(**result)


def _convert(value: Any, kind: type, name: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("1", "true", "yes", "on"):
            return True
        if str(value).lower() in ("0", "false", "no", "off", ""):
            return False
    elif kind in (int, float):
        try:
            if not isinstance(value, bool):
                return kind(value)
        except (TypeError, ValueError):
            pass
    elif kind is str and isinstance(value, str):
        return value
    word = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    raise Misconfigured(f"Setting {name} must be {word}, not {value!r}.")


def _check(settings: Settings) -> None:
    if not 0 < settings.port < 65536:
        raise Misconfigured(f"Setting port must be from 1 to 65535, not {settings.port}.")
    if not settings.allow_remote and not _is_loopback(settings.host):
        raise Misconfigured(
            f"Setting host = {settings.host!r} would open the platform to the network, where all "
            "users share one account of this machine. Set allow_remote = true to accept that, "
            "or keep 127.0.0.1."
        )
    for name in ("workers", "slots_per_worker"):
        if getattr(settings.dask, name) < 1:
            raise Misconfigured(f"Setting dask.{name} must be 1 or more.")
    for job_key in fields(JobSettings):
        if getattr(settings.jobs, job_key.name) <= 0:
            raise Misconfigured(f"Setting jobs.{job_key.name} must be more than 0.")
    for name, url in (
        ("database.url", settings.database_url),
        ("hub.database_url", settings.hub_database_url),
        ("tracking.database_url", settings.tracking_database_url),
    ):
        if not url.startswith(("sqlite:////", "postgresql://")):
            raise Misconfigured(
                f"Setting {name} must be postgresql://… or sqlite:////absolute/path, not a URL "
                f"that begins with {url.split(':')[0]!r} or a relative path."
            )
    if settings.kernels.python and not Path(settings.kernels.python).is_absolute():
        raise Misconfigured(
            f"Setting kernels.python must be an absolute path, not {settings.kernels.python!r}."
        )
    if settings.artifacts.url and "://" not in settings.artifacts.url:
        raise Misconfigured(
            "Setting artifacts.url must be a URL such as file:///srv/artifacts or s3://bucket, "
            f"not {settings.artifacts.url!r}."
        )
    if settings.hub.subdomain_host and not urlsplit(settings.hub.subdomain_host).hostname:
        raise Misconfigured(
            "Setting hub.subdomain_host must be a URL such as http://cuaderno.localhost:8000, "
            f"not {settings.hub.subdomain_host!r}."
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def dump_settings(settings: Settings, *, mask: bool = False) -> str:
    """The settings as the text of a `cuaderno.toml`; `mask` hides passwords in URLs."""
    lines, tables = [], []
    for key in fields(settings):
        value = getattr(settings, key.name)
        if is_dataclass(value):
            tables += ["", f"[{key.name}]"]
            tables += [_line(k.name, getattr(value, k.name), mask) for k in fields(value)]
        else:
            lines.append(_line(key.name, value, mask))
    return "\n".join(lines + tables) + "\n"


def _line(name: str, value: Any, mask: bool) -> str:
    text = str(value) if isinstance(value, Path) else value
    if mask and isinstance(text, str):
        text = re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", text)
    return f"{name} = {json.dumps(text, ensure_ascii=False)}"


# Addresses of the running processes ---------------------------------------------------------------


@dataclass(frozen=True)
class Addresses:
    """Ports of the platform's processes on this machine, chosen by the supervisor at its start."""

    proxy_api: int
    hub: int
    web: int
    jobs: int
    tracking: int
    dashboards: int
    scheduler: int
    scheduler_http: int

    def url(self, name: str) -> str:
        """`http://127.0.0.1:<port>` of the process `name`, without a trailing slash."""
        return f"http://127.0.0.1:{getattr(self, name)}"


def load_addresses(settings: Settings) -> Addresses:
    """The running platform's ports. Raises `Misconfigured` when none was started here."""
    path = settings.run_dir / "addresses.json"
    try:
        return Addresses(**json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise Misconfigured(
            f"No platform was started on {settings.data_dir}. Start one with `cuaderno up`."
        ) from error
