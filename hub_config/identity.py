"""Who is asking, and what they may do.

A *principal* is a person, a project (the account of its shared server), a run, a dashboard, or the
operator (who holds the data folder). Two kinds of token name one: a token of the hub, which we ask
the hub about, and a token of our own (prefix `cu_`), signed with the platform's key:

- a *run* token is scoped to one attempt of one run and its project, and dies with it;
- a *dashboard* token reads one project for a limited time;
- a *service* token lets one process of the platform call another, for a minute.

A role is held in a project: viewer < editor < owner. Administrators and the operator are owners
everywhere. Group claims and hub groups are never read for permission: only `members` is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import httpx
import jwt
from sqlalchemy import Engine, select

from hub_config.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from hub_config.keys import secret
from hub_config.settings import Settings, load_addresses
from hub_config.storage.database import open_database
from hub_config.storage.schema import accounts, attempts, members, projects, runs

PROJECT_ACCOUNT_PREFIX = "project-"
PROJECT_ACCOUNTS = "project-accounts"  # the hub group of these, which the scopes of `web` name
TOKEN_PREFIX = "cu_"  # noqa: S105 (a prefix, not a password)
HUB_CACHE_SECONDS = 15.0


class Role(StrEnum):
    """What a member may do; each includes those before it."""

    VIEWER = "viewer"  # sees runs, metrics, dashboards
    EDITOR = "editor"  # enters the shared server, commits, submits and cancels runs, logs metrics
    OWNER = "owner"  # manages members

    @property
    def rank(self) -> int:
        return list(Role).index(self)

    def includes(self, other: Role) -> bool:
        return self.rank >= other.rank


Kind = Literal["person", "project", "run", "dashboard", "operator", "service"]


@dataclass(frozen=True)
class Principal:
    """Who acts. `project` and `role` are set for all that belong to one project only."""

    kind: Kind
    name: str
    admin: bool = False
    project: str | None = None
    role: Role | None = None
    run: str | None = None
    attempt: int | None = None


def project_account(project: str) -> str:
    """The name of the hub account of a project's shared server."""
    return PROJECT_ACCOUNT_PREFIX + project


# Tokens of our own --------------------------------------------------------------------------------


