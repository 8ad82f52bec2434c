"""The only writer of JupyterHub's `c`: spawner, authenticator, services, roles.

How `web` gives a project its shared server, each step tried with exactly the scopes below:

1. `POST /hub/api/users/project-<name>` (201; 409 if it is there). Needs `admin:users` without a
   filter, since who does not exist yet is in no group. The hub itself keeps a service that is no
   administrator from making or changing one.
2. `POST /hub/api/groups/project-accounts/users {"users": ["project-<name>"]}`. The group exists:
   `load_groups` makes it and, given no members, leaves its members alone at a restart of the hub.
   From here on the scopes with `!group=project-accounts` hold for this account.
3. `POST /hub/api/users/<person>` for who never signed in, then
   `POST /hub/api/shares/project-<name>/ {"user": "<person>"}` (the slash stands for the default
   server). This works before the server has ever run, and again changes nothing.
   `PATCH` with the same body revokes, `GET` lists. Not `{"group": …}`: JupyterHub 6.1.1 counts a
   group's shares for a session at the hub but not for a token (`scopes.get_scopes_for`), and a
   server knows its visitors by token, so a member of the group is refused with 403.
4. `POST, DELETE /hub/api/users/project-<name>/server`; with the service's own token also
   `/user/project-<name>/api/…`, in a server that started after step 2.

Who enters is shown the hub's consent page once. Who loses a share, or the account, is out within
25 s: 10 s until the hub asks about the account again, 15 s until the server asks the hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.utils import subdomain_hook_idna

from hub_config.accounts.authenticator import LocalAccounts
from hub_config.identity import PROJECT_ACCOUNTS
from hub_config.keys import secret
from hub_config.settings import Addresses, Settings, load_addresses
from hub_config.spawning.spawner import PlatformSpawner

PAGES = ("cuaderno", "mlflow", "dashboards")  # the services that people open
SERVICE_PORTS = {"cuaderno": "web", "mlflow": "tracking", "dashboards": "dashboards"}

WEB_SCOPES = [
    "admin:users",
    f"groups!group={PROJECT_ACCOUNTS}",
    f"servers!group={PROJECT_ACCOUNTS}",
    f"shares!group={PROJECT_ACCOUNTS}",  # includes access to these servers
]
OPERATOR_SCOPES = ["admin:users", "tokens", *(f"access:services!service={s}" for s in PAGES)]


def configure(c: Any, settings: Settings) -> None:
    """Write the whole configuration of the hub of a platform whose addresses are chosen."""
    addresses = load_addresses(settings)
    _addresses(c, settings, addresses)
    _state(c, settings)
    _accounts(c, settings)
    _servers(c, settings)
    _services(c, settings, addresses)


def _addresses(c: Any, settings: Settings, addresses: Addresses) -> None:
    c.JupyterHub.bind_url = settings.local_url
    c.JupyterHub.hub_bind_url = addresses.url("hub")
    if settings.hub.subdomain_host:
        c.JupyterHub.subdomain_host = settings.hub.subdomain_host
    if settings.public_url:
        c.JupyterHub.public_url = settings.public_url.rstrip("/") + "/"
    c.JupyterHub.default_url = page_url(settings, "cuaderno")
    # The supervisor starts the proxy and ends servers; a hub that restarts finds both again.
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = addresses.url("proxy_api")
    c.ConfigurableHTTPProxy.auth_token = secret(settings, "proxy-token")
    if settings.hub.subdomain_host:
        # The proxy looks at the name that was asked for: let `local_url`, by which kernels and our
        # own processes come, lead to what they call. Not to dashboards: their pages are others'.
        local = urlsplit(settings.local_url).hostname
        c.ConfigurableHTTPProxy.extra_routes = {
            f"{local}/services/{name}/": addresses.url(SERVICE_PORTS[name])
            for name in ("cuaderno", "mlflow")
        }
    c.JupyterHub.cleanup_proxy = False
    c.JupyterHub.cleanup_servers = False


def _state(c: Any, settings: Settings) -> None:
    url = settings.hub_database_url
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    c.JupyterHub.db_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    c.JupyterHub.upgrade_db = True
    c.JupyterHub.cookie_secret = bytes.fromhex(secret(settings, "hub-cookie"))


def _accounts(c: Any, settings: Settings) -> None:
    c.JupyterHub.authenticator_class = LocalAccounts
    c.LocalAccounts.settings = settings
    c.Authenticator.allow_all = True  # who is active; see LocalAccounts
    c.Authenticator.auth_refresh_age = 10
    c.Authenticator.auth_refresh_strict = True
    c.JupyterHub.template_paths = [str(Path(__file__).parent / "accounts" / "templates")]
    signup = page_url(settings, "cuaderno") + "signup" if settings.hub.signup else ""
    c.JupyterHub.template_vars = {"cuaderno_signup_url": signup}


def _servers(c: Any, settings: Settings) -> None:
    c.JupyterHub.spawner_class = PlatformSpawner
    c.PlatformSpawner.settings = settings
    c.Spawner.default_url = "/lab"
    c.Spawner.disable_user_config = True
    c.Spawner.environment = {"JUPYTERHUB_ACTIVITY_INTERVAL": "3600"}
    c.Spawner.start_timeout = 60
    c.Spawner.http_timeout = 60
    c.LocalProcessSpawner.interrupt_timeout = 5
    c.LocalProcessSpawner.term_timeout = 5
    c.Spawner.server_token_scopes = [
        "users:activity!user",
        "access:servers!server",
        "access:services!service=cuaderno",
        "access:services!service=mlflow",
    ]
    c.JupyterHub.concurrent_spawn_limit = 10
    c.JupyterHub.activity_resolution = 600
    c.JupyterHub.init_spawners_timeout = 1


def _services(c: Any, settings: Settings, addresses: Addresses) -> None:
    c.JupyterHub.services = [
        *(
            {
                "name": name,
                "url": addresses.url(SERVICE_PORTS[name]),
                "api_token": secret(settings, f"service-{name}"),
                "oauth_client_id": f"service-{name}",
                "oauth_redirect_uri": page_url(settings, name) + "oauth_callback",
                "oauth_no_confirm": True,
                # The hub asks one service after the other whether it is up before it sets the
                # proxy's routes, and sets them whatever the answers were.
                "timeout": 1,
            }
            for name in PAGES
        ),
        *(
            {"name": name, "api_token": secret(settings, f"service-{name}")}
            for name in ("supervisor", "operator")
        ),
    ]
    c.JupyterHub.extra_user_scopes = {f"access:services!service={name}" for name in PAGES}
    c.JupyterHub.load_groups = {PROJECT_ACCOUNTS: {"users": []}}
    c.JupyterHub.load_roles = [
        {"name": "web", "services": ["cuaderno"], "scopes": WEB_SCOPES},
        {"name": "supervisor", "services": ["supervisor"], "scopes": ["proxy"]},
        {"name": "operator", "services": ["operator"], "scopes": OPERATOR_SCOPES},
    ]


def page_url(settings: Settings, service: str) -> str:
    """The address of a service's first page, as a browser on the hub's pages can follow it."""
    path = f"/services/{service}/"
    if not settings.hub.subdomain_host:
        return path
    hub = urlsplit(settings.hub.subdomain_host)
    host = subdomain_hook_idna(service, hub.hostname, "service")
    port = f":{hub.port}" if hub.port else ""
    return f"{hub.scheme}://{host}{port}{path}"
