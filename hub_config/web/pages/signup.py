"""Signing up: the one page for people who cannot sign in yet."""

from __future__ import annotations

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from hub_config.accounts.routes import accounts_of
from hub_config.errors import CuadernoError
from hub_config.web.pages.common import render, see

router = APIRouter()


@router.get("/signup")
def signup_page(request: Request, done: str = "") -> Response:
    return render(request, "signup.html", given="", error=None, done=done[:32])


@router.post("/signup")
def sign_up(request: Request, name: str = Form(""), password: str = Form("")) -> Response:
    try:
        made = accounts_of(request).sign_up(name, password)
    except CuadernoError as error:
        return render(
            request,
            "signup.html",
            status=error.status,
            given=name[:64],
            error=error.detail,
            done="",
        )
    return see(request, "signup", done=made.name)
