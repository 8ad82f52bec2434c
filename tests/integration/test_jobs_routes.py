"""The API of runs on the real process `jobs` (without workers, so that runs wait)."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from sqlalchemy import insert

from hub_config.errors import CuadernoError
from hub_config.identity import Identity, Principal, Role
from hub_config.jobs.model import State, file_key
from hub_config.jobs.routes import router
from hub_config.jobs.submission import Runs
from hub_config.storage.database import write
from hub_config.storage.schema import members, projects
from tests.integration.jobs_house import JobsHouse, notebook

ANA = Principal("person", "ana")  # owns demo
BEN = Principal("person", "ben")  # edits demo
VIC = Principal("person", "vic")  # views demo
EVE = Principal("person", "eve")  # owns other, and is nobody in demo
DEMO = Principal("project", "demo", project="demo", role=Role.EDITOR)
WHO = {p.name: p for p in (ANA, BEN, VIC, EVE)} | {"project-demo": DEMO}
MEMBERS = [
    ("demo", "ana", "owner"),
    ("demo", "ben", "editor"),
    ("demo", "vic", "viewer"),
    ("other", "eve", "owner"),
]


@pytest.fixture(scope="module")
def house():
    house = JobsHouse()
    try:
        house.start("jobs")
        with write(house.engine) as connection:
            row = {"name": "other", "title": "", "created_at": 1.0, "created_by": "eve"}
            connection.execute(insert(projects).values(row))
            for project, person, role in MEMBERS:
                row = {"project": project, "person": person, "role": role}
                row |= {"added_at": 1.0, "added_by": "ana"}
                connection.execute(insert(members).values(row))
        source = "max_depth: int = 3  # how deep"
        house.repository.path.joinpath("train.ipynb").write_bytes(
            notebook("print(max_depth)", parameters=source)
        )
        house.repository.commit(["train.ipynb"], "Add the training")
        house.wait(lambda: house.health(), "jobs", 40)
        yield house
    finally:
        house.stop()


@pytest.fixture(scope="module")
def client(house):
    app = FastAPI()
    identity = Identity(house.engine, house.signer, "http://127.0.0.1:9/", "cuaderno")
    app.state.runs = Runs(house.settings, house.engine, identity)
    app.state.files = house.files

    @app.middleware("http")
    async def guard(request: Request, call_next):
        request.state.principal = WHO[request.headers["x-who"]]
        return await call_next(request)

    @app.exception_handler(CuadernoError)
    async def problem(_: Request, error: CuadernoError):
        return JSONResponse(error.problem(), error.status)

    app.include_router(router, prefix="/api")
    return TestClient(app, base_url="http://test/api/")


def ask(client, who, method, path, **kw):
    headers = {"x-who": who, **kw.pop("headers", {})}
    return client.request(method, path, headers=headers, **kw)


def submit(client, who="ben", key=None, **changes):
    body = {"project": "demo", "notebook": "train.ipynb", "parameters": {"max_depth": "4"}}
    headers = {"Idempotency-Key": key} if key else {}
    return ask(client, who, "POST", "runs", json={**body, **changes}, headers=headers)


def test_an_editor_submits_and_the_run_waits(house, client):
    made = submit(client)
    assert made.status_code == 201, made.text
    run = made.json()
    assert (run["state"], run["parameters"]) == ("queued", {"max_depth": 4})
    assert run["commit"] == house.repository.head() and run["submitted_by"] == "ben"
    assert ask(client, "vic", "GET", f"runs/{run['id']}").json() == {**run, "files": []}
    by_project = submit(client, "project-demo").json()
    assert by_project["submitted_by"] == "project-demo"
    listed = ask(client, "vic", "GET", "runs?limit=1").json()
    assert [r["id"] for r in listed["items"]] == [by_project["id"]] and listed["total"] >= 2
    following = ask(client, "vic", "GET", f"runs?limit=1&cursor={listed['next']}").json()
    assert following["items"][0]["id"] == run["id"]


def test_a_viewer_sees_but_neither_submits_nor_cancels(client):
    run = submit(client).json()["id"]
    assert submit(client, "vic").status_code == 403
    assert ask(client, "vic", "POST", f"runs/{run}/cancel").status_code == 403
    assert ask(client, "vic", "GET", f"runs/{run}/log").status_code == 200


def test_an_outsider_is_told_that_there_is_nothing(house, client):
    run = submit(client).json()["id"]
    house.files.write(file_key(run, "executed.html"), b"secret")
    for method, path in (
        ("GET", f"runs/{run}"),
        ("GET", f"runs/{run}/log"),
        ("POST", f"runs/{run}/cancel"),
        ("GET", f"runs/{run}/files/executed.html"),
        ("GET", f"runs/{run}/metrics"),
        ("GET", "runs?project=demo"),
    ):
        answer = ask(client, "eve", method, path)
        assert answer.status_code == 404, path
        there_is_none = ask(client, "eve", method, path.replace(run, "0" * 22))
        assert there_is_none.json()["detail"] == answer.json()["detail"].replace(run, "0" * 22)
    assert submit(client, "eve").status_code == 404
    assert ask(client, "eve", "GET", "runs").json()["total"] == 0
    assert house.store.get(run).state == State.QUEUED


def test_input_is_checked_before_anything_is_made(house, client):
    before = house.store.counts()
    for changes, word in (
        ({"parameters": {"max_dept": 1}}, "Did you mean 'max_depth'"),
        ({"parameters": {"max_depth": "deep"}}, "a whole number"),
        ({"parameters": {"x=1;import os": 1}}, "cannot be the name"),
        ({"notebook": "../../etc/passwd"}, "not a path inside"),
        ({"notebook": "train.py"}, "must end in .ipynb"),
        ({"commit": "--all"}, "not the name of a commit"),
    ):
        answer = submit(client, **changes)
        assert answer.status_code == 422 and word in answer.json()["detail"], answer.text
    assert submit(client, notebook="gone.ipynb").status_code == 404
    assert submit(client, commit="f" * 40).status_code == 404
    assert submit(client, project="none").status_code == 404
    assert house.store.counts() == before


def test_jobs_itself_refuses_a_name_that_would_be_code(house):
    import httpx

    body = {"project": "demo", "notebook": "train.ipynb", "commit": house.repository.head()}
    body |= {"parameters": {"x=1;import os;y": 1}, "submitted_by": "ana", "origin": "api"}
    answer = httpx.post(f"{house.url}/runs", json=body, headers=house.headers())
    assert answer.status_code == 422 and "cannot be the name" in answer.json()["detail"]


def test_the_same_key_is_the_same_run_also_after_a_commit(house, client):
    first = submit(client, key="one").json()
    house.repository.path.joinpath("new.ipynb").write_bytes(notebook("1"))
    house.repository.commit(["new.ipynb"], "Another")
    assert submit(client, key="one").json()["id"] == first["id"]
    assert submit(client, "ana", key="one").json()["id"] != first["id"]
    conflict = submit(client, key="one", parameters={"max_depth": 5})
    assert conflict.status_code == 409 and "one" in conflict.json()["detail"]


def test_a_waiting_run_is_cancelled_at_once(client):
    run = submit(client).json()["id"]
    cancelled = ask(client, "ana", "POST", f"runs/{run}/cancel").json()
    assert (cancelled["state"], cancelled["reason"]) == (
        "cancelled",
        "Cancelled by ana before it began.",
    )
    again = ask(client, "ana", "POST", f"runs/{run}/cancel")
    assert again.status_code == 200
    assert ask(client, "ana", "GET", f"runs/{run}/log").json() == {
        "text": "",
        "next": 0,
        "ended": True,
    }


def test_pages_come_in_a_sandbox_and_notebooks_as_attachments(house, client):
    run = submit(client).json()["id"]
    for name in ("executed.html", "executed.ipynb", "log.txt"):
        house.files.write(file_key(run, name), b"<script>1</script>")
        answer = ask(client, "vic", "GET", f"runs/{run}/files/{name}")
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts") and "same-origin" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        attached = answer.headers.get("content-disposition", "").startswith("attachment")
        assert attached == name.endswith(".ipynb")
    assert ask(client, "vic", "GET", f"runs/{run}").json()["files"] == [
        *("executed.ipynb", "executed.html", "log.txt"),
    ]
    for name in ("other.txt", "..%2f..%2fsecrets", "input.ipynb"):
        assert ask(client, "vic", "GET", f"runs/{run}/files/{name}").status_code == 404


def test_a_large_file_is_streamed(house, client, monkeypatch):
    run = submit(client).json()["id"]
    whole = bytes(range(256)) * 8192
    house.files.write(file_key(run, "log.txt"), whole)
    monkeypatch.delattr(type(house.files), "read")  # which would hold all of it in memory
    answer = ask(client, "vic", "GET", f"runs/{run}/files/log.txt")
    assert answer.content == whole and answer.headers["content-length"] == str(len(whole))


def test_tracking_away_is_said(client):
    run = submit(client).json()["id"]
    answer = ask(client, "vic", "GET", f"runs/{run}/metrics")
    assert answer.status_code == 503 and "Tracking" in answer.json()["detail"]


def test_jobs_away_is_said_and_nothing_is_lost(house, client):
    house.kill("jobs")
    try:
        answer = submit(client)
        assert answer.status_code == 503
        assert "not submitted" in answer.json()["detail"]
        assert ask(client, "vic", "GET", "runs").status_code == 200  # reading goes on
    finally:
        house.start("jobs")
        house.wait(lambda: house.health(), "jobs", 40)
    assert submit(client).status_code == 201