class Signer:
    """Makes and reads tokens signed with the platform's key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def run_token(self, run: str, attempt: int, project: str) -> str:
        # The longest a run may last is not ours to say; the token ends with its run, see Identity.
        return self._sign(kind="run", run=run, attempt=attempt, project=project)

    def dashboard_token(self, project: str, seconds: float) -> str:
        return self._sign(kind="dashboard", project=project, exp=int(time.time() + seconds))

    def service_token(self, name: str) -> str:
        return self._sign(kind="service", name=name, exp=int(time.time() + 60))

    def _sign(self, **claims: Any) -> str:
        return TOKEN_PREFIX + jwt.encode(claims, self._key, algorithm="HS256")

    def read(self, token: str) -> Principal:
        """The principal a token names, before any look at the state. Raises `Unauthenticated`."""
        try:
            claims = jwt.decode(token.removeprefix(TOKEN_PREFIX), self._key, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("This token is not valid, or no longer.") from error
        kind, project = claims["kind"], str(claims.get("project", ""))
        if kind == "run":
            return Principal(
                "run",
                claims["run"],
                project=project,
                role=Role.EDITOR,
                run=claims["run"],
                attempt=claims["attempt"],
            )
        if kind == "dashboard":
            return Principal("dashboard", project, project=project, role=Role.VIEWER)
        return Principal("service", claims["name"])


# From token to principal, from principal to role --------------------------------------------------


class Identity:
    """Turns tokens into principals and principals into roles, for one service of the platform.

    `service` is the hub service that asks: a hub token counts only if it may access that service.
    Thread-safe. Answers of the hub are kept for 15 s, so a revoked token lives that long.
    """

    def __init__(self, engine: Engine, signer: Signer, hub_api_url: str, service: str) -> None:
        self._engine = engine
        self._signer = signer
        self._service = service
        self._hub = httpx.Client(base_url=hub_api_url, timeout=10)
        self._cache: dict[str, tuple[float, Principal]] = {}

    def principal(self, token: str | None) -> Principal:
        """Who holds `token`. Raises `Unauthenticated`, or `Unavailable` when the hub is away."""
        if not token:
            raise Unauthenticated("Send a token: `Authorization: Bearer …`.")
        if token.startswith(TOKEN_PREFIX):
            principal = self._signer.read(token)
            if principal.kind == "run" and not self._is_live(principal):
                raise Unauthenticated("This run has ended, and its token with it.")
            return principal
        known = self._cache.get(token)
        if known and known[0] > time.monotonic():
            return known[1]
        principal = self.of_hub_model(self._ask_hub(token))
        if len(self._cache) > 2000:
            self._cache.clear()
        self._cache[token] = (time.monotonic() + HUB_CACHE_SECONDS, principal)
        return principal

    def of_hub_model(self, model: dict[str, Any]) -> Principal:
        """The principal of a user or service as the hub describes it."""
        name = model.get("name")
        if not name:
            raise Unauthenticated("This token does not name anybody.")
        needed = f"access:services!service={self._service}"
        if not {needed, "access:services"} & set(model.get("scopes", ())):
            raise Unauthenticated(f"This token may not be used here: it lacks {needed}.")
        if model.get("kind") == "service":
            if name == "operator":
                return Principal("operator", name, admin=True)
            return Principal("service", name)
        if name.startswith(PROJECT_ACCOUNT_PREFIX):
            project = name.removeprefix(PROJECT_ACCOUNT_PREFIX)
            return Principal("project", project, project=project, role=Role.EDITOR)
        with self._engine.connect() as connection:
            admin = connection.scalar(
                select(accounts.c.admin).where(
                    accounts.c.name == name, accounts.c.state == "active"
                )
            )
        if admin is None:
            raise Unauthenticated(f"There is no active account {name}.")
        return Principal("person", name, admin=bool(admin))

    def projects(self, principal: Principal) -> dict[str, Role]:
        """The projects that a principal may see, with its role in each, in order of name."""
        with self._engine.connect() as connection:
            if principal.admin:
                names = connection.scalars(select(projects.c.name).order_by(projects.c.name))
                return dict.fromkeys(names, Role.OWNER)
            if principal.kind == "person":
                rows = connection.execute(
                    select(members.c.project, members.c.role)
                    .where(members.c.person == principal.name)
                    .order_by(members.c.project)
                )
                return {project: Role(role) for project, role in rows}
        if principal.project and principal.role:
            return {principal.project: principal.role}
        return {}

    def role(self, principal: Principal, project: str) -> Role | None:
        return self.projects(principal).get(project)

    def require(self, principal: Principal, project: str, needed: Role) -> Role:
        """The principal's role in `project`, which must include `needed`.

        Raises `NotFound` for who is not a member (as for a project that does not exist), and
        `Forbidden` for a member whose role is too small.
        """
        held = self.role(principal, project)
        if held is None:
            raise NotFound(f"There is no project {project!r} that you can see.")
        if not held.includes(needed):
            raise Forbidden(
                f"This needs the role {needed} in the project {project}; yours is {held}. "
                "An owner of the project can change it."
            )
        return held

    def _ask_hub(self, token: str) -> dict[str, Any]:
        try:
            answer = self._hub.get("/user", headers={"Authorization": f"token {token}"})
        except httpx.HTTPError as error:
            raise Unavailable("The hub is not answering; try again in a moment.") from error
        if answer.status_code in (401, 403, 404):
            raise Unauthenticated("This token is not valid, or no longer.")
        if answer.status_code != 200:
            raise Unavailable(f"The hub answered {answer.status_code}; try again in a moment.")
        return answer.json()

    def _is_live(self, principal: Principal) -> bool:
        with self._engine.connect() as connection:
            row = connection.execute(
                select(runs.c.id)
                .join(attempts, attempts.c.id == runs.c.attempt)
                .where(
                    runs.c.id == principal.run,
                    runs.c.attempt == principal.attempt,
                    attempts.c.ended_at.is_(None),
                )
            ).first()
        return row is not None


def open_identity(settings: Settings, service: str, engine: Engine | None = None) -> Identity:
    """The identity of the running platform, for the hub service `service`."""
    return Identity(
        engine or open_database(settings.database_url),
        Signer(secret(settings, "platform-key")),
        load_addresses(settings).url("hub") + "/hub/api",
        service,
    )
