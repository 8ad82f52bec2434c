"""What can be done with accounts: sign up, decide, sign in; and the first administrator.

A sign-up waits until an administrator decides. A wrong password and an unknown name get the same
answer, after the same work; that an account still waits, or was disabled, is told only to who
knows its password.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import Engine

from hub_config.accounts import store
from hub_config.accounts.model import Account, State, check_name
from hub_config.accounts.passwords import check_password, hash_password, verify
from hub_config.accounts.throttle import Throttle
from hub_config.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Misconfigured,
    NotFound,
    TooManyRequests,
)
from hub_config.keys import write_private
from hub_config.settings import Settings

MOST_PENDING = 200

# What a decision needs to find, and what it makes of it.
DECISIONS = {
    "approve": ((State.PENDING, State.REFUSED, State.DISABLED), State.ACTIVE),
    "refuse": ((State.PENDING,), State.REFUSED),
    "disable": ((State.ACTIVE,), State.DISABLED),
}


class Accounts:
    """The accounts of one platform. Thread-safe; every method may block."""

    def __init__(self, engine: Engine, *, signup: bool = True) -> None:
        self.signup_open = signup
        self._engine = engine
        self._signups = Throttle("sign-ups", per_key=3, in_all=10, seconds=60)
        self._signins = Throttle("attempts to sign in", per_key=5, in_all=100, seconds=60)

    def sign_up(self, name: str, password: str) -> Account:
        """Ask for an account. Raises `Invalid`, `Conflict`, `Forbidden`, `TooManyRequests`."""
        if not self.signup_open:
            raise Forbidden("Sign-up is closed here. Ask an administrator for an account.")
        name = check_name(name.strip())
        check_password(password, name)
        self._signups.take(name)
        if store.count(self._engine, state=State.PENDING) >= MOST_PENDING:
            raise TooManyRequests(
                f"{MOST_PENDING} people wait for an administrator's decision already. "
                "Try again later."
            )
        hashed = hash_password(password)
        if not store.add(self._engine, name, hashed, state=State.PENDING, admin=False, by=None):
            raise Conflict(f"The name {name} is taken. Choose another.")
        return self.get(name)

    def sign_in(self, name: str, password: str) -> Account | None:
        """The account, if the password is right and the account active; None for a wrong one.

        Raises `TooManyRequests`, and `Forbidden` for the right password of an account that may
        not sign in.
        """
        taken = self._signins.take(name[:64])
        if not verify(store.password_hash(self._engine, name), password):
            return None
        account = self.get(name)
        self._signins.give_back(name[:64], taken)
        if account.state is State.PENDING:
            raise Forbidden("Your account waits for an administrator's approval.")
        if account.state is not State.ACTIVE:
            raise Forbidden(f"Your account is {account.state}. Ask an administrator.")
        return account

    def change_password(self, name: str, present: str, new: str) -> None:
        """Give `name` another password. Raises `Invalid`, `Forbidden`, `TooManyRequests`."""
        if self.sign_in(name, present) is None:
            raise Forbidden("The present password is not right. Nothing was changed.")
        check_password(new, name)
        store.set_password(self._engine, name, hash_password(new))

    def is_active(self, name: str) -> bool:
        account = store.find(self._engine, name)
        return account is not None and account.state is State.ACTIVE

    def get(self, name: str) -> Account:
        account = store.find(self._engine, name)
        if account is None:
            raise NotFound(f"There is no account {name!r}.")
        return account

    def page(
        self, state: State | None = None, after: str = "", limit: int = 50
    ) -> tuple[list[Account], int]:
        """Accounts in order of name past `after`, and how many there are in all."""
        return store.page(self._engine, state=state, after=after, limit=limit)

    def decide(self, name: str, decision: str, by: str) -> Account:
        """Approve, refuse or disable an account. Raises `NotFound`, `Conflict`."""
        expected, state = DECISIONS[decision]
        account = self.get(name)
        if account.state is state:
            return account
        if account.state not in expected:
            raise Conflict(f"The account {name} is {account.state}; you cannot {decision} it.")
        if decision == "disable" and name == by:
            raise Conflict("You cannot disable your own account. Ask another administrator.")
        if not store.decide(
            self._engine,
            name,
            expected=account.state,
            state=state,
            by=by,
            keep_an_admin=decision == "disable",
        ):
            raise Conflict(
                f"The account {name} was not changed: somebody else just decided about it, or it "
                "is the last administrator."
            )
        return self.get(name)


def ensure_admin(settings: Settings, engine: Engine) -> Path | None:
    """Make the first administrator where there is none, and the file that says how to sign in.

    The file `first-login` in the data folder is its path; None when there was nothing to make.
    """
    if store.count(engine, state=State.ACTIVE, admin=True):
        return None
    try:
        name = check_name(settings.hub.admin)
    except Invalid as error:
        raise Misconfigured(f"Setting hub.admin = {settings.hub.admin!r}: {error}") from error
    if store.find(engine, name):
        raise Misconfigured(
            f"There is no active administrator, and the account {name} exists without being one. "
            "Name another in hub.admin, who will be made."
        )
    password = secrets.token_urlsafe(15)
    path = settings.data_dir / "first-login"
    # The file first: an administrator whose password nobody knows could not be mended.
    write_private(path, f"{settings.base_url}/\nname: {name}\npassword: {password}\n")
    store.add(engine, name, hash_password(password), state=State.ACTIVE, admin=True, by="platform")
    return path
