"""Projects: made by an administrator, seen by their members.

A project's name becomes part of a hub account (`project-<name>`), of a hub group, of a host name
and of an experiment's name, so it is short and plain, and never changes.
"""

from __future__ import annotations

import re
import threading
import time

from sqlalchemy import Connection, Engine

from hub_config.errors import Conflict, Forbidden, Invalid, NotFound
from hub_config.identity import PROJECT_ACCOUNTS, Identity, Principal, Role
from hub_config.projects import store
from hub_config.projects.store import Member, Project
from hub_config.settings import Settings
from hub_config.storage.database import write
from hub_config.storage.repository import project_repository

NAME = re.compile(r"[a-z]([a-z0-9-]{0,17}[a-z0-9])?")
# `new` is a page; the others are names of hub groups and accounts that are not a project's.
RESERVED = frozenset({"new", "admin", "hub", "project", PROJECT_ACCOUNTS, "cuaderno"})

_preparing = threading.Lock()  # two that make the same project begin one repository

README = """# {title}

Notebooks of the project {name}. What is committed here is what jobs run.
"""
GITIGNORE = """.ipynb_checkpoints/
.jupyter/
.jupyter_ystore.db*
.virtual_documents/
__pycache__/
"""


def check_name(name: str) -> str:
    """`name` if a project may bear it. Raises `Invalid`."""
    if not NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot be a project's name: use 1 to 19 lower-case letters, digits and "
            "hyphens, a letter first and no hyphen last.",
            field="name",
        )
    if name in RESERVED or name.startswith("project-"):
        raise Invalid(f"The name {name!r} is kept for the platform. Use another.", field="name")
    return name


def create(
    engine: Engine,
    settings: Settings,
    principal: Principal,
    name: str,
    title: str = "",
    *,
    owner: str | None = None,
) -> Project:
    """Make the project with its repository; `owner` (else the maker) becomes its first owner.

    Raises `Forbidden` for who is no administrator, `Invalid`, and `Conflict` for a taken name.
    """
    if not principal.admin:
        raise Forbidden("Only an administrator makes projects. Ask one for it.")
    name, title = check_name(name), title.strip() or name
    if len(title) > 200:
        raise Invalid("A project's title has at most 200 characters.", field="title")
    owner = owner or (principal.name if principal.kind == "person" else settings.hub.admin)
    project = Project(name, title, time.time(), principal.name)
    with engine.connect() as connection:
        _require_possible(connection, name, owner)
    # Before the transaction, which keeps all other writers waiting. If git fails, there is no
    # project; if the transaction does, a repository is left, for the next project of this name.
    with _preparing:
        prepare_repository(settings, project)
    with write(engine) as connection:
        _require_possible(connection, name, owner)
        store.insert_project(connection, project)
        store.put_member(connection, Member(name, owner, Role.OWNER, time.time(), principal.name))
    return project


def _require_possible(connection: Connection, name: str, owner: str) -> None:
    if store.project_exists(connection, name):
        raise Conflict(f"There is a project {name} already. Use another name.", field="name")
    if not store.is_active(connection, owner):
        raise Invalid(f"There is no active account {owner}, who would own it.", field="owner")


def prepare_repository(settings: Settings, project: Project, *more: str) -> None:
    """Make the repository and its first commit, with the paths `more`, where they are missing."""
    repository = project_repository(settings.projects_dir, project.name)
    repository.create()
    (settings.projects_dir / project.name / "state").mkdir(exist_ok=True)
    if repository.head():
        return
    readme, ignore = repository.path / "README.md", repository.path / ".gitignore"
    if not readme.exists():
        readme.write_text(README.format(title=project.title, name=project.name))
    if not ignore.exists():
        ignore.write_text(GITIGNORE)
    repository.commit(["README.md", ".gitignore", *more], "Begin the project")


def visible(engine: Engine, identity: Identity, principal: Principal) -> list[tuple[Project, Role]]:
    """The projects a principal may see, each with its role there."""
    roles = identity.projects(principal)
    return [(p, roles[p.name]) for p in store.list_projects(engine, roles)]


def get(
    engine: Engine, identity: Identity, principal: Principal, name: str
) -> tuple[Project, Role]:
    """One project and the principal's role there. Raises `NotFound` for who is not a member."""
    role = identity.require(principal, name, Role.VIEWER)
    found = store.list_projects(engine, [name])
    if not found:
        raise NotFound(f"There is no project {name!r} that you can see.")
    return found[0], role
