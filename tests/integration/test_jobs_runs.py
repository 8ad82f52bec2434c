"""Runs on real processes: what becomes of them, and what is kept."""

from __future__ import annotations

import asyncio
import json
import signal

import httpx
import psutil
import pytest

from hub_config.errors import NotFound
from hub_config.jobs.dispatcher import Dispatcher
from hub_config.jobs.model import State, attempt_dir
from tests.integration.jobs_house import JobsHouse


@pytest.fixture(scope="module")
def house():
    house = JobsHouse()
    try:
        house.start()
        house.wait_ready()
        yield house
    finally:
        house.stop()


def assert_nothing_left(house, run):
    # At once nothing but the runner, which has told its end and tidies up; then not that either.
    tidying = ("hub_config.jobs.runner", "worktree")
    assert [left for left in house.left_of(run) if not any(t in left for t in tidying)] == []
    house.wait(lambda: house.left_of(run) == [], "end of the runner", 20)
    attempt = house.store.get(run.id).attempt
    assert not attempt_dir(house.settings, run.id, attempt).exists()
    assert not list(house.settings.runtime_dir.glob(f"r{attempt}[.-]*"))


def test_a_run_succeeds_with_its_parameters_and_keeps_its_files(house):
    code = (
        "print('depth', max_depth, repr(name))\nimport os\nprint('run', os.environ['CUADERNO_RUN'])"
    )
    figure = (
        "from IPython.display import display\n"
        "display({'application/vnd.plotly.v1+json': {'data': [{'y': [1, 2]}], 'layout': {}},"
        " 'text/plain': 'Figure'}, raw=True)"
    )
    defaults = "max_depth = 3\nname = 'x'"
    given = {"max_depth": 4, "name": '"; import os; "'}
    run = house.ended(house.submit(code, figure, parameters=defaults, **given))
    log = house.log(run)
    assert (run.state, run.reason) == (State.SUCCEEDED, ""), log
    assert "depth 4 '\"; import os; \"'" in log
    assert f"run {run.id}" in log
    assert (run.cells_done, run.cells_total) == (4, 4)
    assert house.file(run, "log.txt") == log
    executed = json.loads(house.file(run, "executed.ipynb"))
    assert len(executed["cells"]) == 4
    page = house.file(run, "executed.html")
    assert 'Plotly.newPlot("figure-1"' in page
    for fetched in ("cdnjs.", "cdn.jsdelivr", "unpkg.com/@jupyter", "<script src", "<link rel"):
        assert fetched not in page.replace(plotly_js(), "")
    assert_nothing_left(house, run)
    worktrees = house.repository.git("worktree", "list").decode().strip().splitlines()
    assert not [line for line in worktrees if run.id in line]


def plotly_js() -> str:
    from hub_config.jobs import page

    return page._plotly_js()


def test_a_failing_cell_keeps_what_there_is(house):
    run = house.submit("print('before')", "print('partial')\n1 / 0", "print('never')")
    run = house.ended(run)
    assert run.state == State.FAILED
    assert run.reason == "Cell 2 of 3: ZeroDivisionError: division by zero"
    log = house.log(run)
    assert "partial" in log and "never" not in log and "\x1b" not in log
    assert "ZeroDivisionError" in log
    assert "partial" in house.file(run, "executed.ipynb")
    assert "ZeroDivisionError" in house.file(run, "executed.html")
    assert house.file(run, "log.txt") == log


def test_a_cancel_ends_all_that_the_notebook_started(house):
    code = (
        "import subprocess, time\n"
        "subprocess.Popen(['setsid', 'sleep', '987'], start_new_session=True)\n"
        "subprocess.Popen(['env', '-i', 'setsid', '--fork', 'sleep', '986'])\n"
        "print('waiting', flush=True)\n"
        "while True:\n"
        "    try:\n        time.sleep(300)\n    except KeyboardInterrupt:\n        print('no!')\n"
    )
    run = house.submit("print('one')", code)
    house.running(run, "waiting\n")
    house.cancel(run)
    run = house.ended(run, 30)
    assert run.state == State.CANCELLED
    assert run.reason == "Cancelled by ben in cell 2 of 2."
    assert "one" in house.file(run, "executed.ipynb")
    assert "no!" in house.log(run)
    assert_nothing_left(house, run)
    lines = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    assert ["sleep", "987"] not in lines and ["sleep", "986"] not in lines


