"""The tables `projects` and `members`, read and written; no rule of who may do what.

A change of members locks the project's row, so that two changes at once see one another (SQLite
takes its one write lock instead).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from hub_config.identity import Role
from hub_config.storage.schema import accounts, members, projects


@dataclass(frozen=True)
class Project:
    name: str
    title: str
    created_at: float
    created_by: str


@dataclass(frozen=True)
class Member:
    project: str
    person: str
    role: Role
    added_at: float
    added_by: str


def any_project(connection: Connection) -> bool:
    return connection.scalar(select(projects.c.name).limit(1)) is not None


def list_projects(engine: Engine, names: Iterable[str] | None = None) -> list[Project]:
    """All projects, or those named, in order of name."""
    query = select(projects).order_by(projects.c.name)
    if names is not None:
        query = query.where(projects.c.name.in_(list(names)))
    with engine.connect() as connection:
        return [Project(**row._mapping) for row in connection.execute(query)]


def insert_project(connection: Connection, project: Project) -> None:
    connection.execute(insert(projects).values(**vars(project)))


def project_exists(connection: Connection, name: str) -> bool:
    return connection.scalar(select(projects.c.name).where(projects.c.name == name)) is not None


def lock_project(connection: Connection, name: str) -> bool:
    """Keep other changes of this project waiting until the transaction ends; False if none."""
    query = select(projects.c.name).where(projects.c.name == name).with_for_update()
    return connection.scalar(query) is not None


def list_members(engine: Engine, project: str) -> list[Member]:
    """Owners first, then editors, then viewers; each in order of name."""
    query = select(members).where(members.c.project == project)
    with engine.connect() as connection:
        found = [_member(row._mapping) for row in connection.execute(query)]
    return sorted(found, key=lambda m: (-m.role.rank, m.person))


def get_member(connection: Connection, project: str, person: str) -> Member | None:
    row = connection.execute(
        select(members).where(members.c.project == project, members.c.person == person)
    ).first()
    return _member(row._mapping) if row else None


def put_member(connection: Connection, member: Member) -> None:
    """Insert the member, or change the role of one that is there."""
    changed = connection.execute(
        update(members)
        .where(members.c.project == member.project, members.c.person == member.person)
        .values(role=str(member.role))
    )
    if not changed.rowcount:
        connection.execute(insert(members).values(**{**vars(member), "role": str(member.role)}))


def delete_member(connection: Connection, project: str, person: str) -> None:
    connection.execute(
        delete(members).where(members.c.project == project, members.c.person == person)
    )


def other_owners(connection: Connection, project: str, person: str) -> int:
    """How many owners the project has besides `person`."""
    query = (
        select(func.count())
        .select_from(members)
        .where(
            members.c.project == project,
            members.c.person != person,
            members.c.role == str(Role.OWNER),
        )
    )
    return connection.scalar(query) or 0


def is_active(connection: Connection, person: str) -> bool:
    """Whether `person` has an account that may sign in."""
    query = select(accounts.c.name).where(accounts.c.name == person, accounts.c.state == "active")
    return connection.scalar(query) is not None


def active_people(engine: Engine, *, admins: bool = False) -> list[str]:
    """Who may sign in, in order of name; with `admins` the administrators among them."""
    query = select(accounts.c.name).where(accounts.c.state == "active").order_by(accounts.c.name)
    if admins:
        query = query.where(accounts.c.admin)
    with engine.connect() as connection:
        return list(connection.scalars(query))


def _member(row: object) -> Member:
    values = dict(row)  # type: ignore[call-overload]
    return Member(**{**values, "role": Role(values["role"])})
