"""Changing one's own password, on SQLite and PostgreSQL."""

import pytest

from hub_config.accounts.domain import Accounts
from hub_config.errors import Forbidden, Invalid, TooManyRequests

OLD, NEW = "the first password 1", "another password 2"


@pytest.fixture
def accounts(engine):
    made = Accounts(engine)
    made.sign_up("ana", OLD)
    made.decide("ana", "approve", "root")
    return made


def test_the_new_password_signs_in_and_the_old_one_no_longer(accounts):
    accounts.change_password("ana", OLD, NEW)
    assert accounts.sign_in("ana", NEW).name == "ana"
    assert accounts.sign_in("ana", OLD) is None


def test_a_wrong_present_password_changes_nothing_and_guesses_are_throttled(accounts):
    with pytest.raises(Forbidden, match="Nothing was changed"):
        accounts.change_password("ana", "wrong password", NEW)
    assert accounts.sign_in("ana", OLD)
    with pytest.raises(TooManyRequests):
        for _ in range(10):
            with pytest.raises(Forbidden):
                accounts.change_password("ana", "guess", NEW)


def test_a_weak_new_password_is_refused(accounts):
    with pytest.raises(Invalid):
        accounts.change_password("ana", OLD, "short")
    assert accounts.sign_in("ana", OLD)
