"""Whose an experiment is, and what the caller may do with it.

An experiment called `<project>` or `<project>/…` belongs to the project, one called `~<person>` or
`~<person>/…` to the person alone: not even an administrator sees it. Every other name, MLflow's
`Default` among them, is nobody's.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property

from hub_config.errors import Forbidden, NotFound, Unauthenticated
from hub_config.identity import Identity, Principal, Role

PERSONAL = "~"
SERVICE_THAT_CLOSES_RUNS = "jobs"


@dataclass(frozen=True)
class Owner:
    """A project, or a person when `personal`."""

    name: str
    personal: bool


def owner_of(experiment_name: str) -> Owner:
    head = experiment_name.split("/", 1)[0]
    if head.startswith(PERSONAL):
        return Owner(head.removeprefix(PERSONAL), personal=True)
    return Owner(head, personal=False)


@dataclass
class Caller:
    """The principal of one request; its roles are read once, when first needed."""

    principal: Principal
    identity: Identity = field(repr=False)

    @cached_property
    def _roles(self) -> dict[str, Role]:
        return self.identity.projects(self.principal)

    @property
    def closes_runs(self) -> bool:
        """Whether this is the process `jobs`, which finds runs that died and ends them."""
        who = self.principal
        return who.kind == "service" and who.name == SERVICE_THAT_CLOSES_RUNS

    def role_in(self, experiment_name: str) -> Role | None:
        owner = owner_of(experiment_name)
        if owner.personal:
            mine = self.principal.kind == "person" and self.principal.name == owner.name
            return Role.OWNER if mine else None
        return self._roles.get(owner.name)

    def may(self, experiment_name: str, needed: Role) -> bool:
        held = self.role_in(experiment_name)
        return held is not None and held.includes(needed)

    def require(self, experiment_name: str | None, needed: Role, what: str) -> None:
        """Pass if the caller holds `needed` where `what` lies.

        `experiment_name` is None when there is no such thing. Raises `NotFound`, in the same words
        for what does not exist and what the caller may not see, or `Forbidden`.
        """
        held = None if experiment_name is None else self.role_in(experiment_name)
        if experiment_name is None or held is None:
            raise NotFound(f"{what} was not found, or is not yours to see.")
        if not held.includes(needed):
            raise Forbidden(
                f"This needs the role {needed} in the project {owner_of(experiment_name).name}; "
                f"yours is {held}. An owner of the project can change it."
            )


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def set_caller(caller: Caller) -> None:
    """Let everything that this request does next be done as `caller`."""
    _caller.set(caller)


def caller() -> Caller:
    """Who the present request acts for. Code without one may do nothing."""
    present = _caller.get()
    if present is None:
        raise Unauthenticated("Nobody is signed in.")
    return present
