"""Whose an experiment is, and what each kind of principal may do with it."""

import pytest

from hub_config.errors import Forbidden, NotFound
from hub_config.identity import Principal, Role
from hub_config.tracking.ownership import Caller, Owner, owner_of


class Roles:
    """Stands for `Identity`: only the roles that are asked for."""

    def __init__(self, roles):
        self.roles = roles

    def projects(self, principal):
        return self.roles


def caller(kind, name, *, admin=False, **roles):
    return Caller(Principal(kind, name, admin=admin), Roles(roles))


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("demo", Owner("demo", False)),
        ("demo/a/b", Owner("demo", False)),
        ("~ana", Owner("ana", True)),
        ("~ana/tests", Owner("ana", True)),
        ("~~ana", Owner("~ana", True)),
        ("demo.other", Owner("demo.other", False)),
        ("/demo", Owner("", False)),
        ("Default", Owner("Default", False)),
    ],
)
def test_the_owner_is_in_the_name(name, owner):
    assert owner_of(name) == owner


def test_a_member_holds_the_role_of_the_project_in_its_experiments_only():
    ana = caller("person", "ana", demo=Role.EDITOR)
    assert ana.role_in("demo/x") is Role.EDITOR
    assert ana.role_in("other") is None
    assert ana.role_in("Default") is None
    assert ana.role_in("demo2") is None


def test_a_persons_experiments_are_nobody_elses():
    assert caller("person", "ana").role_in("~ana/x") is Role.OWNER
    assert caller("person", "bob").role_in("~ana/x") is None
    assert caller("person", "root", admin=True, demo=Role.OWNER).role_in("~ana") is None
    for kind in ("project", "run", "dashboard", "operator", "service"):
        assert caller(kind, "ana", demo=Role.OWNER).role_in("~ana") is None


def test_missing_and_hidden_read_the_same_and_a_small_role_is_told():
    ana = caller("person", "ana", demo=Role.VIEWER)
    with pytest.raises(NotFound) as missing:
        ana.require(None, Role.VIEWER, "The run x")
    with pytest.raises(NotFound) as hidden:
        ana.require("other", Role.VIEWER, "The run x")
    assert missing.value.detail == hidden.value.detail
    with pytest.raises(Forbidden, match="editor in the project demo; yours is viewer"):
        ana.require("demo", Role.EDITOR, "The run x")


def test_only_the_service_jobs_closes_runs():
    assert caller("service", "jobs").closes_runs
    assert not caller("service", "web").closes_runs
    assert not caller("person", "jobs").closes_runs
