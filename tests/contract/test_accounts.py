"""Accounts on every database: sign-up, decisions, sign-in, the first administrator, the routes."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from hub_config.accounts import domain, store
from hub_config.accounts.domain import Accounts, ensure_admin
from hub_config.accounts.model import State
from hub_config.accounts.routes import router
from hub_config.errors import (
    Conflict,
    CuadernoError,
    Forbidden,
    Invalid,
    Misconfigured,
    NotFound,
    TooManyRequests,
)
from hub_config.identity import Principal
from hub_config.settings import HubSettings, Settings

PASSWORD = "a-long-enough-Secret-7"


@pytest.fixture
def accounts(engine: Engine) -> Accounts:
    made = Accounts(engine)
    store.add(engine, "chief", "no hash", state=State.ACTIVE, admin=True, by="platform")
    return made


def test_from_sign_up_to_sign_in(accounts: Accounts) -> None:
    asked = accounts.sign_up("ana", PASSWORD)
    assert (asked.state, asked.admin, asked.decided_by) == (State.PENDING, False, None)
    with pytest.raises(Forbidden, match="approval"):
        accounts.sign_in("ana", PASSWORD)
    approved = accounts.decide("ana", "approve", "chief")
    assert (approved.state, approved.decided_by) == (State.ACTIVE, "chief")
    signed_in = accounts.sign_in("ana", PASSWORD)
    assert signed_in is not None and signed_in.name == "ana"
    assert accounts.sign_in("ana", PASSWORD + "x") is None
    assert accounts.sign_in("nobody-here", PASSWORD) is None


def test_decisions_need_the_right_state(accounts: Accounts) -> None:
    accounts.sign_up("ana", PASSWORD)
    with pytest.raises(Conflict):
        accounts.decide("ana", "disable", "chief")
    assert accounts.decide("ana", "refuse", "chief").state is State.REFUSED
    with pytest.raises(Forbidden, match="refused"):
        accounts.sign_in("ana", PASSWORD)
    accounts.decide("ana", "approve", "chief")
    with pytest.raises(Conflict):
        accounts.decide("ana", "refuse", "chief")
    assert accounts.decide("ana", "disable", "chief").state is State.DISABLED
    assert not accounts.is_active("ana")
    with pytest.raises(Forbidden, match="disabled"):
        accounts.sign_in("ana", PASSWORD)
    with pytest.raises(NotFound):
        accounts.decide("nobody-here", "approve", "chief")


def test_an_administrator_always_remains(accounts: Accounts, engine: Engine) -> None:
    with pytest.raises(Conflict, match="your own"):
        accounts.decide("chief", "disable", "chief")
    with pytest.raises(Conflict, match="last administrator"):
        accounts.decide("chief", "disable", "operator")
    store.add(engine, "second", "no hash", state=State.ACTIVE, admin=True, by="platform")
    accounts.decide("chief", "disable", "second")


def test_sign_ups_refused(accounts: Accounts, engine: Engine, monkeypatch: Any) -> None:
    for name, password in (("project-x", PASSWORD), ("Ana", PASSWORD), ("ana", "short")):
        with pytest.raises(Invalid):
            accounts.sign_up(name, password)
    with pytest.raises(Conflict, match="taken"):
        accounts.sign_up("chief", PASSWORD)
    with pytest.raises(Forbidden, match="closed"):
        Accounts(engine, signup=False).sign_up("ana", PASSWORD)
    monkeypatch.setattr(domain, "MOST_PENDING", 1)
    accounts.sign_up("ana", PASSWORD)
    with pytest.raises(TooManyRequests, match="wait"):
        accounts.sign_up("bob", PASSWORD)


def test_sign_ups_are_throttled(accounts: Accounts, monkeypatch: Any) -> None:
    monkeypatch.setattr(domain, "hash_password", lambda password: "no hash")
    for n in range(10):
        accounts.sign_up(f"person-{n}", PASSWORD)
    with pytest.raises(TooManyRequests):
        accounts.sign_up("one-more", PASSWORD)


def test_wrong_passwords_are_throttled(accounts: Accounts) -> None:
    for _ in range(5):
        assert accounts.sign_in("chief", "wrong-Password-1") is None
    with pytest.raises(TooManyRequests):
        accounts.sign_in("chief", PASSWORD)


def test_the_first_administrator(engine: Engine, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, hub=HubSettings(admin="chief"))
    path = ensure_admin(settings, engine)
    assert path == tmp_path / "first-login" and stat.S_IMODE(path.stat().st_mode) == 0o600
    url, name, password = path.read_text().splitlines()
    assert (url, name) == (settings.base_url + "/", "name: chief")
    account = Accounts(engine).sign_in("chief", password.removeprefix("password: "))
    assert account is not None and account.admin
    before = path.read_bytes()
    assert ensure_admin(settings, engine) is None
    assert path.read_bytes() == before


def test_no_first_administrator_by_surprise(engine: Engine, tmp_path: Path) -> None:
    store.add(engine, "chief", "no hash", state=State.PENDING, admin=False, by=None)
    with pytest.raises(Misconfigured, match=r"hub\.admin"):
        ensure_admin(Settings(data_dir=tmp_path, hub=HubSettings(admin="chief")), engine)
    with pytest.raises(Misconfigured, match=r"hub\.admin"):
        ensure_admin(Settings(data_dir=tmp_path, hub=HubSettings(admin="project-x")), engine)
    assert not (tmp_path / "first-login").exists()


# Routes -------------------------------------------------------------------------------------------


@pytest.fixture
def client(accounts: Accounts, engine: Engine, tmp_path: Path) -> Iterator[TestClient]:
    """The routes alone; the header X-As says as whom, in place of the middleware of `web`."""
    app = FastAPI()
    app.include_router(router)
    app.state.engine, app.state.settings = engine, Settings(data_dir=tmp_path)

    @app.middleware("http")
    async def name_the_principal(request: Request, following: Any) -> Any:
        name = request.headers.get("x-as")
        request.state.principal = Principal("person", name, admin=name == "chief") if name else None
        return await following(request)

    @app.exception_handler(CuadernoError)
    async def problem(_request: Request, error: CuadernoError) -> JSONResponse:
        return JSONResponse(error.problem(), error.status)

    with TestClient(app) as made:
        yield made


def test_routes(client: TestClient) -> None:
    chief = {"X-As": "chief"}
    asked = client.post("/accounts/signup", json={"name": "ana", "password": PASSWORD})
    assert (asked.status_code, asked.json()["state"]) == (202, "pending")
    assert "password" not in asked.text and "hash" not in asked.text
    page = client.get("/accounts", params={"limit": 1}, headers=chief).json()
    assert ([a["name"] for a in page["items"]], page["next"], page["total"]) == (["ana"], "ana", 2)
    page = client.get("/accounts", params={"cursor": "ana"}, headers=chief).json()
    assert ([a["name"] for a in page["items"]], page["next"]) == (["chief"], None)
    pending = client.get("/accounts", params={"state": "pending"}, headers=chief).json()
    assert pending["total"] == 1
    done = client.post("/accounts/ana/approve", headers=chief)
    assert (done.status_code, done.json()["state"]) == (200, "active")
    assert client.post("/accounts/ana/promote", headers=chief).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/accounts"), *(("POST", f"/accounts/ana/{d}") for d in domain.DECISIONS)],
)
def test_routes_are_for_administrators(client: TestClient, method: str, path: str) -> None:
    client.post("/accounts/signup", json={"name": "ana", "password": PASSWORD})
    assert client.request(method, path).status_code == 401
    assert client.request(method, path, headers={"X-As": "ana"}).status_code == 403