def test_a_cancel_that_the_kernel_obeys_is_quick(house):
    run = house.submit("import time\nprint('waiting', flush=True)\ntime.sleep(300)")
    house.running(run, "waiting\n")
    house.cancel(run)
    run = house.ended(run, 20)
    assert run.state == State.CANCELLED
    assert "ending it and all it started" not in house.log(run)


def test_a_killed_kernel_fails_the_run_and_says_so(house):
    code = "import os, signal\nprint('bye', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    run = house.ended(house.submit("print('one')", code))
    assert run.state == State.FAILED
    assert "SIGKILL" in run.reason and "in cell 2 of 2" in run.reason
    assert "one" in house.file(run, "executed.ipynb")
    assert_nothing_left(house, run)


def test_a_killed_runner_fails_the_run_and_keeps_what_it_had(house):
    code = (
        "import subprocess, time\nsubprocess.Popen(['setsid', 'sleep', '985'])\n"
        "print('waiting', flush=True)\ntime.sleep(300)"
    )
    run = house.submit("print('one')", code)
    pid = house.running(run, "waiting\n")
    snapshot = house.data_dir / "jobs" / run.id
    house.wait(
        lambda: any("waiting" in p.read_text() for p in snapshot.glob("*/executed.ipynb")),
        "snapshot in the middle of a cell",
        10,
    )
    psutil.Process(pid).send_signal(signal.SIGKILL)
    run = house.ended(run)
    assert run.state == State.FAILED
    assert "The runner was killed" in run.reason
    assert "waiting" in house.file(run, "executed.ipynb")
    assert "one" in house.file(run, "executed.html")
    assert "The runner was killed" in house.file(run, "log.txt")
    assert_nothing_left(house, run)


@pytest.mark.parametrize("name", ["worker-1", "scheduler", "jobs"])
def test_a_run_survives_the_death_of_a_process(house, name):
    gate = house.data_dir / f"gate-{name}"
    code = (
        f"import time, pathlib\nprint('waiting', flush=True)\ngate = pathlib.Path({str(gate)!r})\n"
        "while not gate.exists(): time.sleep(0.05)\nprint('through')"
    )
    run = house.submit(code, "print('after')")
    house.running(run, "waiting\n")
    house.kill(name)
    if name == "scheduler":
        house.processes["worker-1"].wait(20)  # it has lost its scheduler, so it ends
        house.start("worker-1")
    if name == "jobs":
        gate.touch()  # the notebook goes on, and its runner keeps what it has to say
        house.wait(
            lambda: any(
                "after" in p.read_text() for p in (house.data_dir / "jobs").glob("*/*/log.txt")
            ),
            "end of the notebook without jobs",
            20,
        )
    house.start(name)
    house.wait_ready()
    gate.touch()
    run = house.ended(run)
    assert (run.state, run.reason) == (State.SUCCEEDED, "")
    assert "through" in house.log(run) and "after" in house.log(run)
    assert "after" in house.file(run, "executed.ipynb")


def test_a_run_that_was_placed_when_the_worker_died_is_placed_again(house):
    house.wait(lambda: house.health().get("running") == 0, "rest", 20)
    stopped = psutil.Process(house.processes["worker-1"].pid)
    stopped.suspend()
    run = house.submit("print('at last')")
    house.wait(lambda: house.store.get(run.id).attempt is not None, "placement", 20)
    house.kill("worker-1")
    house.start("worker-1")
    run = house.ended(run)
    assert run.state == State.SUCCEEDED
    assert house.log(run).count("at last") == 1


def test_results_stand_when_jobs_starts_again(house):
    run = house.ended(house.submit("print('kept')"))
    house.kill("jobs")
    house.start("jobs")
    house.wait_ready()
    assert house.store.get(run.id) == run
    assert "kept" in house.file(run, "log.txt")


def test_what_died_together_with_jobs_is_failed_at_its_start(house):
    run = house.submit("import time\nprint('waiting', flush=True)\ntime.sleep(300)")
    pid = house.running(run, "waiting\n")
    house.kill("jobs")
    psutil.Process(pid).send_signal(signal.SIGKILL)
    house.start("jobs")
    run = house.ended(run, 30)
    assert run.state == State.FAILED and "killed" in run.reason
    assert "waiting" in house.file(run, "executed.ipynb")
    assert_nothing_left(house, run)


