"""Where servers live, what they are given, and how the proxy is started."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from traitlets.config import Config

from hub_config import keys
from hub_config.configure import OPERATOR_SCOPES, WEB_SCOPES, configure, page_url
from hub_config.settings import (
    IPC_PATH_LIMIT,
    Addresses,
    DatabaseSettings,
    HubSettings,
    Settings,
)
from hub_config.spawning.places import places
from hub_config.spawning.proxy import proxy_command
from hub_config.spawning.server_config import FILES, write_server_config
from hub_config.spawning.spawner import PlatformSpawner

ADDRESSES = Addresses(*range(21001, 21009))


def spawner_of(settings: Settings, account: str) -> PlatformSpawner:
    user: Any = SimpleNamespace(name=account)
    return PlatformSpawner(settings=settings, user=user)


def test_persons_and_projects_live_apart(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    ana, demo = places(settings, "ana"), places(settings, "project-demo")
    assert ana.root == ana.home == tmp_path / "users" / "ana"
    assert demo.root == tmp_path / "projects" / "demo" / "repo"
    assert not demo.home.is_relative_to(demo.root)
    assert (ana.project, demo.project) == (None, "demo")
    assert ana.runtime != demo.runtime


@pytest.mark.parametrize("account", ["ana", "project-" + "x" * 20, "y" * 32])
def test_runtime_folders_are_short_enough_for_sockets(account: str) -> None:
    for data_dir in (Path("/data"), Path("/a-rather-long-folder" * 8)):
        assert len(str(places(Settings(data_dir=data_dir), account).runtime)) <= IPC_PATH_LIMIT


def test_a_server_s_environment_is_its_own(tmp_path: Path, monkeypatch: Any) -> None:
    settings = Settings(data_dir=tmp_path, port=21000)
    ana = spawner_of(settings, "ana")
    assert {"CONFIGPROXY_AUTH_TOKEN", "CUADERNO_DATA_DIR", "PYTHONPATH"}.isdisjoint(ana.env_keep)
    env = ana.user_env({})
    assert env["CUADERNO_URL"] == "http://127.0.0.1:21000"
    assert (env["CUADERNO_USER"], env["CUADERNO_PLATFORM"]) == ("ana", str(tmp_path))
    assert "CUADERNO_PROJECT" not in env
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        assert Path(env[name]).is_relative_to(env["HOME"])  # so disable_user_config covers it
    assert spawner_of(settings, "project-demo").user_env({})["CUADERNO_PROJECT"] == "demo"


def test_only_servers_of_projects_open_to_the_portal(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    of_group = "access:servers!group=project-accounts"
    assert of_group in spawner_of(settings, "project-demo").oauth_access_scopes
    assert spawner_of(settings, "ana").oauth_access_scopes == [
        "access:servers!server=ana/",
        "access:servers!user=ana",
    ]


def test_a_namesake_of_the_server_s_process_is_not_adopted(tmp_path: Path) -> None:
    import os

    ana = spawner_of(Settings(data_dir=tmp_path), "ana")
    ana.load_state({"pid": os.getpid(), "pid_started": 1.0})
    assert ana.pid == 0


def test_the_server_configuration_is_complete_python(tmp_path: Path) -> None:
    folder = write_server_config(Settings(data_dir=tmp_path))
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == sorted(
        FILES
    )
    ast.parse((folder / "jupyter_server_config.py").read_text())


def test_the_proxy_s_token_is_not_in_its_command_line(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    keys.ensure_all(settings)
    argv, env = proxy_command(settings, ADDRESSES)
    token = keys.secret(settings, "proxy-token")
    assert env == {"CONFIGPROXY_AUTH_TOKEN": token}
    assert token not in " ".join(argv)
    assert argv[argv.index("--api-ip") + 1] == "127.0.0.1"
    assert argv[argv.index("--ip") + 1] == "127.0.0.1"


def configured(settings: Settings) -> Config:
    import json
    from dataclasses import asdict

    keys.ensure_all(settings)
    settings.run_dir.mkdir(parents=True)
    (settings.run_dir / "addresses.json").write_text(json.dumps(asdict(ADDRESSES)))
    c = Config()
    configure(c, settings)
    return c


def test_roles_are_no_wider_than_written_down(tmp_path: Path) -> None:
    c = configured(Settings(data_dir=tmp_path))
    roles = {role["name"]: role["scopes"] for role in c.JupyterHub.load_roles}
    assert roles == {"web": WEB_SCOPES, "supervisor": ["proxy"], "operator": OPERATOR_SCOPES}
    assert [s for s in WEB_SCOPES if "!group=project-accounts" not in s] == ["admin:users"]
    assert c.JupyterHub.cleanup_servers is False
    assert c.ConfigurableHTTPProxy.should_start is False
    assert c.JupyterHub.hub_bind_url.startswith("http://127.0.0.1:")
    assert not any("command" in service for service in c.JupyterHub.services)


def test_databases_elsewhere_and_pages_on_their_own_hosts(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        database=DatabaseSettings("postgresql://u@h/d"),
        hub=HubSettings(
            database_url="postgresql://u@h/hub",
            subdomain_host="http://cuaderno.localhost:8000",
            signup=False,
        ),
    )
    c = configured(settings)
    assert c.JupyterHub.db_url == "postgresql+psycopg://u@h/hub"
    assert page_url(settings, "mlflow").endswith(".cuaderno.localhost:8000/services/mlflow/")
    assert c.JupyterHub.template_vars == {"cuaderno_signup_url": ""}
