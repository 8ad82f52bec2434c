"""An account of a person, and which names one may have.

A name is also a folder, a hub account, a part of an address and of an experiment's name, so it is
short, in lower case, and cannot be taken for anything of the platform's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hub_config.errors import Invalid
from hub_config.identity import PROJECT_ACCOUNT_PREFIX

NAME = re.compile(r"[a-z](?:[._-]?[a-z0-9]){1,31}")
# Names of hub services and of what acts without a person; logs and runs name them as actors.
_OF_SERVICES = "cuaderno dashboards hub jobs mlflow proxy supervisor operator tracking web worker"
_OF_NOBODY = "anonymous nobody none platform root service services system user users"
RESERVED = frozenset(f"{_OF_SERVICES} {_OF_NOBODY}".split())


class State(StrEnum):
    """Where an account stands."""

    PENDING = "pending"  # asked to sign up; an administrator has not decided
    ACTIVE = "active"  # may sign in
    REFUSED = "refused"  # asked, and was told no
    DISABLED = "disabled"  # could once sign in


@dataclass(frozen=True)
class Account:
    name: str
    state: State
    admin: bool
    created_at: float
    decided_at: float | None = None
    decided_by: str | None = None

    def public(self) -> dict[str, Any]:
        """The account as the API shows it."""
        return {
            "name": self.name,
            "state": self.state,
            "admin": self.admin,
            "created_at": self.created_at,
            "decided_at": self.decided_at,
            "decided_by": self.decided_by,
        }


def check_name(name: str) -> str:
    """`name` if a person may be called so. Raises `Invalid`."""
    if name.startswith(PROJECT_ACCOUNT_PREFIX):
        raise Invalid(f"Names that begin with {PROJECT_ACCOUNT_PREFIX} belong to projects.")
    if name in RESERVED:
        raise Invalid(f"The name {name} is reserved for the platform. Choose another.")
    if not NAME.fullmatch(name) or len(name) > 32:
        raise Invalid(
            "A name has 2 to 32 lower-case letters and digits, begins with a letter, and may "
            "hold single dots, hyphens or underscores between them."
        )
    return name
