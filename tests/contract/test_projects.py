"""Projects and members on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, update

from hub_config.errors import Conflict, Forbidden, Invalid, NotFound
from hub_config.identity import Identity, Principal, Role, Signer
from hub_config.projects import members, projects, seed, store
from hub_config.settings import DemoSettings, HubSettings, Settings
from hub_config.storage.database import write
from hub_config.storage.repository import project_repository
from hub_config.storage.schema import accounts

ADMIN = Principal("person", "ada", admin=True)
OWNER, EDITOR = Principal("person", "olga"), Principal("person", "ed")
VIEWER, OUTSIDER = Principal("person", "vi"), Principal("person", "out")


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(data_dir=tmp_path / "data", hub=HubSettings(admin="ada"))


@pytest.fixture
def identity(engine: Engine) -> Identity:
    for name, state in [
        *((n, "active") for n in ("ada", "olga", "ed", "vi", "out")),
        ("asks", "pending"),
    ]:
        values = {"password_hash": "-", "admin": name == "ada", "created_at": time.time()}
        with write(engine) as connection:
            connection.execute(insert(accounts).values(name=name, state=state, **values))
    return Identity(engine, Signer("k" * 32), "http://127.0.0.1:1", "cuaderno")


@pytest.fixture
def team(engine: Engine, identity: Identity, settings: Settings) -> str:
    projects.create(engine, settings, ADMIN, "team", "The team", owner="olga")
    members.put(engine, identity, OWNER, "team", "ed", Role.EDITOR)
    members.put(engine, identity, OWNER, "team", "vi", Role.VIEWER)
    return "team"


def roles(engine: Engine, project: str) -> dict[str, str]:
    return {m.person: str(m.role) for m in store.list_members(engine, project)}


def test_a_project_has_a_repository_and_an_owner(
    engine: Engine, identity: Identity, settings: Settings, team: str
) -> None:
    assert roles(engine, team) == {"olga": "owner", "ed": "editor", "vi": "viewer"}
    repository = project_repository(settings.projects_dir, team)
    assert repository.files(repository.head() or "") == [".gitignore", "README.md"]
    assert [p.name for p, _ in projects.visible(engine, identity, OWNER)] == [team]
    assert projects.visible(engine, identity, OUTSIDER) == []
    with pytest.raises(NotFound):
        projects.get(engine, identity, OUTSIDER, team)


def test_only_an_administrator_makes_projects(
    engine: Engine, identity: Identity, settings: Settings
) -> None:
    with pytest.raises(Forbidden):
        projects.create(engine, settings, OWNER, "mine")
    assert store.list_projects(engine) == []


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a_b", "a/b", "a-", "x" * 20, "new", "project-x", "project-accounts"]
)
def test_names_that_no_project_may_have(
    name: str, engine: Engine, identity: Identity, settings: Settings
) -> None:
    with pytest.raises(Invalid):
        projects.create(engine, settings, ADMIN, name)


def test_a_name_is_taken_once(
    engine: Engine, identity: Identity, settings: Settings, team: str
) -> None:
    with pytest.raises(Conflict):
        projects.create(engine, settings, ADMIN, team)
    with pytest.raises(Invalid, match="no active account"):
        projects.create(engine, settings, ADMIN, "other", owner="asks")


def test_git_keeps_no_other_writer_waiting(
    engine: Engine, identity: Identity, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_meanwhile(*_args: object) -> None:
        # A write in another thread gets its turn while the repository is made.
        done = threading.Event()

        def other() -> None:
            with write(engine) as connection:
                connection.execute(update(accounts).values(password_hash="changed"))
            done.set()

        threading.Thread(target=other, daemon=True).start()
        assert done.wait(4)

    monkeypatch.setattr(projects, "prepare_repository", write_meanwhile)
    assert projects.create(engine, settings, ADMIN, "team").name == "team"


def test_what_a_failed_start_of_a_project_left_is_used(
    engine: Engine, identity: Identity, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "put_member", lambda *_args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            projects.create(engine, settings, ADMIN, "team")
    assert store.list_projects(engine) == []
    left = project_repository(settings.projects_dir, "team").head()
    assert left
    projects.create(engine, settings, ADMIN, "team")
    assert project_repository(settings.projects_dir, "team").head() == left


def test_only_owners_manage_members(engine: Engine, identity: Identity, team: str) -> None:
    for who, error in ((OUTSIDER, NotFound), (VIEWER, Forbidden), (EDITOR, Forbidden)):
        with pytest.raises(error):
            members.put(engine, identity, who, team, "out", Role.OWNER)
        with pytest.raises(error):
            members.remove(engine, identity, who, team, "olga")
    project = Principal("project", team, project=team, role=Role.OWNER)
    with pytest.raises(Forbidden):
        members.put(engine, identity, project, team, "out", Role.EDITOR)
    assert roles(engine, team) == {"olga": "owner", "ed": "editor", "vi": "viewer"}


def test_members_are_people_who_may_sign_in(engine: Engine, identity: Identity, team: str) -> None:
    for name in ("asks", "nobody"):
        with pytest.raises(Invalid, match="no active account"):
            members.put(engine, identity, OWNER, team, name, Role.VIEWER)


def test_a_project_keeps_an_owner(engine: Engine, identity: Identity, team: str) -> None:
    with pytest.raises(Conflict, match="only owner"):
        members.remove(engine, identity, OWNER, team, "olga")
    with pytest.raises(Conflict, match="only owner"):
        members.put(engine, identity, OWNER, team, "olga", Role.EDITOR)
    members.put(engine, identity, OWNER, team, "ed", Role.OWNER)
    members.remove(engine, identity, OWNER, team, "olga")
    assert roles(engine, team) == {"ed": "owner", "vi": "viewer"}


def test_two_owners_who_leave_at_once_do_not_both_go(
    engine: Engine, identity: Identity, team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members.put(engine, identity, OWNER, team, "ed", Role.OWNER)
    refused: list[Exception] = []
    counted, count = threading.Barrier(2), store.other_owners

    def count_and_wait(*args: Any) -> int:
        # Without a lock both count before either leaves; with one, the second waits to count.
        found = count(*args)
        with contextlib.suppress(threading.BrokenBarrierError):
            counted.wait(0.7)
        return found

    monkeypatch.setattr(store, "other_owners", count_and_wait)

    def leave(who: Principal) -> None:
        try:
            members.remove(engine, identity, who, team, who.name)
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=leave, args=[who]) for who in (OWNER, EDITOR)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert list(roles(engine, team).values()).count("owner") == 1


def test_everybody_may_leave(engine: Engine, identity: Identity, team: str) -> None:
    members.remove(engine, identity, VIEWER, team, "vi")
    assert roles(engine, team) == {"olga": "owner", "ed": "editor"}


def test_the_demo_is_made_once_and_only_where_there_is_no_project(
    engine: Engine, identity: Identity, settings: Settings
) -> None:
    assert seed.seed(engine, settings)
    repository = project_repository(settings.projects_dir, seed.DEMO)
    head = repository.head()
    assert head and "notebooks/train_classifier.ipynb" in repository.files(head)
    assert roles(engine, seed.DEMO) == {"ada": "owner"}
    assert seed.seed(engine, settings)
    assert repository.head() == head


def test_no_demo_beside_other_projects_or_where_it_is_not_wanted(
    engine: Engine, identity: Identity, settings: Settings, team: str
) -> None:
    assert not seed.seed(engine, settings)
    unwanted = Settings(data_dir=settings.data_dir, demo=DemoSettings(enabled=False))
    assert not seed.seed(engine, unwanted)
    assert [p.name for p in store.list_projects(engine)] == [team]
