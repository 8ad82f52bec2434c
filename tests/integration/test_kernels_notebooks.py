"""The notebook and the dashboard on a real platform: what they measure, show and log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cuaderno
import nbformat
import papermill
import pytest
from cuaderno import specs

from hub_config.identity import Signer
from hub_config.keys import secret
from hub_config.settings import load_settings
from tests.platform import Platform, wait_for

ROOT = Path(__file__).parents[2]
KERNEL_PYTHON = Path(sys.prefix).parent / ".venv-kernel" / "bin" / "python"
PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our kernelspecs for papermill in this process, and nothing of a platform."""
    specs.write(tmp_path / "jupyter" / "kernels", KERNEL_PYTHON)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in [n for n in os.environ if n.startswith(("CUADERNO_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


def figures(notebook: Any) -> list[dict[str, Any]]:
    return [
        output["data"][PLOTLY]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if PLOTLY in output.get("data", {})
    ]


def text(notebook: Any) -> str:
    """All that the cells wrote or showed, widgets' state included."""
    return json.dumps([c.get("outputs", []) for c in notebook.cells]) + json.dumps(
        notebook.metadata.get("widgets", {})
    )


def dashboard_environment(platform: Platform, project: str = "demo") -> dict[str, str]:
    settings = load_settings({"CUADERNO_DATA_DIR": str(platform.data_dir)})
    signer = Signer(secret(settings, "platform-key"))
    return {
        "CUADERNO_URL": platform.url,
        "CUADERNO_PROJECT": project,
        "CUADERNO_TOKEN": signer.dashboard_token(project, 600),
    }


def run_dashboard(tmp_path: Path) -> Any:
    out = tmp_path / "dashboard.ipynb"
    source = ROOT / "dashboards" / "training_overview.ipynb"
    papermill.execute_notebook(source, out, progress_bar=False)
    return nbformat.read(out, as_version=4)


def test_training_on_a_store_of_its_own(
    kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a platform too, with other parameters, and the same numbers for the same seed."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        ROOT / "notebooks" / "train_classifier.ipynb",
        out,
        parameters={"max_depth": 2, "n_estimators": 80},
        progress_bar=False,
    )
    assert len(figures(nbformat.read(out, as_version=4))) == 3
    seen = subprocess.run(
        [
            str(KERNEL_PYTHON),
            "-c",
            textwrap.dedent(
                """
                import json, mlflow
                from sklearn.datasets import load_breast_cancer
                run = mlflow.search_runs(output_format="list")[0]
                X = load_breast_cancer(as_frame=True).data[:4]
                model = mlflow.search_logged_models(output_format="list")[0]
                answer = mlflow.pyfunc.load_model(model.model_uri).predict(X)
                columns = len(mlflow.models.get_model_info(model.model_uri).signature.inputs)
                files = [f.path for f in mlflow.MlflowClient().list_artifacts(run.info.run_id)]
                print(json.dumps([run.info.status, run.data.metrics, run.data.params,
                                  answer.tolist(), columns, files]))
                """
            ),
        ],
        env={**os.environ, "MLFLOW_TRACKING_URI": store},
        capture_output=True,
        text=True,
        check=True,
    )
    status, metrics, parameters, answer, columns, files = json.loads(seen.stdout.splitlines()[-1])
    assert status == "FINISHED"
    assert (parameters["max_depth"], parameters["n_estimators"]) == ("2", "80")
    assert columns == 30 and "figures.html" in files
    assert all(len(row) == 2 and abs(sum(row) - 1) < 1e-6 for row in answer)  # probabilities
    assert metrics["roc_auc"] > 0.95 and metrics["accuracy"] > 0.88
    assert metrics["baseline_roc_auc"] == pytest.approx(0.5)
    assert metrics["baseline_brier"] > 2 * metrics["brier"]
    assert metrics["roc_auc_low"] <= metrics["roc_auc"] <= metrics["roc_auc_high"]
    assert 0 <= metrics["calibration_error"] < 0.15 and 0 < metrics["threshold"] < 1
    for name in ("average_precision", "log_loss", "logistic_roc_auc", "cv_roc_auc_mean"):
        assert name in metrics


@pytest.mark.asyncio(loop_scope="session")
async def test_the_platforms_first_run_and_its_dashboard(
    platform: Platform, kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = wait_for(
        "the first run", lambda: platform.operator.get("runs", params={"project": "demo"}), 60
    ).json()["items"][-1]
    assert platform.wait_for_run(first["id"], seconds=180)["state"] == "succeeded"
    for name, value in dashboard_environment(platform).items():
        monkeypatch.setenv(name, value)
    shown = run_dashboard(tmp_path)
    assert len(figures(shown)) >= 1
    assert f"{platform.url}/services/cuaderno/runs/{first['id']}" in text(shown)
    assert re.search(r"/services/mlflow/#/experiments/\d+/runs/[0-9a-f]{32}", text(shown))
    assert "could not be read" not in text(shown) and "No runs yet" not in text(shown)
    took = {c.id: c.metadata.papermill.duration for c in shown.cells if c.cell_type == "code"}
    assert sum(took.values()) - took["imports"] < 10, took  # 2 s on an idle machine


@pytest.mark.asyncio(loop_scope="session")
async def test_a_dashboard_says_what_is_away(
    platform: Platform, kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in dashboard_environment(platform).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUADERNO_TOKEN", "cu_not-a-token")
    shown = text(run_dashboard(tmp_path))
    assert "could not be read" in shown
    monkeypatch.setenv("CUADERNO_URL", "http://127.0.0.1:1")
    shown = text(run_dashboard(tmp_path))
    assert "does not answer" in shown


@pytest.mark.asyncio(loop_scope="session")
async def test_a_dashboard_of_an_empty_project_and_of_a_hostile_name(
    platform: Platform, kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = platform.operator.post("projects", json={"name": "blank", "title": "Blank"})
    assert made.is_success, made.text
    for name, value in dashboard_environment(platform, "blank").items():
        monkeypatch.setenv(name, value)
    shown = run_dashboard(tmp_path)
    assert "No runs yet" in text(shown) and not figures(shown)

    token = platform.cuaderno("token", platform.first_login()[0]).stdout.strip()
    hostile = "<img src=x onerror=alert(1)>"
    with cuaderno.Platform(platform.url, token) as client:
        mlflow = "/services/mlflow/api/2.0/mlflow/"
        experiment = client.post(mlflow + "experiments/create", {"name": "blank"})
        run = client.post(mlflow + "runs/create", {**experiment, "run_name": hostile})
        body = {"run_id": run["run"]["info"]["run_id"], "key": "auc", "value": 0.5, "timestamp": 1}
        client.post(mlflow + "runs/log-metric", body)
    shown = text(run_dashboard(tmp_path))
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    assert hostile not in shown


@pytest.mark.asyncio(loop_scope="session")
async def test_a_notebook_that_never_ends_its_run_loses_nothing(
    platform: Platform, kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shared server's kernel: it logs, and is shut down as Lab would."""
    for name, value in dashboard_environment(platform).items():
        monkeypatch.setenv(name, value)
    token = platform.cuaderno("token", platform.first_login()[0]).stdout.strip()
    monkeypatch.setenv("CUADERNO_TOKEN", token)
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
        cells=[
            nbformat.v4.new_code_cell(
                "import mlflow\n"
                "run = mlflow.start_run()\n"
                "for step in range(200):\n"
                "    mlflow.log_metric('loss', 1 / (step + 1), step=step)\n"
                "print('run id', run.info.run_id)"
            )
        ],
    )
    nbformat.write(notebook, tmp_path / "open.ipynb")
    papermill.execute_notebook(tmp_path / "open.ipynb", tmp_path / "done.ipynb", progress_bar=False)
    done = text(nbformat.read(tmp_path / "done.ipynb", as_version=4))
    run = re.search(r"run id ([0-9a-f]{32})", done)
    assert run
    answer = platform.operator.get(
        f"{platform.url}/services/mlflow/api/2.0/mlflow/metrics/get-history",
        params={"run_id": run[1], "metric_key": "loss"},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert len(answer.json()["metrics"]) == 200
