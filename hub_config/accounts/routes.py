"""REST routes of accounts. Mounted by `web` under its API prefix."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from hub_config.accounts.domain import Accounts
from hub_config.accounts.model import State
from hub_config.errors import Forbidden, Unauthenticated
from hub_config.identity import Principal

router = APIRouter(tags=["accounts"])


class SignUp(BaseModel):
    name: str = Field(max_length=64)
    password: str = Field(max_length=256)


class NewPassword(BaseModel):
    present: str = Field(max_length=256)
    new: str = Field(max_length=256)


def accounts_of(request: Request) -> Accounts:
    """The one `Accounts` of this application: its throttle must count every sign-up."""
    state = request.app.state
    if not hasattr(state, "accounts"):
        state.accounts = Accounts(state.engine, signup=state.settings.hub.signup)
    return state.accounts


def require_admin(request: Request) -> Principal:
    principal: Principal | None = getattr(request.state, "principal", None)
    if principal is None:
        raise Unauthenticated("Sign in, or send a token: `Authorization: Bearer …`.")
    if not principal.admin:
        raise Forbidden("Only administrators see and decide about accounts.")
    return principal


@router.get("/accounts")
def list_accounts(
    request: Request,
    state: State | None = None,
    cursor: str = "",
    limit: int = Query(50, ge=1, le=200),
) -> dict[str, Any]:
    """Accounts in order of name."""
    require_admin(request)
    found, total = accounts_of(request).page(state, cursor, limit + 1)
    following = found[limit - 1].name if len(found) > limit else None
    return {
        "items": [account.public() for account in found[:limit]],
        "next": following,
        "total": total,
    }


@router.post("/accounts/signup", status_code=202)
def sign_up(request: Request, wanted: SignUp) -> dict[str, Any]:
    """Ask for an account; an administrator decides. Needs no sign-in."""
    return accounts_of(request).sign_up(wanted.name, wanted.password).public()


@router.put("/accounts/me/password", status_code=204)
def change_password(request: Request, wanted: NewPassword) -> None:
    """Change one's own password. For people only: no run or project has one."""
    principal: Principal | None = getattr(request.state, "principal", None)
    if principal is None or principal.kind != "person":
        raise Forbidden("Only a person has a password.")
    accounts_of(request).change_password(principal.name, wanted.present, wanted.new)


@router.post("/accounts/{name}/{decision}")
def decide(
    request: Request, name: str, decision: Literal["approve", "refuse", "disable"]
) -> dict[str, Any]:
    """Approve, refuse or disable an account."""
    by = require_admin(request)
    return accounts_of(request).decide(name, decision, by.name).public()
