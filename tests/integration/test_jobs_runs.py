"""Runs on real processes: what becomes of them, and what is kept."""

from __future__ import annotations

import pytest

from hub_config.jobs.model import State
from tests.integration.jobs_house import JobsHouse


@pytest.fixture(scope="module")
def house():
    house = JobsHouse()
    house.start()
    try:
        house.wait_ready()
        yield house
    finally:
        house.stop()


def test_a_run_succeeds_with_its_parameters(house):
    run = house.submit(
        "print('depth', max_depth, repr(name))", parameters="max_depth = 3\nname = 'x'",
        max_depth=4, name='"; import os; "',
    )
    run = house.ended(run)
    print(house.log(run))
    assert (run.state, run.reason) == (State.SUCCEEDED, ""), house.log(run)
    assert "depth 4 '\"; import os; \"'" in house.log(run)
