"""An outsider is refused everything of a project, over HTTP, in every room; a viewer only looks."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.platform import PASSWORD, Platform, wait_for


@pytest.fixture(scope="module")
def first_run(platform) -> dict:
    """The run that the platform makes by itself at the first start, once it has ended."""

    def look() -> dict | None:
        items = platform.operator.get("runs").json()["items"]
        return items[0] if items and items[0]["state"] in ("succeeded", "failed") else None

    done = wait_for("the first run", look, 180)
    assert done["state"] == "succeeded", (done, platform.diagnosis())
    return done


@pytest.fixture(scope="module")
def outsider(platform):
    return platform.person("outsider")


@pytest.fixture(scope="module")
def viewer(platform):
    return platform.person("vera", "demo", "viewer")


@pytest.fixture(scope="module")
def editor(platform):
    return platform.person("edith", "demo", "editor")


def mlflow(platform: Platform, token: str | None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(
        base_url=f"{platform.url}/services/mlflow/api/2.0/mlflow/", headers=headers, timeout=60
    )


def experiment_of(platform: Platform, token: str) -> dict:
    answer = mlflow(platform, token).get(
        "experiments/get-by-name", params={"experiment_name": "demo"}
    )
    assert answer.is_success, answer.text
    return answer.json()["experiment"]


PATHS = [
    "projects/demo",
    "projects/demo/members",
    "projects/demo/notebooks",
    "projects/demo/notebooks/notebooks/train_classifier.ipynb",
    "projects/demo/server",
    "runs/{run}",
    "runs/{run}/log",
    "runs/{run}/metrics",
    "runs/{run}/files/executed.html",
    "runs/{run}/files/executed.ipynb",
    "runs/{run}/files/log.txt",
]


@pytest.mark.parametrize("path", PATHS)
def test_an_outsider_finds_nothing_of_the_project(path, platform, first_run, outsider, editor):
    path = path.format(run=first_run["id"])
    assert editor.api.get(path).status_code == 200, path
    answer = outsider.api.get(path)
    assert answer.status_code == 404, (path, answer.text)
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert platform.client().get(path).status_code == 401


def test_lists_hold_only_what_is_mine(outsider, first_run):
    for path in ("projects", "runs", "dashboards"):
        assert outsider.api.get(path).json()["items"] == [], path
    assert outsider.api.get("runs", params={"project": "demo"}).status_code in (200, 404)
    assert outsider.api.get("runs", params={"project": "demo"}).json().get("items", []) == []


def test_an_outsider_may_do_nothing(outsider, first_run):
    run = {"project": "demo", "notebook": "notebooks/train_classifier.ipynb", "parameters": {}}
    assert outsider.api.post("runs", json=run).status_code == 404
    assert outsider.api.post(f"runs/{first_run['id']}/cancel").status_code == 404
    assert outsider.api.post("projects/demo/server").status_code == 404
    assert (
        outsider.api.put("projects/demo/members/outsider", json={"role": "owner"}).status_code
        == 404
    )
    body = {"paths": ["README.md"], "message": "x"}
    assert outsider.api.post("projects/demo/commits", json=body).status_code == 404
    for path in ("accounts", "processes"):
        assert outsider.api.get(path).status_code in (403, 404)
    assert outsider.api.post("projects", json={"name": "mine", "title": "Mine"}).status_code == 403


def test_a_viewer_looks_and_changes_nothing(viewer, first_run):
    assert viewer.api.get(f"runs/{first_run['id']}").status_code == 200
    run = {"project": "demo", "notebook": "notebooks/train_classifier.ipynb", "parameters": {}}
    assert viewer.api.post("runs", json=run).status_code == 403
    assert viewer.api.post(f"runs/{first_run['id']}/cancel").status_code == 403
    assert viewer.api.post("projects/demo/server").status_code == 403
    assert viewer.api.put("projects/demo/members/vera", json={"role": "owner"}).status_code == 403


def test_the_shared_server_is_for_editors(platform, outsider, viewer, editor):
    started = editor.api.post("projects/demo/server")
    assert started.is_success, started.text
    path = "/user/project-demo/api/contents/"

    def enters() -> bool:
        # The hub asks once whether this server may know who comes.
        answer = editor.browser.get("/user/project-demo/lab")
        if "oauth2/authorize" in str(answer.url):
            answer = consent(editor.browser, answer)
        return answer.status_code == 200 and editor.browser.get(path).status_code == 200

    wait_for("the project's server", enters, 90)
    for other in (outsider, viewer):
        answer = other.browser.get("/user/project-demo/lab")
        if "oauth2/authorize" in str(answer.url) and answer.status_code == 200:
            answer = consent(other.browser, answer)
        assert answer.status_code in (403, 404), (other.name, answer.url)
        assert other.browser.get(path).status_code in (403, 404)
    assert httpx.get(platform.url + path).status_code in (302, 403)


def consent(browser: httpx.Client, page: httpx.Response) -> httpx.Response:
    import re

    fields = dict(re.findall(r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"', page.text))
    scopes = re.findall(r'name="scopes"[^>]*value="([^"]*)"', page.text)
    xsrf = browser.cookies.get("_xsrf", path="/hub/") or fields.get("_xsrf", "")
    return browser.post(str(page.url), data={"_xsrf": xsrf, "scopes": scopes})


def test_experiments_runs_and_artifacts_of_mlflow(platform, first_run, outsider, viewer, editor):
    experiment = experiment_of(platform, viewer.token)["experiment_id"]
    search = {"experiment_ids": [experiment]}
    found = mlflow(platform, viewer.token).post("runs/search", json=search).json()["runs"]
    ours = [
        r for r in found if {"key": "cuaderno.run", "value": first_run["id"]} in r["data"]["tags"]
    ]
    assert ours, found
    run = ours[0]["info"]["run_id"]
    for token, allowed in ((viewer.token, True), (outsider.token, False), (None, False)):
        client = mlflow(platform, token)
        calls = [
            client.get("experiments/get", params={"experiment_id": experiment}),
            client.get("runs/get", params={"run_id": run}),
            client.get("artifacts/list", params={"run_id": run}),
            client.get("metrics/get-history", params={"run_id": run, "metric_key": "roc_auc"}),
        ]
        assert [c.is_success for c in calls] == [allowed] * len(calls), [c.text for c in calls]
        got = client.post("runs/search", json=search)
        assert (got.is_success and bool(got.json().get("runs"))) == allowed
    # A viewer writes nothing, an editor does.
    body = {"run_id": run, "key": "note", "value": "x"}
    assert mlflow(platform, viewer.token).post("runs/set-tag", json=body).status_code == 403
    assert mlflow(platform, editor.token).post("runs/set-tag", json=body).is_success
    assert not mlflow(platform, outsider.token).post("runs/set-tag", json=body).is_success


def test_dashboards_are_for_members(platform, first_run, outsider, viewer):
    items = viewer.api.get("dashboards").json()["items"]
    assert [d["name"] for d in items] == ["training_overview"]
    url = items[0]["url"]
    assert viewer.browser.get(url, timeout=120).status_code == 200
    assert outsider.browser.get(url).status_code == 404
    assert httpx.get(platform.url + url).status_code in (302, 303)


def test_what_a_run_logged_is_what_the_portal_and_the_command_show(platform, first_run, viewer):
    tracked = viewer.api.get(f"runs/{first_run['id']}/metrics").json()["items"]
    assert 0.9 < tracked[0]["metrics"]["roc_auc"] <= 1
    shown = json.loads(platform.cuaderno("show", first_run["id"], "--json").stdout)
    assert shown["tracked"][0]["metrics"] == tracked[0]["metrics"]
    page = viewer.browser.get(f"/services/cuaderno/runs/{first_run['id']}")
    assert page.status_code == 200 and "roc_auc" in page.text
    html = viewer.api.get(f"runs/{first_run['id']}/files/executed.html")
    assert "sandbox" in html.headers["content-security-policy"]
    assert "allow-same-origin" not in html.headers["content-security-policy"]


def test_only_a_person_changes_a_password_and_only_the_own(platform):
    body = {"present": PASSWORD, "new": "a quite different one 3"}
    assert platform.operator.put("accounts/me/password", json=body).status_code == 403
    assert platform.client().put("accounts/me/password", json=body).status_code == 401
    mover = platform.person("mover")
    forged = mover.browser.put("/services/cuaderno/api/accounts/me/password", json=body)
    assert forged.status_code == 403, "a page of another site must not change it"
    assert mover.api.put("accounts/me/password", json=body).status_code == 204
    platform.sign_in("mover", body["new"])
