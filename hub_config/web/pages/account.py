"""One's own account: the password."""

from __future__ import annotations

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from hub_config.accounts.routes import accounts_of
from hub_config.errors import CuadernoError
from hub_config.web.pages.common import person, render, see
from hub_config.web.texts import text

router = APIRouter()


@router.get("/account")
def account_page(request: Request, done: str = "") -> Response:
    person(request)
    notice = text("account.done") if done else None
    return render(request, "account.html", error=None, notice=notice)


@router.post("/account")
def change_password(
    request: Request, present: str = Form(""), new: str = Form(""), again: str = Form("")
) -> Response:
    me = person(request)
    if new != again:
        return render(request, "account.html", status=422, error=text("account.differ"))
    try:
        accounts_of(request).change_password(me.name, present, new)
    except CuadernoError as error:
        return render(request, "account.html", status=error.status, error=error.detail)
    return see(request, "account", done="yes")
