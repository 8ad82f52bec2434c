"""What notebooks do: MLflow's own client, from the kernels' environment, with no configuration."""

import asyncio
import json
import os
import sys

import nbformat
import pytest
import pytest_asyncio

from tests.integration.tracking_house import tracking_house

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOTEBOOK = """
import mlflow
run = mlflow.start_run(run_name="unended")
mlflow.log_params({"depth": 4})
for step in range(50):
    mlflow.log_metric("loss", 1 / (step + 1), step=step)
print(run.info.run_id)
"""
# The whole way of a training: autologged model and all; at the end what another reader sees.
TRAINING = """
import json, sys, mlflow
from sklearn.datasets import load_breast_cancer
from sklearn.naive_bayes import GaussianNB

x, y = load_breast_cancer(return_X_y=True, as_frame=True)
with mlflow.start_run(tags={"mlflow.user": "lie"}) as run:
    model = GaussianNB().fit(x, y)
    mlflow.log_text("<b>report</b>", "report.html")
    info = mlflow.sklearn.log_model(model, name="bayes", input_example=x.head(2))
again = mlflow.sklearn.load_model(info.model_uri)
text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report.html")
print(json.dumps([run.info.run_id, info.model_id, again.score(x, y), text]))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house():
    async with tracking_house() as made:
        yield made


def kernel_environment(house, token, experiment):
    """What the provisioner gives a kernel, and nothing else."""
    kept = {n: os.environ[n] for n in ("PATH", "HOME", "TMPDIR") if n in os.environ}
    return kept | {
        "MLFLOW_TRACKING_URI": house.url,
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


async def python(house, source, environment):
    """The last line that `source` prints in the kernels' environment."""
    process = await asyncio.create_subprocess_exec(
        str(house.hub.settings.kernel_python),
        *("-W", "ignore", "-c", source),
        env=environment,
        cwd=house.hub.settings.data_dir,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()[-3000:]
    return [line for line in out.decode().splitlines() if not line.startswith(("🏃", "🧪"))][-1]


async def history(house, who, run):
    answer = await house.get(who, "/metrics/get-history", run_id=run, metric_key="loss")
    return sorted(m["step"] for m in answer.json().get("metrics", []))


async def test_scripts_that_start_an_experiment_at_once_and_never_end_their_run_lose_nothing(house):
    """None finds the experiment at first; all log asynchronously and exit at once."""
    _, token = house.live_run()
    environment = kernel_environment(house, token, "demo/fresh")
    runs = await asyncio.gather(*(python(house, NOTEBOOK, environment) for _ in range(4)))
    assert len(set(runs)) == 4
    for run in runs:
        assert await history(house, "vic", run) == list(range(50))
        assert (await house.get("vic", "/runs/get", run_id=run)).json()["run"]["data"]["params"]


async def test_a_training_logs_its_model_and_reads_it_back(house):
    environment = kernel_environment(house, house.tokens["bob"], "~bob")
    run, model, score, text = json.loads(await python(house, TRAINING, environment))
    assert score > 0.9 and text == "<b>report</b>"
    tags = (await house.get("bob", "/runs/get", run_id=run)).json()["run"]["data"]["tags"]
    assert {"key": "mlflow.user", "value": "bob"} in tags
    for who in ("ana", "eve", "kim"):
        assert (await house.get(who, "/runs/get", run_id=run)).status_code == 404
        assert (await house.get(who, f"/logged-models/{model}")).status_code == 404


async def test_a_run_of_a_shared_server_says_who_started_its_kernel(house):
    account = await house.hub.make_project("demo")
    environment = kernel_environment(house, await house.hub.user_token(account), "demo/shared")
    environment["CUADERNO_STARTED_BY"] = "bob"
    source = "import mlflow\nwith mlflow.start_run() as run: print(run.info.run_id)"
    run = await python(house, source, environment)
    found = (await house.get("vic", "/runs/get", run_id=run)).json()["run"]
    tags = {t["key"]: t["value"] for t in found["data"]["tags"]}
    assert (tags["cuaderno.started_by"], tags["mlflow.user"]) == ("bob", "demo")


async def test_a_viewers_client_is_told_what_it_may_not_do(house):
    environment = kernel_environment(house, house.tokens["vic"], "demo/fresh")
    source = """
import mlflow
from mlflow.exceptions import MlflowException
try:
    mlflow.start_run()
except MlflowException as error:
    print(error.error_code, error.message)
"""
    await house.experiment("bob", "demo/fresh")
    said = await python(house, source, environment)
    assert said.startswith("PERMISSION_DENIED") and "yours is viewer" in said


async def test_papermill_keeps_all_metrics_of_a_notebook_that_never_ends_its_run(house, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    source, result = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(notebook, source)
    name, token = house.live_run()
    settings = house.hub.settings
    environment = house.hub.environment | {
        "JUPYTER_PATH": str(settings.jupyter_dir),
        "CUADERNO_URL": house.hub.url,
        "CUADERNO_TOKEN": token,
        "CUADERNO_PROJECT": "demo",
        "CUADERNO_RUN": name,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "papermill", str(source), str(result),
        "--no-progress-bar", "--log-level", "WARNING",
        env=environment, cwd=tmp_path, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()[-3000:]
    run = nbformat.read(result, as_version=4).cells[0].outputs[0].text.split()[-1]
    assert await history(house, "vic", run) == list(range(50))
    found = (await house.get("vic", "/runs/get", run_id=run)).json()["run"]
    tags = {t["key"]: t["value"] for t in found["data"]["tags"]}
    assert tags["cuaderno.run"] == name and tags["mlflow.user"] == "demo"
