"""A whole platform where every account and service has an origin of its own, on an awkward path."""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx
import nbformat

from tests.platform import running_platform, wait_for

CODE = 'import mlflow\nmlflow.log_metric("answer", 42)\nprint(cuaderno.run_url("r"))'


def server(operator: httpx.Client) -> str:
    return operator.get("projects/demo/server").json()["state"]


def test_a_run_and_its_metrics_with_subdomains_and_a_space_in_the_path():
    with tempfile.TemporaryDirectory(prefix="cu-", dir="/tmp") as room:
        folder = Path(room) / "my dätä"
        quiet = {"CUADERNO_DEMO_FIRST_RUN": "false"}
        with running_platform(folder, start=False, **quiet) as platform:
            origin = f"cuaderno.localhost:{platform.port}"
            platform.environ["CUADERNO_HUB_SUBDOMAIN_HOST"] = f"http://{origin}"
            platform.start()
            notebook = nbformat.v4.new_notebook()
            notebook.cells = [nbformat.v4.new_code_cell("import cuaderno\n" + CODE)]
            nbformat.write(notebook, folder / "projects" / "demo" / "repo" / "tiny.ipynb")
            operator = platform.operator
            started = operator.post("projects/demo/server")
            assert started.is_success, started.text
            wait_for("the server", lambda: server(operator) == "running")
            # Asks the running server what its open documents say.
            committed = operator.post(
                "projects/demo/commits", json={"paths": ["tiny.ipynb"], "message": "Tiny"}
            )
            assert committed.is_success, committed.text
            asked = operator.post("runs", json={"project": "demo", "notebook": "tiny.ipynb"})
            run = platform.wait_for_run(asked.json()["id"])
            assert run["state"] == "succeeded", (run, platform.diagnosis())
            assert "executed.html" in run["files"]

            logged = operator.get(f"runs/{run['id']}/metrics").json()["items"]
            assert [m["metrics"] for m in logged] == [{"answer": 42.0}]
            assert f"http://cuaderno--service.{origin}/services/cuaderno/runs/r" in (
                operator.get(f"runs/{run['id']}/files/executed.html").text
            )
            dashboards = operator.get("dashboards").json()["items"]
            assert dashboards[0]["url"].startswith(f"http://dashboards--service.{origin}/")
            # What people wrote stays on an origin of its own: not at the address of processes.
            refused = operator.get(f"{platform.url}/services/dashboards/health")
            assert not refused.is_success
            assert operator.get(f"{platform.url}/services/mlflow/health").is_success
            assert sorted(p.name for p in Path(room).iterdir()) == ["my dätä", "my dätä.out"]
