"""Tokens and roles: who is let in as what, and what each may do."""

import time

import pytest
from sqlalchemy import insert, update

from hub_config.errors import Forbidden, NotFound, Unauthenticated
from hub_config.identity import Identity, Principal, Role, Signer
from hub_config.storage import schema
from hub_config.storage.database import migrate, open_database, write


@pytest.fixture
def engine(tmp_path):
    url = f"sqlite:///{tmp_path}/c.db"
    migrate(url)
    engine = open_database(url)
    now = time.time()
    with write(engine) as c:
        for name, state, admin in (
            ("root", "active", True),
            ("ana", "active", False),
            ("bob", "active", False),
            ("eve", "disabled", False),
        ):
            c.execute(
                insert(schema.accounts).values(
                    name=name, password_hash="x", state=state, admin=admin, created_at=now
                )
            )
        for project in ("demo", "other"):
            c.execute(
                insert(schema.projects).values(
                    name=project, title=project, created_at=now, created_by="root"
                )
            )
        for person, role in (("ana", "editor"), ("bob", "viewer")):
            c.execute(
                insert(schema.members).values(
                    project="demo", person=person, role=role, added_at=now, added_by="root"
                )
            )
        c.execute(
            insert(schema.runs).values(
                id="r1",
                project="demo",
                notebook="n.ipynb",
                commit="c",
                parameters={},
                submitted_by="ana",
                origin="cli",
                state="running",
                target="succeeded",
                reason="",
                attempt=7,
                cells_done=0,
                cells_total=0,
                created_at=now,
            )
        )
        c.execute(insert(schema.attempts).values(id=7, run="r1", created_at=now))
    return engine


@pytest.fixture
def signer():
    return Signer("k" * 32)


@pytest.fixture
def identity(engine, signer):
    return Identity(engine, signer, "http://127.0.0.1:9/hub/api", "cuaderno")


def person(name, **extra):
    return {"kind": "user", "name": name, "scopes": ["access:services!service=cuaderno"], **extra}


def test_a_person_has_the_roles_of_the_table(identity):
    ana = identity.of_hub_model(person("ana", groups=["other"], admin=True))
    assert ana == Principal("person", "ana")  # what the hub says of groups and admin counts nothing
    assert identity.projects(ana) == {"demo": Role.EDITOR}
    assert identity.require(ana, "demo", Role.EDITOR) is Role.EDITOR
    with pytest.raises(Forbidden, match="role owner"):
        identity.require(ana, "demo", Role.OWNER)
    with pytest.raises(NotFound):
        identity.require(ana, "other", Role.VIEWER)
    with pytest.raises(Forbidden):
        identity.require(identity.of_hub_model(person("bob")), "demo", Role.EDITOR)


def test_what_an_outsider_is_told_of_a_project_is_what_is_told_of_none(identity):
    ana = identity.of_hub_model(person("ana"))
    said = []
    for name in ("other", "never"):
        with pytest.raises(NotFound) as refused:
            identity.require(ana, name, Role.VIEWER)
        said.append(refused.value.detail.replace(name, "X"))
    assert said[0] == said[1]


def test_an_administrator_owns_every_project(identity):
    root = identity.of_hub_model(person("root"))
    assert identity.projects(root) == {"demo": Role.OWNER, "other": Role.OWNER}


@pytest.mark.parametrize("name", ["eve", "nobody"])
def test_an_account_that_is_not_active_is_nobody(identity, name):
    with pytest.raises(Unauthenticated):
        identity.of_hub_model(person(name))


def test_a_token_for_another_service_is_refused(identity):
    model = {**person("ana"), "scopes": ["access:services!service=mlflow"]}
    with pytest.raises(Unauthenticated, match="lacks"):
        identity.of_hub_model(model)


def test_a_project_account_is_its_project(identity):
    demo = identity.of_hub_model(person("project-demo"))
    assert (demo.kind, demo.project) == ("project", "demo")
    assert identity.projects(demo) == {"demo": Role.EDITOR}


def test_a_run_token_is_scoped_and_dies_with_its_run(identity, signer, engine):
    token = signer.run_token("r1", 7, "demo")
    run = identity.principal(token)
    assert (run.kind, run.run, run.attempt) == ("run", "r1", 7)
    assert identity.projects(run) == {"demo": Role.EDITOR}
    with pytest.raises(Unauthenticated):
        identity.principal(signer.run_token("r1", 6, "demo"))  # an attempt before this one
    with write(engine) as c:
        c.execute(update(schema.attempts).values(ended_at=time.time()))
    with pytest.raises(Unauthenticated, match="ended"):
        identity.principal(token)


def test_a_dashboard_token_reads_and_expires(identity, signer):
    reader = identity.principal(signer.dashboard_token("demo", 60))
    assert identity.projects(reader) == {"demo": Role.VIEWER}
    with pytest.raises(Unauthenticated):
        identity.principal(signer.dashboard_token("demo", -1))


def test_a_forged_or_altered_token_is_refused(identity, signer):
    with pytest.raises(Unauthenticated):
        identity.principal(Signer("x" * 32).run_token("r1", 7, "demo"))
    with pytest.raises(Unauthenticated):
        identity.principal(signer.run_token("r1", 7, "demo")[:-3] + "abc")
    with pytest.raises(Unauthenticated):
        identity.principal(None)
    # "alg": "none" must never pass
    import jwt

    unsigned = jwt.encode({"kind": "service", "name": "jobs"}, "", algorithm="none")
    with pytest.raises(Unauthenticated):
        identity.principal("cu_" + unsigned)
