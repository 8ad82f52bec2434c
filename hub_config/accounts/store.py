"""The table `accounts`, read and written."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub_config.accounts.model import Account, State
from hub_config.storage.database import write
from hub_config.storage.schema import accounts

_COLUMNS = (
    accounts.c.name,
    accounts.c.state,
    accounts.c.admin,
    accounts.c.created_at,
    accounts.c.decided_at,
    accounts.c.decided_by,
)


def _account(row: Any) -> Account:
    return Account(**{**row._mapping, "state": State(row.state)})


def find(engine: Engine, name: str) -> Account | None:
    with engine.connect() as connection:
        row = connection.execute(select(*_COLUMNS).where(accounts.c.name == name)).first()
    return _account(row) if row else None


def password_hash(engine: Engine, name: str) -> str | None:
    with engine.connect() as connection:
        return connection.scalar(select(accounts.c.password_hash).where(accounts.c.name == name))


def set_password(engine: Engine, name: str, password_hash: str) -> None:
    with write(engine) as connection:
        connection.execute(
            update(accounts).where(accounts.c.name == name).values(password_hash=password_hash)
        )


def page(
    engine: Engine, *, state: State | None, after: str, limit: int
) -> tuple[list[Account], int]:
    """Accounts in order of name, from the first one past `after`; and how many there are in all."""
    chosen = accounts.c.state == state if state else accounts.c.name.is_not(None)
    with engine.connect() as connection:
        rows = connection.execute(
            select(*_COLUMNS)
            .where(chosen, accounts.c.name > after)
            .order_by(accounts.c.name)
            .limit(limit)
        ).all()
        total = connection.scalar(select(func.count()).select_from(accounts).where(chosen))
    return [_account(row) for row in rows], total or 0


def count(engine: Engine, *, state: State, admin: bool | None = None) -> int:
    with engine.connect() as connection:
        return _count(connection, state, admin)


def _count(connection: Connection, state: State, admin: bool | None) -> int:
    query = select(func.count()).select_from(accounts).where(accounts.c.state == state)
    if admin is not None:
        query = query.where(accounts.c.admin == admin)
    return connection.scalar(query) or 0


def add(
    engine: Engine, name: str, password_hash: str, *, state: State, admin: bool, by: str | None
) -> bool:
    """Add an account; False when the name is taken."""
    now = time.time()
    try:
        with write(engine) as connection:
            connection.execute(
                insert(accounts).values(
                    name=name,
                    password_hash=password_hash,
                    state=state,
                    admin=admin,
                    created_at=now,
                    decided_at=now if by else None,
                    decided_by=by,
                )
            )
    except IntegrityError:
        return False
    return True


def decide(
    engine: Engine, name: str, *, expected: State, state: State, by: str, keep_an_admin: bool
) -> bool:
    """Move an account from `expected` to `state`; False when it was no longer there.

    With `keep_an_admin` also False when no active administrator would be left.
    """
    with write(engine) as connection:
        # Locked in order, so that two administrators who disable each other cannot both succeed.
        admins = connection.scalars(
            select(accounts.c.name)
            .where(accounts.c.admin, accounts.c.state == State.ACTIVE)
            .order_by(accounts.c.name)
            .with_for_update()
        ).all()
        if keep_an_admin and set(admins) <= {name}:
            return False
        done = connection.execute(
            update(accounts)
            .where(accounts.c.name == name, accounts.c.state == expected)
            .values(state=state, decided_at=time.time(), decided_by=by)
        )
        return done.rowcount == 1
