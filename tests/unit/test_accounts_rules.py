"""Names, passwords and throttles: the rules that need no database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_config.accounts.model import check_name
from hub_config.accounts.passwords import check_password, hash_password, verify
from hub_config.accounts.throttle import Throttle
from hub_config.errors import Invalid, TooManyRequests


@pytest.mark.parametrize("name", ["ana", "ana.b", "maria-jose_2", "a1", "x" * 32])
def test_names_of_people(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("project-demo", "~ana", "operator", "cuaderno", "Ana", "a", "x" * 33, "", "1a", "a--b"),
        *("a.", "-a", "a/b", "..", "a b", "a\n", "añá", "a%2f", "ana\u0000"),
    ],
)
def test_names_nobody_gets(name: str) -> None:
    with pytest.raises(Invalid):
        check_name(name)


@given(st.text(max_size=40))
def test_a_name_is_always_a_plain_folder(name: str) -> None:
    try:
        check_name(name)
    except Invalid:
        return
    assert name.isascii() and name == name.lower() and 2 <= len(name) <= 32
    assert not {"/", "\\", "%", "~", " ", "\0"} & set(name) and ".." not in name


@pytest.mark.parametrize("password", ["short", "x" * 201, "aaaaaaaaaaaa", "my-name-is-ana-1"])
def test_poor_passwords(password: str) -> None:
    with pytest.raises(Invalid):
        check_password(password, "ana")


def test_a_password_fits_its_own_hash_only() -> None:
    hashed = hash_password("right-Password-1")
    assert hashed.startswith("$argon2id$") and "right" not in hashed
    assert verify(hashed, "right-Password-1")
    assert not verify(hashed, "wrong-Password-1")
    assert not verify(None, "the password of nobody")
    assert not verify("not a hash", "right-Password-1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_attempts_run_out_per_key_and_come_back() -> None:
    clock = Clock()
    throttle = Throttle("attempts", per_key=2, in_all=100, seconds=60, clock=clock)
    throttle.take("ana")
    clock.now = 10
    throttle.take("ana")
    with pytest.raises(TooManyRequests, match=r"attempts\. Try again in 50 seconds\."):
        throttle.take("ana")
    throttle.take("bob")
    clock.now = 60
    throttle.take("ana")


def test_attempts_run_out_in_all() -> None:
    throttle = Throttle("attempts", per_key=9, in_all=3, seconds=60, clock=Clock())
    for name in ("a", "b", "c"):
        throttle.take(name)
    with pytest.raises(TooManyRequests):
        throttle.take("d")


def test_what_turned_out_well_does_not_count() -> None:
    throttle = Throttle("attempts", per_key=1, in_all=1, seconds=60, clock=Clock())
    for _ in range(5):
        throttle.give_back("ana", throttle.take("ana"))


def test_forgotten_keys_take_no_room() -> None:
    clock = Clock()
    throttle = Throttle("attempts", per_key=5, in_all=10, seconds=60, clock=clock)
    for n in range(1000):
        clock.now = n * 10.0
        throttle.take(f"name-{n}")
    assert len(throttle._keys) <= 10
