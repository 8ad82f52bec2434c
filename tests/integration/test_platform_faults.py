"""`kill -9` of each process in turn, during a run too: a truthful state and a working platform."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator

import nbformat
import psutil
import pytest

from hub_config.node.processes import RUN_MARK, marked
from tests.platform import Platform, running_platform, wait_for

SLOW = """\
import subprocess, time
child = subprocess.Popen(["setsid", "sleep", "300"])
for step in range(seconds * 10):
    time.sleep(0.1)
    if step % 10 == 0:
        print("step", step, flush=True)
child.kill()
"""


@pytest.fixture(scope="module")
def shaken() -> Iterator[Platform]:
    """A platform that these tests may shake, with a slow notebook in its demo project."""
    with running_platform(
        CUADERNO_DEMO_FIRST_RUN="false", CUADERNO_JOBS_LOST_AFTER_SECONDS="6"
    ) as platform:
        repository = platform.data_dir / "projects" / "demo" / "repo"
        cells = [
            nbformat.v4.new_code_cell("seconds: int = 6", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(SLOW),
        ]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python (CPU)"}
        nbformat.write(notebook, repository / "notebooks" / "slow.ipynb")
        committed = platform.operator.post(
            "projects/demo/commits", json={"paths": ["notebooks/slow.ipynb"], "message": "Slow"}
        )
        assert committed.is_success, committed.text
        yield platform


def submit(platform: Platform, **parameters: object) -> str:
    body = {"project": "demo", "notebook": "notebooks/slow.ipynb", "parameters": parameters}

    def post() -> str:
        answer = platform.operator.post("runs", json=body)
        assert answer.is_success, answer.text
        return answer.json()["id"]

    return wait_for("a submitted run", post, 60)


def running(platform: Platform, run: str) -> dict:
    """Wait until the run's own cell is at work, and say so of a run that ended before."""

    def look() -> dict | None:
        found = platform.operator.get(f"runs/{run}").json()
        assert found["state"] in ("queued", "running", "succeeded"), found
        log = platform.operator.get(f"runs/{run}/log").json()["text"]
        return found if "step" in log else None

    return wait_for("the run's first output", look, 60)


def tree(platform: Platform, run: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(RUN_MARK, "")
        except psutil.Error:
            continue
        if value.startswith(f"{run}."):
            found.append(process)
    return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


NAMES = ["proxy", "hub", "web", "jobs", "tracking", "dashboards", "scheduler", "worker-0"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_survives_the_death_of_a_process(shaken, name):
    run = submit(shaken, seconds=5)
    running(shaken, run)
    before = shaken.pid(name)
    os.kill(before, signal.SIGKILL)
    wait_for(f"another {name}", lambda: shaken.pid(name) != before, 60)
    done = shaken.wait_for_run(run, seconds=90)
    assert (done["state"], done["reason"]) == ("succeeded", ""), done
    wait_for("the end of its tree", lambda: not tree(shaken, run), 20)


def test_everything_works_after_all_these_deaths(shaken):
    # The browser's way in: proxy routes, hub, portal, MLflow, dashboards, and a new run.
    name, password = shaken.first_login()
    browser = wait_for("a sign-in", lambda: shaken.sign_in(name, password), 60)
    for path in ("/services/cuaderno/", "/services/mlflow/", "/services/dashboards/health"):
        wait_for(path, lambda path=path: browser.get(path).status_code == 200, 60)
    done = shaken.wait_for_run(submit(shaken, seconds=1))
    assert done["state"] == "succeeded", done
    rows = json.loads(shaken.cuaderno("status", "--json").stdout)
    assert {row["state"] for row in rows} == {"running"}


def test_a_killed_kernel_fails_the_run_with_its_reason(shaken):
    run = submit(shaken, seconds=30)
    running(shaken, run)
    kernels = [p for p in tree(shaken, run) if "ipykernel" in " ".join(p.cmdline())]
    assert len(kernels) == 1
    kernels[0].kill()
    done = shaken.wait_for_run(run, seconds=60)
    assert done["state"] == "failed" and "kernel" in done["reason"].lower(), done
    wait_for("the end of its tree", lambda: not tree(shaken, run), 20)


def test_a_killed_runner_fails_the_run_and_leaves_nothing(shaken):
    run = submit(shaken, seconds=30)
    running(shaken, run)
    runners = [p for p in tree(shaken, run) if "hub_config.jobs.runner" in " ".join(p.cmdline())]
    assert runners
    for process in runners:
        process.kill()
    done = shaken.wait_for_run(run, seconds=60)
    assert done["state"] == "failed" and done["reason"], done
    wait_for("the end of its tree", lambda: not tree(shaken, run), 20)


def test_cancel_ends_the_whole_tree(shaken):
    run = submit(shaken, seconds=60)
    running(shaken, run)
    assert any("sleep" in " ".join(p.cmdline()) for p in tree(shaken, run))
    assert shaken.cuaderno("cancel", run).returncode == 0
    done = shaken.wait_for_run(run, seconds=60)
    assert done["state"] == "cancelled", done
    wait_for("the end of its tree", lambda: not tree(shaken, run), 20)
    assert shaken.operator.get(f"runs/{run}/files/executed.ipynb").is_success
    assert "step" in shaken.operator.get(f"runs/{run}/files/log.txt").text


def test_stopping_the_platform_during_a_run_is_told_truthfully(shaken):
    finished = shaken.wait_for_run(submit(shaken, seconds=1))
    run = submit(shaken, seconds=120)
    running(shaken, run)
    assert shaken.stop() < 10
    assert not shaken.left() and not marked(RUN_MARK, run)
    shaken.start()
    done = shaken.wait_for_run(run, seconds=60)
    assert done["state"] == "failed" and done["reason"], done
    again = shaken.operator.get(f"runs/{finished['id']}").json()
    assert again["state"] == "succeeded"
    assert shaken.operator.get(f"runs/{finished['id']}/files/executed.html").is_success


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(24))
def test_any_process_dies_at_any_moment_of_a_run(shaken, seed):
    """Whatever dies whenever: the run ends, its state is true, nothing is left."""
    chance = random.Random(seed)
    name = chance.choice([*NAMES, "runner", "kernel"])
    run = submit(shaken, seconds=3)
    time.sleep(chance.uniform(0, 5))  # the moment is what is varied here
    if name in NAMES:
        os.kill(shaken.pid(name), signal.SIGKILL)
    else:
        module = "hub_config.jobs.runner" if name == "runner" else "ipykernel"
        for process in tree(shaken, run):
            if module in " ".join(process.cmdline()):
                process.kill()
    done = shaken.wait_for_run(run, seconds=120)
    assert done["state"] == "succeeded" or (done["state"] == "failed" and done["reason"]), done
    if name in NAMES:
        assert done["state"] == "succeeded", (name, done)
    wait_for("the end of its tree", lambda: not tree(shaken, run), 30)
