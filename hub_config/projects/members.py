"""Members: who belongs to a project, and as what.

Owners add, remove and change members; anybody may leave. A project always keeps an owner, and only
people with an active account become members.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, Engine

from hub_config.errors import Conflict, Forbidden, Invalid, NotFound
from hub_config.identity import Identity, Principal, Role
from hub_config.projects import store
from hub_config.projects.store import Member
from hub_config.storage.database import write


def parse_role(word: str) -> Role:
    try:
        return Role(word)
    except ValueError as error:
        raise Invalid(
            f"{word!r} is not a role: use viewer, editor or owner.", field="role"
        ) from error


def members(engine: Engine, identity: Identity, principal: Principal, project: str) -> list[Member]:
    identity.require(principal, project, Role.VIEWER)
    return store.list_members(engine, project)


def put(
    engine: Engine,
    identity: Identity,
    principal: Principal,
    project: str,
    person: str,
    role: Role,
) -> Member:
    """Add `person` with `role`, or change the role of who is a member."""
    identity.require(principal, project, Role.OWNER)
    _require_person(principal)
    with write(engine) as connection:
        _lock(connection, project)
        present = store.get_member(connection, project, person)
        if present is None and not store.is_active(connection, person):
            raise Invalid(
                f"There is no active account {person!r}. People sign up first, and an "
                "administrator approves them.",
                field="person",
            )
        if present and present.role is Role.OWNER and role is not Role.OWNER:
            _require_other_owner(connection, project, person)
        store.put_member(connection, Member(project, person, role, time.time(), principal.name))
        return store.get_member(connection, project, person)  # type: ignore[return-value]


def remove(
    engine: Engine, identity: Identity, principal: Principal, project: str, person: str
) -> None:
    """Take `person` out of the project; owners do this to all, everybody to themselves."""
    leaving = principal.kind == "person" and principal.name == person
    identity.require(principal, project, Role.VIEWER if leaving else Role.OWNER)
    _require_person(principal)
    with write(engine) as connection:
        _lock(connection, project)
        present = store.get_member(connection, project, person)
        if present is None:
            raise NotFound(f"{person!r} is not a member of {project}.")
        if present.role is Role.OWNER:
            _require_other_owner(connection, project, person)
        store.delete_member(connection, project, person)


def _require_person(principal: Principal) -> None:
    # Code in a project's server or run acts as the project: it must not widen the project.
    if principal.kind not in ("person", "operator"):
        raise Forbidden("Only people manage members.")


def _lock(connection: Connection, project: str) -> None:
    if not store.lock_project(connection, project):
        raise NotFound(f"There is no project {project!r} that you can see.")


def _require_other_owner(connection: Connection, project: str, person: str) -> None:
    if not store.other_owners(connection, project, person):
        raise Conflict(
            f"{person} is the only owner of {project}. Make somebody else an owner first."
        )
