"""What hangs on runs: metrics, models, GraphQL, and artifacts by every path to them."""

import asyncio

import psutil
import pytest
import pytest_asyncio

from tests.integration.tracking_house import API, tracking_house

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house():
    async with tracking_house() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def demo(house):
    """The experiment `demo` and a run in it by bob."""
    experiment = await house.experiment("bob", "demo")
    run = await house.run("bob", experiment, run_name="first")
    return experiment, run["info"]["run_id"]


async def test_metric_histories_of_several_runs_are_all_checked(house, demo):
    run = demo[1]
    logged = await house.post(
        "bob", "/runs/log-metric", run_id=run, key="loss", value=0.5, timestamp=1, step=0
    )
    assert logged.status_code == 200
    theirs = (await house.run("eve", await house.experiment("eve", "other")))["info"]["run_id"]
    for path, name in (("get-history-bulk", "run_id"), ("get-history-bulk-interval", "run_ids")):
        ask = f"/ajax-api/2.0/mlflow/metrics/{path}"
        fine = await house.ask("vic", "GET", ask, params={name: [run], "metric_key": "loss"})
        assert fine.status_code == 200 and fine.json()["metrics"][0]["value"] == 0.5, fine.text
        mixed = await house.ask(
            "eve", "GET", ask, params={name: [theirs, run], "metric_key": "loss"}
        )
        assert mixed.status_code == 404, path


async def test_a_metric_cannot_be_hung_on_a_strangers_model(house, demo):
    model = await house.post("bob", "/logged-models", experiment_id=demo[0], name="m")
    model_id = model.json()["model"]["info"]["model_id"]
    assert model.json()["model"]["info"]["tags"], "a model is stamped too"
    theirs = (await house.run("eve", await house.experiment("eve", "other")))["info"]["run_id"]
    metric = {"key": "x", "value": 1, "timestamp": 1, "step": 0, "model_id": model_id}
    for refused in (
        await house.post("eve", "/runs/log-metric", run_id=theirs, **metric),
        await house.post("eve", "/runs/log-batch", run_id=theirs, metrics=[metric]),
        await house.post(
            "eve", "/runs/outputs", run_id=theirs, models=[{"model_id": model_id, "step": 0}]
        ),
        await house.post("eve", "/runs/log-inputs", run_id=theirs, models=[{"model_id": model_id}]),
        await house.get("eve", f"/logged-models/{model_id}"),
        await house.ask("eve", "DELETE", f"{API}/logged-models/{model_id}"),
    ):
        assert refused.status_code == 404, (refused.request.url, refused.text)
    assert (await house.get("vic", f"/logged-models/{model_id}")).status_code == 200


async def test_graphql_meets_the_same_check(house, demo):
    query = (
        "query($run: String!) { a: mlflowGetRun(input: {runId: $run}) { run { info { runName } "
        "experiment { name } } apiError { message } } }"
    )
    body = {"query": query, "variables": {"run": demo[1]}}
    mine = await house.ask("vic", "POST", "/graphql", json=body)
    assert mine.json()["data"]["a"]["run"]["experiment"]["name"] == "demo"
    theirs = await house.ask("eve", "POST", "/graphql", json=body)
    assert "first" not in theirs.text and "not found" in theirs.text
    search = (
        "mutation($i: MlflowSearchRunsInput) "
        "{ mlflowSearchRuns(input: $i) { runs { info { runName } } } }"
    )
    body = {"query": search, "variables": {"i": {"experimentIds": [demo[0]]}}}
    assert "first" in (await house.ask("vic", "POST", "/graphql", json=body)).text
    assert "first" not in (await house.ask("eve", "POST", "/graphql", json=body)).text


async def test_there_is_no_registry_yet_and_it_says_so(house):
    made = await house.post("ana", "/registered-models/create", name="demo")
    assert made.status_code == 403 and "no model registry yet" in made.json()["message"]
    assert (await house.get("ana", "/registered-models/search")).json() == {}
    assert (await house.get("ana", "/model-versions/search")).json() == {}


# Artifacts ----------------------------------------------------------------------------------------