def test_files_that_the_store_refused_are_kept_until_it_takes_them(house, monkeypatch):
    store = house.data_dir / "artifacts" / "runs"
    store.parent.mkdir(exist_ok=True)
    aside = store.with_name("aside")
    if store.exists():
        store.rename(aside)
    store.write_text("no folder")
    try:
        run = house.ended(house.submit("print('only copy')"))
        assert run.state == State.FAILED and "could not be kept yet" in run.reason
        folder = attempt_dir(house.settings, run.id, run.attempt)
        assert "only copy" in (folder / "executed.ipynb").read_text()
        house.wait(lambda: house.left_of(run) == [], "end of the runner", 20)
    finally:
        store.unlink()
        if aside.exists():
            aside.rename(store)
    for name, value in house.environ.items():
        monkeypatch.setenv(name, value)  # of the process that publishes
    dispatcher = Dispatcher(house.settings, house.store, house.signer, None, None)

    async def two_minutes() -> None:
        await dispatcher._sweep()
        assert folder.exists()  # a runner that is about to remove it has a minute
        await dispatcher._sweep()

    asyncio.run(two_minutes())
    assert "only copy" in house.file(run, "log.txt")
    assert "only copy" in house.file(run, "executed.html")
    assert not folder.exists()


def test_more_runs_than_slots_wait(house):
    code = "import time\ntime.sleep(1)"
    runs = [house.submit(code) for _ in range(4)]
    peak = 0

    def all_ended():
        nonlocal peak
        peak = max(peak, house.health().get("running", 0))
        return all(house.store.get(r.id).state.ended for r in runs)

    house.wait(all_ended, "end of four runs", 90)
    assert {house.store.get(r.id).state for r in runs} == {State.SUCCEEDED}
    assert peak == 2


def test_a_missing_notebook_fails_with_its_name(house):
    run = house.submit("1")
    commit = house.repository.head()
    body = {"project": "demo", "notebook": "gone.ipynb", "commit": commit, "parameters": {}}
    body |= {"submitted_by": "ana", "origin": "api"}
    answer = httpx.post(f"{house.url}/runs", json=body, headers=house.headers(), timeout=20)
    run = house.ended(house.store.get(answer.json()["id"]))
    assert run.state == State.FAILED and "gone.ipynb" in run.reason


def test_jobs_believes_only_services_and_the_attempt_itself(house):
    run = house.submit("import time\nprint('waiting', flush=True)\ntime.sleep(300)")
    house.running(run, "waiting\n")
    attempt = house.store.get(run.id).attempt

    def post(path, token, body=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.post(house.url + path, json=body or {}, headers=headers).status_code

    end = {"state": "succeeded", "reason": ""}
    run_token = house.signer.run_token(run.id, attempt, "demo")
    other = house.signer.run_token(run.id, attempt + 1000, "demo")
    assert post(f"/runs/{run.id}/cancel", None, {"by": "eve"}) == 401
    assert post(f"/runs/{run.id}/cancel", run_token, {"by": "eve"}) == 403
    assert post(f"/attempts/{attempt}/finish", None, end) == 401
    assert post(f"/attempts/{attempt}/finish", other, end) == 404
    assert post(f"/attempts/{attempt + 1000}/finish", other, end) == 409  # fenced
    assert post(f"/attempts/{attempt}/finish", house.signer.service_token("web"), end) == 404
    assert house.store.get(run.id).state == State.RUNNING
    house.cancel(run)
    assert house.ended(run).state == State.CANCELLED
    assert post(f"/attempts/{attempt}/log", run_token, {"text": "late"}) == 409
    assert "late" not in house.log(run)


def test_the_scheduler_is_closed_to_who_has_no_certificate(house):
    from distributed.comm.core import CommClosedError

    listing = f"http://127.0.0.1:{house.addresses['scheduler_http']}"
    workers = httpx.get(f"{listing}/workers").json()["workers"]
    assert workers["worker-1"]["slots"] == 2
    assert httpx.get(f"{listing}/info/main/workers.html").status_code == 404
    from distributed import Client, Security

    with pytest.raises((OSError, CommClosedError)):
        Client(
            f"tls://127.0.0.1:{house.addresses['scheduler']}",
            security=Security.temporary(),
            timeout=3,
        )


def test_no_secret_in_any_log_or_command_line(house):
    key = (house.settings.secrets_dir / "platform-key").read_text().strip()
    for path in house.settings.logs_dir.glob("*.log"):
        text = path.read_text()
        assert "cu_ey" not in text and key not in text, path.name


def test_no_file_for_a_run_that_has_not_begun(house):
    with pytest.raises(NotFound):
        house.files.read("runs/none/log.txt")
