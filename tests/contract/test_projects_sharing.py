"""With whom the hub shares a project's server, as the tables of members and accounts say."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from sqlalchemy import Engine, insert, update

from hub_config.errors import Unavailable
from hub_config.projects.hub import Hub, HubRefused
from hub_config.projects.reconciler import Reconciler, reconcile
from hub_config.storage.database import write
from hub_config.storage.schema import accounts, members, projects
from tests.platform import wait_for


class HubThatRemembers:
    """A hub that keeps what it is told, and may be away."""

    def __init__(self) -> None:
        self.away = False
        self.shared: dict[str, set[str]] = {}

    def ensure_account(self, name: str) -> None:
        if self.away:
            raise Unavailable("The hub is not answering; try again in a moment.")
        self.shared.setdefault(name, set())

    def add_project_account(self, name: str) -> None:
        assert name in self.shared

    def share_server(self, account: str, people: set[str]) -> None:
        self.shared[account] = people


@pytest.fixture
def team(engine: Engine) -> Engine:
    now = time.time()
    with write(engine) as c:
        for name in ("ada", "olga", "ed", "vi", "gone"):
            state = "disabled" if name == "gone" else "active"
            row = {"name": name, "state": state, "admin": name == "ada", "created_at": now}
            c.execute(insert(accounts).values(password_hash="-", **row))
        c.execute(
            insert(projects).values(name="team", title="Team", created_at=now, created_by="ada")
        )
        for person, role in (
            ("olga", "owner"),
            ("ed", "editor"),
            ("vi", "viewer"),
            ("gone", "editor"),
        ):
            row = {"project": "team", "person": person, "role": role}
            c.execute(insert(members).values(**row, added_at=now, added_by="ada"))
    return engine


def test_editors_owners_and_administrators_enter(team: Engine) -> None:
    hub = HubThatRemembers()
    reconcile(team, hub)  # type: ignore[arg-type]
    assert hub.shared == {"project-team": {"ada", "olga", "ed"}}
    with write(team) as c:
        c.execute(update(members).where(members.c.person == "ed").values(role="viewer"))
        c.execute(update(accounts).where(accounts.c.name == "olga").values(state="disabled"))
    reconcile(team, hub)  # type: ignore[arg-type]
    assert hub.shared == {"project-team": {"ada"}}


def test_it_goes_on_trying_while_the_hub_is_away(team: Engine) -> None:
    hub = HubThatRemembers()
    hub.away = True
    reconciler = Reconciler(team, hub)  # type: ignore[arg-type]
    reconciler.start()
    try:
        wait_for("the problem to be known", lambda: reconciler.problem, 10)
        hub.away = False
        wait_for("the hub to agree", lambda: hub.shared.get("project-team"), 10)
        wait_for("the problem to be over", lambda: reconciler.problem is None, 10)
    finally:
        reconciler.stop()


class HubThatRefuses(Hub):
    """The hub's client before a hub that refuses one person, and one project's account."""

    def __init__(self) -> None:
        self.token = "t"
        self.shared: dict[str, set[str]] = {"project-team": {"vi", "zoe"}, "project-bad": {"vi"}}
        self._http = httpx.Client(
            base_url="http://hub/hub/api", transport=httpx.MockTransport(self._answer)
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        kind, name = request.url.path.removeprefix("/hub/api/").strip("/").split("/")[:2]
        if kind == "users" and name in ("ada", "project-bad"):
            return httpx.Response(400 if request.method == "GET" else 500, json={"message": name})
        if kind == "groups":
            return httpx.Response(200, json={"users": list(self.shared)})
        if kind == "shares" and request.method == "GET":
            items = [{"user": {"name": person}} for person in sorted(self.shared[name])]
            return httpx.Response(200, json={"items": items})
        if kind == "shares":
            person = json.loads(request.content)["user"]
            change = set.add if request.method == "POST" else set.discard
            change(self.shared[name], person)
        return httpx.Response(200, json={})


def test_whom_the_hub_refuses_keeps_no_other_waiting(team: Engine) -> None:
    with write(team) as c:
        bad = {"name": "bad", "title": "Bad", "created_at": 1.0, "created_by": "ada"}
        c.execute(insert(projects).values(**bad))
    hub = HubThatRefuses()
    with pytest.raises(HubRefused, match="project-bad"):
        reconcile(team, hub)
    assert hub.shared == {"project-team": {"olga", "ed"}, "project-bad": set()}
