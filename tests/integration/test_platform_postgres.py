"""A whole platform on PostgreSQL: three databases, a run, a death of the hub."""

from __future__ import annotations

import os
import signal

import nbformat
from sqlalchemy import text

from hub_config.storage.database import make_engine
from tests.platform import running_platform, wait_for

LOGS = """\
import mlflow
with mlflow.start_run():
    mlflow.log_metric("answer", 42)
"""


def test_a_run_is_tracked_and_the_hub_comes_back(postgres_url):
    base, _, query = postgres_url.partition("?")
    admin = make_engine(postgres_url).execution_options(isolation_level="AUTOCOMMIT")
    urls = {}
    with admin.connect() as connection:
        for name in ("platform", "platform_hub", "platform_mlflow"):
            connection.execute(text(f"CREATE DATABASE {name}"))
            urls[name] = f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    admin.dispose()
    with running_platform(
        CUADERNO_DATABASE_URL=urls["platform"],
        CUADERNO_HUB_DATABASE_URL=urls["platform_hub"],
        CUADERNO_TRACKING_DATABASE_URL=urls["platform_mlflow"],
        CUADERNO_DEMO_FIRST_RUN="false",
    ) as platform:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LOGS)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python (CPU)"}
        nbformat.write(notebook, platform.data_dir / "projects" / "demo" / "repo" / "answer.ipynb")
        done = platform.cuaderno("run", "answer.ipynb", "--commit", "--wait")
        assert "answer  42" in done.stdout, done.stdout

        ana = platform.person("ana", "demo", "viewer")
        before = platform.pid("hub")
        os.kill(before, signal.SIGKILL)
        wait_for("another hub", lambda: platform.pid("hub") != before)
        assert platform.sign_in("ana", ana.password)
        assert ana.api.get("runs").json()["total"] == 1
        for name in ("cuaderno.db", "hub/jupyterhub.sqlite", "tracking/mlflow.db"):
            assert not (platform.data_dir / name).exists(), "nothing fell back to SQLite"
