"""All routes that the installed MLflow has, walked by who may not use them."""

import asyncio
import json
import re
import sys

import pytest
import pytest_asyncio

from tests.integration.tracking_house import tracking_house

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIST_ROUTES = """
import json, sys
from hub_config.settings import load_settings
from hub_config.tracking.server import SWITCHES, load_mlflow
mlflow = load_mlflow(load_settings({"CUADERNO_DATA_DIR": sys.argv[1]}))
rules = mlflow.flask.url_map.iter_rules()
found = [(r.rule, sorted(r.methods - {"HEAD", "OPTIONS"})) for r in rules]
# The routes of MLflow's FastAPI application, which is not loaded in the process itself.
from mlflow.server import artifact_router, fastapi_app, gateway_api, job_api, mcp_server_api
from mlflow.server import otel_api, server_info_api
from mlflow.server.assistant import api
routers = [api.assistant_router, job_api.job_api_router, otel_api.otel_router]
routers += [gateway_api.gateway_router, server_info_api.server_info_router]
prefixes = [(router, [SWITCHES["_MLFLOW_STATIC_PREFIX"]]) for router in routers]
mcp = mcp_server_api.get_mcp_server_api_route_prefixes()
prefixes += [(mcp_server_api.mcp_server_router, mcp), (artifact_router.artifact_router, [""])]
for router, before in prefixes:
    for route in router.routes:
        found += [(p + route.path, sorted(route.methods)) for p in before]
included = [r for r in fastapi_app.app.routes if type(r).__name__ == "_IncludedRouter"]
assert len(included) == len(routers) + len(mcp) + 1, "MLflow has a router more"
print(json.dumps(found))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house():
    async with tracking_house() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def routes(tmp_path_factory):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", LIST_ROUTES, str(tmp_path_factory.mktemp("data")),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    found = json.loads(out.splitlines()[-1])
    assert len(found) > 300
    return [(rule, method) for rule, methods in found for method in methods]


async def test_every_route_with_the_ids_of_somebody_elses_things(house, routes):
    """Nobody, an outsider and a viewer ask each route of MLflow for demo's things, by all names
    that an id goes by: the first two never see them, and none of the three changes anything."""
    experiment = await house.experiment("bob", "demo/walk")
    run = (await house.run("bob", experiment, run_name="hidden-marker"))["info"]["run_id"]
    await house.post("bob", "/runs/log-batch", run_id=run, params=[{"key": "p", "value": "v"}])
    made = await house.post("bob", "/logged-models", experiment_id=experiment, name="hidden-marker")
    model = made.json()["model"]["info"]["model_id"]
    artifact = f"{experiment}/{run}/artifacts/hidden-marker.txt"
    path = f"/api/2.0/mlflow-artifacts/artifacts/{artifact}"
    assert (await house.ask("bob", "PUT", path, content=b"hidden-marker")).status_code == 200

    async def state():
        return [
            (await house.get("ana", "/runs/get", run_id=run)).json(),
            (await house.get("ana", "/experiments/get", experiment_id=experiment)).json(),
            (await house.get("ana", f"/logged-models/{model}")).json(),
            (await house.get("ana", "/artifacts/list", run_id=run)).json(),
            (await house.ask("ana", "GET", path)).content,
        ]

    before = await state()
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    query = {
        "experiment_id": experiment,
        "experiment_name": "demo/walk",
        "run_id": run,
        "run_uuid": run,
        "run_ids": run,
        "model_id": model,
        "source_run_id": run,
        "name": "demo/walk",
        "new_name": "demo/taken",
        "key": "p",
        "value": "changed",
        "timestamp": 1,
        "step": 0,
        "metric_key": "p",
        "path": "hidden-marker.txt",
        "artifact_file_path": "hidden-marker.txt",
        "status": "FAILED",
        "end_time": 1,
        "max_results": 10,
        "query": '{ mlflowGetRun(input: {runId: "RUN"}) { run { info { runName } } } }'.replace(
            "RUN", run
        ),
    }
    body = {
        **query,
        "experiment_ids": [experiment],
        "run_ids": [run],
        "tags": [{"key": "p", "value": "changed"}],
        "params": [{"key": "q", "value": "changed"}],
        "metrics": [{"key": "p", "value": 1, "timestamp": 1, "step": 0}],
        "models": [{"model_id": model, "step": 0}],
        "locations": [place],
        "trace_ids": [run],
    }
    fields = {"artifact_path": artifact, "model_id": model, "tag_key": "p", "path": "favicon.ico"}
    for rule, method in routes:
        address = re.sub(
            r"[<{](?:path:)?(\w+)(?::path)?[>}]", lambda m: fields.get(m[1], run), rule
        )
        if not address.startswith("/services/mlflow/"):
            address = "/services/mlflow" + address
        address = address.removeprefix("/services/mlflow")
        asks = {"params": query} if method in ("GET", "DELETE") else {"json": body, "params": query}
        if method == "DELETE":
            asks["json"] = body
        people = (None, "eve", "vic")
        answers = await asyncio.gather(*(house.ask(w, method, address, **asks) for w in people))
        for who, answer in zip(people, answers, strict=True):
            if who is None and address != "/health":
                assert answer.status_code == 401, (method, address)
            if who != "vic":
                assert "hidden-marker" not in answer.text.replace("hidden-marker.txt", ""), address
            # A body made for all routes at once may be wrong for one; that is 400, and only
            # MLflow's GraphQL without a body is 500.
            if (method, address) != ("GET", "/graphql"):
                assert answer.status_code < 500, (who, method, address, answer.text)
    assert await state() == before
