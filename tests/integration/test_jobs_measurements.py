"""What a run logged, read from a real tracking server; MLflow runs of dead runs are ended."""

from __future__ import annotations

import asyncio
import time

import pytest
import pytest_asyncio
from sqlalchemy import update

from hub_config.errors import Unavailable
from hub_config.jobs.dispatcher import Dispatcher
from hub_config.jobs.measurements import Measurements
from hub_config.jobs.model import State
from hub_config.jobs.placement import Placement
from hub_config.jobs.store import RunStore
from hub_config.storage.database import write
from hub_config.storage.schema import runs
from tests.integration.tracking_house import tracking_house

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house():
    async with tracking_house() as made:
        yield made


@pytest.mark.parametrize(
    ("state", "status"),
    [(State.SUCCEEDED, "FINISHED"), (State.FAILED, "FAILED"), (State.CANCELLED, "KILLED")],
)
async def test_an_mlflow_run_left_open_ends_as_its_run_did(house, state, status):
    store, settings = RunStore(house.hub.engine), house.hub.settings
    measurements = Measurements(settings, house.signer, "jobs")
    dispatcher = Dispatcher(settings, store, house.signer, Placement(settings), measurements)
    run, token = house.live_run()
    with write(house.hub.engine) as connection:
        target = {"target": State.SUCCEEDED}
        connection.execute(update(runs).where(runs.c.id == run).values(target))
    experiment = await house.experiment(token, "demo/deep")
    made = await house.run(token, experiment, start_time=int(time.time() * 1000))
    mlflow_run = made["info"]["run_id"]
    metric = {"key": "auc", "value": 0.9, "step": 1, "timestamp": int(time.time() * 1000)}
    (await house.post(token, "/runs/log-metric", run_id=mlflow_run, **metric)).raise_for_status()
    depth = {"run_id": mlflow_run, "key": "depth", "value": "4"}
    (await house.post(token, "/runs/log-parameter", **depth)).raise_for_status()
    other = await house.run("bob", experiment)  # by hand, in Lab: none of our business

    found = await asyncio.to_thread(measurements.of_run, store.get(run))
    assert [(m["id"], m["metrics"], m["status"]) for m in found] == [
        (mlflow_run, {"auc": 0.9}, "RUNNING")
    ]
    assert found[0]["parameters"] == {"depth": "4"}
    assert found[0]["link"] == f"/services/mlflow/#/experiments/{experiment}/runs/{mlflow_run}"

    async def status_of(one):
        answer = await house.get("ana", "/runs/get", run_id=one)
        return answer.json()["run"]["info"]["status"]

    await asyncio.to_thread(dispatcher.close_left_open, "demo")
    assert await status_of(mlflow_run) == "RUNNING", "its run still runs"
    with write(house.hub.engine) as connection:
        values = {"state": state, "finished_at": time.time()}
        connection.execute(update(runs).where(runs.c.id == run).values(values))
    await asyncio.to_thread(dispatcher.close_left_open, "demo")
    assert await status_of(mlflow_run) == status
    assert await status_of(other["info"]["run_id"]) == "RUNNING"


async def test_tracking_away_is_said(house):
    from dataclasses import replace

    away = Measurements(replace(house.hub.settings, port=9), house.signer, "jobs")
    with pytest.raises(Unavailable, match="Tracking is not answering"):
        await asyncio.to_thread(away.left_open, "demo")