async def test_artifacts_by_path_follow_their_experiment(house, demo):
    experiment, run = demo
    for api in ("api", "ajax-api"):
        base = f"/{api}/2.0/mlflow-artifacts/artifacts"
        file = f"{base}/{experiment}/{run}/artifacts/page.html"
        page = b"<script>alert(1)</script>"
        assert (await house.ask("vic", "PUT", file, content=page)).status_code == 403
        assert (await house.ask("eve", "PUT", file, content=page)).status_code == 404
        assert (await house.ask("bob", "PUT", file, content=page)).status_code == 200
        for who, status in (("vic", 200), ("eve", 404), (None, 401)):
            read = await house.ask(who, "GET", file)
            assert read.status_code == status and (read.content == page) is (status == 200), who
        assert read.headers["content-security-policy"] == "sandbox"
        listed = await house.ask(
            "vic", "GET", base, params={"path": f"{experiment}/{run}/artifacts"}
        )
        assert [f["path"] for f in listed.json()["files"]] == ["page.html"]
        for path in ("", ".", "..", experiment, f"{experiment}/..", "0", "0x1", "٣"):
            answer = await house.ask("eve", "GET", base, params={"path": path})
            assert answer.status_code in (400, 404, 422), path
        body = await house.ask("eve", "GET", base, json={"path": experiment})
        assert body.status_code == 404
        body = await house.ask(
            "eve", "HEAD", base, params={"path": ""}, json={"path": f"{experiment}/{run}/artifacts"}
        )
        assert body.status_code == 404


async def test_no_editor_removes_more_than_the_artifacts_of_a_run(house, demo):
    experiment, run = demo
    base = "/api/2.0/mlflow-artifacts/artifacts"
    file = f"{base}/{experiment}/{run}/artifacts/kept.txt"
    assert (await house.ask("bob", "PUT", file, content=b"kept")).status_code == 200
    for path in (experiment, f"{experiment}/", f"{experiment}/{run}", f"{experiment}/models"):
        for method in ("DELETE", "PUT"):
            refused = await house.ask("bob", method, f"{base}/{path}", content=b"x")
            assert refused.status_code == 422, (method, path, refused.text)
    assert (await house.ask("vic", "GET", file)).content == b"kept"


@pytest.mark.parametrize(
    "path",
    [
        "{theirs}/../{demo}/x/y/z",
        "{theirs}/%2e%2e/{demo}/x/y/z",
        "{theirs}%2f..%2f{demo}/x/y/z",
        "{theirs}/x/%252e%252e/%252e%252e/{demo}/x/y/z",
        "/{demo}/x/y/z",
        "./{demo}/x/y/z",
        "0{demo}/x/y/z",
        "+{demo}/x/y/z",
        "file:///{demo}/x/y/z",
        "%2f{demo}/x/y/z",
    ],
)
async def test_a_path_cannot_be_written_so_that_it_leaves_its_experiment(house, demo, path):
    theirs = await house.experiment("eve", "other")
    path = path.format(theirs=theirs, demo=demo[0])
    address = f"http://127.0.0.1:{house.hub.addresses.tracking}/services/mlflow"
    for method in ("GET", "PUT", "DELETE"):
        writer_status = await raw(
            house, method, f"{address}/api/2.0/mlflow-artifacts/artifacts/{path}", "eve"
        )
        assert writer_status in (400, 404, 422), (method, path)


async def raw(house, method, url, who):
    """The status of a request whose path no client library has tidied up."""
    host, _, path = url.removeprefix("http://").partition("/")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    token = house.tokens[who]
    writer.write(
        f"{method} /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Length: 1\r\nConnection: close\r\n\r\nx".encode()
    )
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_html_of_a_run_is_sandboxed_and_downloaded(house, demo):
    experiment, run = demo
    file = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/a.html"
    await house.ask("bob", "PUT", file, content=b"<script></script>")
    for path, query in (
        ("/get-artifact", {"run_uuid": run, "path": "a.html"}),
        (file, {}),
    ):
        page = await house.ask("vic", "GET", path, params=query)
        assert page.status_code == 200
        assert page.headers["content-security-policy"] == "sandbox"
        assert page.headers["content-disposition"].startswith("attachment")
        assert page.headers["x-content-type-options"] == "nosniff"
    small = await house.ask(
        "vic", "POST", "/ajax-api/2.0/mlflow/upload-artifact",
        params={"run_uuid": run, "path": "b.txt"}, content=b"x",
    )  # fmt: skip
    assert small.status_code == 403


async def test_a_large_artifact_is_streamed(house, demo):
    experiment, run = demo
    file = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/large.bin"
    process = psutil.Process(house.hub.processes["tracking"].pid)
    before, peak, done = process.memory_info().rss, 0, False

    async def chunks():
        for _ in range(150):
            yield b"x" * 2**20

    async def watch():
        nonlocal peak
        while not done:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    assert (await house.ask("bob", "PUT", file, content=chunks())).status_code == 200
    async with house.client.stream(
        "GET", house.url + file, headers={"Authorization": f"Bearer {house.tokens['vic']}"}
    ) as answer:
        size = 0
        async for chunk in answer.aiter_bytes():
            size += len(chunk)
    done = True
    await watching
    assert size == 150 * 2**20
    assert peak - before < 60 * 2**20
