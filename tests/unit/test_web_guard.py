"""What guards the portal and its API: who gets in, from where, and what answers bear."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import insert
from starlette.testclient import TestClient

from hub_config import keys
from hub_config.identity import Principal, Role
from hub_config.projects import members, projects
from hub_config.settings import Addresses, HubSettings, Settings
from hub_config.storage.database import migrate, write
from hub_config.storage.schema import accounts
from hub_config.web.app import create_app
from hub_config.web.guard import MAX_BODY
from hub_config.web.pages.home import local

PEOPLE = ("ada", "olga", "ed", "vi", "out")
PREFIX = "/services/cuaderno/"
HERE = {"sec-fetch-site": "same-origin"}


class HubThatKnows(BaseHTTPRequestHandler):
    """A hub that knows people by the token `token-<name>`, and nothing else."""

    def do_GET(self) -> None:
        name = self.headers.get("authorization", "").removeprefix("token token-")
        known = self.path == "/hub/api/user" and name in (*PEOPLE, "gone")
        scopes = ["access:services!service=cuaderno"]
        self.send_response(200 if known else 403)
        self.end_headers()
        if known:
            self.wfile.write(json.dumps({"kind": "user", "name": name, "scopes": scopes}).encode())

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubThatKnows)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="module")
def app(hub: int, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("web")
    settings = Settings(data_dir=folder, hub=HubSettings(admin="ada"))
    keys.ensure_all(settings)
    settings.run_dir.mkdir()
    # Port 9 answers nobody: these tests need no other process of the platform.
    addresses = Addresses(**{**dict.fromkeys(Addresses.__dataclass_fields__, 9), "hub": hub})
    (settings.run_dir / "addresses.json").write_text(json.dumps(asdict(addresses)))
    migrate(settings.database_url)
    made = create_app(settings)
    with write(made.state.engine) as connection:
        for name in PEOPLE:
            values = {"password_hash": "-", "state": "active", "created_at": time.time()}
            connection.execute(insert(accounts).values(name=name, admin=name == "ada", **values))
    engine, identity = made.state.engine, made.state.identity
    ada = Principal("person", "ada", admin=True)
    projects.create(engine, settings, ada, "team", "The team", owner="olga")
    members.put(engine, identity, ada, "team", "ed", Role.EDITOR)
    members.put(engine, identity, ada, "team", "vi", Role.VIEWER)
    repo = settings.projects_dir / "team" / "repo"
    (repo / "one.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4}))
    projects.project_repository(settings.projects_dir, "team").commit(["one.ipynb"], "One")
    return made


def browser(app: FastAPI, name: str | None = None) -> TestClient:
    cookies = {"service-cuaderno": f"token-{name}"} if name else {}
    return TestClient(
        app,
        base_url=f"http://testserver{PREFIX}",
        cookies=cookies,
        follow_redirects=False,
        raise_server_exceptions=False,
    )


# Who gets in --------------------------------------------------------------------------------------


def test_the_api_says_sign_in_and_pages_send_to_the_hub(app: FastAPI) -> None:
    for path in ("api/me", "api/projects", "api/runs", "api/accounts", "api/processes"):
        answer = browser(app).get(path)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("", "projects", "projects/team", "runs", "admin", "dashboards"):
        answer = browser(app).get(path)
        assert answer.status_code == 302, path
        assert answer.headers["location"].startswith("/hub/api/oauth2/authorize?")


def test_only_what_must_be_is_public(app: FastAPI) -> None:
    for path in ("api/health", "api/openapi.json", "signup", "static/tokens.css"):
        assert browser(app).get(path).status_code in (200, 503), path
    for path in ("docs", "api/docs", "redoc", "static/../app.py", "static/%2e%2e/app.py"):
        assert browser(app).get(path).status_code in (302, 401, 404), path


def test_health_says_which_part_is_away(app: FastAPI) -> None:
    answer = browser(app).get("api/health")
    assert answer.status_code == 200  # without jobs, people still read
    said = {"database": "ok", "jobs": "does not answer"}
    assert answer.json() == {"status": "degraded", "parts": said}


def test_every_route_but_the_public_ones_asks_who_is_there(app: FastAPI) -> None:
    from hub_config.web.guard import PUBLIC

    paths = [p.removeprefix(PREFIX) for p in app.openapi()["paths"]]
    assert len(paths) > 20
    for path in paths:
        if path not in PUBLIC:
            filled = path.replace("{", "").replace("}", "")
            for method in ("GET", "POST", "PUT", "DELETE"):
                answer = browser(app).request(method, filled, headers=HERE)
                assert answer.status_code == 401, (method, path, answer.status_code)


def test_an_account_that_is_gone_does_not_go_in_circles(app: FastAPI) -> None:
    someone = browser(app, "gone")
    first = someone.get("")
    assert first.status_code == 302
    second = someone.get("")
    assert second.status_code == 401
    assert "no active account" in second.text


OUTSIDE = [
    ("GET", "api/projects/team"),
    ("GET", "api/projects/team/members"),
    ("PUT", "api/projects/team/members/out"),
    ("DELETE", "api/projects/team/members/olga"),
    ("GET", "api/projects/team/notebooks"),
    ("GET", "api/projects/team/notebooks/one.ipynb"),
    ("POST", "api/projects/team/commits"),
    ("GET", "api/projects/team/server"),
    ("POST", "api/projects/team/server"),
    ("DELETE", "api/projects/team/server"),
    ("GET", "projects/team"),
    ("GET", "projects/team/members"),
    ("POST", "projects/team/members"),
    ("POST", "projects/team/members/olga/remove"),
    ("GET", "projects/team/server"),
    ("POST", "projects/team/server"),
    ("POST", "projects/team/server/stop"),
    ("GET", "projects/team/run/one.ipynb"),
    ("POST", "projects/team/run/one.ipynb"),
    ("GET", "runs?project=team"),
]
BODIES = {
    "api/projects/team/members/out": {"role": "owner"},
    "api/projects/team/commits": {"paths": ["one.ipynb"], "message": "x"},
}


def ask(app: FastAPI, name: str, method: str, path: str) -> int:
    form = {"person": "out", "role": "owner"} if not path.startswith("api/") else None
    answer = browser(app, name).request(
        method, path, headers=HERE, json=BODIES.get(path), data=form if method == "POST" else None
    )
    return answer.status_code


@pytest.mark.parametrize(("method", "path"), OUTSIDE)
def test_an_outsider_finds_no_project(app: FastAPI, method: str, path: str) -> None:
    assert ask(app, "out", method, path) == 404


LOOKING = {"api/projects/team", "api/projects/team/members", "api/projects/team/notebooks"}
LOOKING |= {"api/projects/team/notebooks/one.ipynb", "projects/team", "projects/team/members"}
LOOKING |= {"runs?project=team"}


@pytest.mark.parametrize(("method", "path"), OUTSIDE)
def test_a_viewer_only_looks(app: FastAPI, method: str, path: str) -> None:
    wanted = 200 if method == "GET" and path in LOOKING else 403
    assert ask(app, "vi", method, path) == wanted


def test_pages_of_administration_are_for_administrators(app: FastAPI) -> None:
    for path in ("admin", "projects/new", "api/processes", "api/accounts"):
        assert browser(app, "olga").get(path).status_code == 403, path
    answer = browser(app, "olga").post("admin/accounts/ed/disable", headers=HERE)
    assert answer.status_code == 403
    answer = browser(app, "olga").post("projects", data={"name": "mine"}, headers=HERE)
    assert answer.status_code == 403
    assert browser(app, "ada").get("admin").status_code == 200


def test_pages_are_for_people(app: FastAPI) -> None:
    token = app.state.runs._signer.dashboard_token("team", 60)
    client = browser(app)
    headers = {"authorization": f"Bearer {token}"}
    assert client.get("projects/team", headers=headers).status_code == 403
    assert client.get("api/projects/team", headers=headers).status_code == 200


# From where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"referer": "http://evil.example/testserver"},
        {},
    ],
)
def test_what_another_site_caused_is_refused(app: FastAPI, headers: dict[str, str]) -> None:
    someone = browser(app, "olga")
    forms = [
        ("POST", "projects/team/members", {"person": "vi", "role": "owner"}),
        ("POST", "logout", {}),
        ("POST", "theme", {"theme": "dark"}),
        ("POST", "signup", {"name": "eve", "password": "a long Pass phrase"}),
        ("PUT", "api/projects/team/members/vi", None),
        ("DELETE", "api/projects/team/members/vi", None),
    ]
    for method, path, form in forms:
        answer = someone.request(method, path, data=form, headers=headers)
        assert answer.status_code == 403, (path, answer.text)
        assert "another site" in answer.text
    listed = someone.get("api/projects/team/members").json()["items"]
    assert {m["person"]: m["role"] for m in listed}["vi"] == "viewer"


@pytest.mark.parametrize("header", ["Basic x", "Bearer", "Bearer ", "x"])
def test_a_header_without_a_token_makes_no_program_of_a_browser(app: FastAPI, header: str) -> None:
    headers = {"authorization": header, "sec-fetch-site": "cross-site"}
    answer = browser(app, "ada").post("api/projects", json={"name": "basic"}, headers=headers)
    assert answer.status_code == 403
    assert browser(app, "ada").get("projects/basic").status_code == 404


def test_a_program_with_a_token_needs_no_origin(app: FastAPI) -> None:
    client = browser(app)
    answer = client.put(
        "api/projects/team/members/vi",
        json={"role": "viewer"},
        headers={"authorization": "token token-olga"},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/services/cuaderno/\\..\\evil",
        "/hub/logout",
        "/services/cuaderno/\r\nLocation: //evil.example",
        "javascript:alert(1)",
        "",
    ],
)
def test_a_form_leads_to_our_own_pages_only(app: FastAPI, target: str) -> None:
    assert local(PREFIX, target) == PREFIX
    form = {"theme": "dark", "next": target}
    answer = browser(app, "olga").post("theme", data=form, headers=HERE)
    assert (answer.status_code, answer.headers["location"]) == (303, PREFIX)


def test_signing_out_forgets_the_cookie(app: FastAPI) -> None:
    answer = browser(app, "olga").post("logout", headers=HERE)
    assert answer.headers["location"] == "/hub/logout"
    assert 'service-cuaderno=""' in answer.headers["set-cookie"]


# What answers bear --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "projects/team", "runs", "signup", "nothing", "api/me", "api/x", "static/portal.js"],
)
@pytest.mark.parametrize("name", ["olga", None])
def test_every_answer_has_the_security_headers(app: FastAPI, path: str, name: str | None) -> None:
    headers = browser(app, name).get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert len(headers["x-request-id"]) == 16


@pytest.mark.parametrize("path", ["", "projects/team", "api/projects", "static/portal.js"])
def test_head_answers_as_get_without_the_body(app: FastAPI, path: str) -> None:
    got, headed = browser(app, "olga").get(path), browser(app, "olga").head(path)
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-type"] == got.headers["content-type"]
    assert browser(app).head("api/projects").status_code == 401


def test_no_page_holds_a_script_or_style_of_its_own(app: FastAPI) -> None:
    for path in ("", "projects", "projects/team", "projects/team/members", "runs", "signup"):
        page = browser(app, "olga").get(path).text
        assert "<style" not in page and " style=" not in page
        assert page.count("<script") == 1 and 'src="/services/cuaderno/static/' in page


def test_a_page_of_a_notebook_comes_in_a_sandbox(app: FastAPI) -> None:
    from sqlalchemy import insert as insert_row

    from hub_config.storage.schema import runs

    run = {"id": "r1", "project": "team", "notebook": "one.ipynb", "commit": "0" * 40}
    rest = {"parameters": {}, "submitted_by": "ed", "origin": "api", "state": "succeeded"}
    more = {"target": "succeeded", "reason": "", "cells_done": 0, "cells_total": 0}
    with write(app.state.engine) as connection:
        values = {**run, **rest, **more, "created_at": time.time(), "finished_at": time.time()}
        connection.execute(insert_row(runs).values(values))
    app.state.files.write("runs/r1/executed.html", b"<script>alert(1)</script>")
    answer = browser(app, "vi").get("api/runs/r1/files/executed.html")
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert "allow-same-origin" not in answer.headers["content-security-policy"]
    page = browser(app, "vi").get("runs/r1").text
    assert '<iframe class="page" sandbox="allow-scripts"' in page
    assert browser(app, "out").get("runs/r1").status_code == 404
    assert browser(app, "out").post("runs/r1/cancel", headers=HERE).status_code == 404
    assert browser(app, "vi").post("runs/r1/cancel", headers=HERE).status_code == 403


def test_too_much_is_refused(app: FastAPI) -> None:
    big = b"x" * (MAX_BODY + 1)

    def pieces() -> Iterator[bytes]:
        yield big[: MAX_BODY // 2]
        yield big[MAX_BODY // 2 :]

    for content in (big, pieces()):
        answer = browser(app, "ada").post("api/projects", content=content, headers=HERE)
        assert answer.status_code == 413, answer.text
    # Declared too large, it is refused unread, also where nobody would read it.
    assert browser(app, "ada").post("logout", content=big, headers=HERE).status_code == 413


def test_errors_of_input_and_of_ours_are_problem_details(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = browser(app, "ada").post("api/projects", json={"title": "x"}, headers=HERE)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")
    answer = browser(app, "ada").patch("api/projects", headers=HERE)
    assert (answer.status_code, answer.json()["status"]) == (405, 405)

    def broken(*_args: object) -> None:
        raise RuntimeError("the secret of the inside")

    monkeypatch.setattr(app.state.identity, "projects", broken)
    for path in ("api/me", "projects"):
        answer = browser(app, "ada").get(path)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"] in answer.text


def test_what_people_write_is_text(app: FastAPI, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    ada = browser(app, "ada")
    made = ada.post("projects", data={"name": "evil", "title": evil}, headers=HERE)
    assert made.status_code == 303
    for path in ("", "projects", "projects/evil", "projects/evil/members?done=put&who=" + evil):
        page = ada.get(path).text
        assert evil not in page
    assert evil not in browser(app).get("signup?done=" + evil).text


def test_our_own_files_are_kept_and_pages_are_not(app: FastAPI) -> None:
    def kept(path: str) -> str:
        return browser(app, "olga").get(path).headers["cache-control"]

    assert "immutable" in kept("static/portal.css?v=1")
    assert kept("static/portal.css") == "no-cache"
    assert kept("") == "no-store"
