"""Whose a view is, how many there may be, and when one ends."""

import asyncio

import pytest

from hub_config.dashboards.catalogue import Dashboard
from hub_config.dashboards.views import (
    LONGEST_SECONDS,
    UNATTENDED_SECONDS,
    UNWATCHED_SECONDS,
    State,
    Views,
)
from hub_config.errors import NotFound, TooManyRequests, Unavailable
from hub_config.identity import Principal

RUNS = Dashboard("demo", "runs", "Runs", "", "/x", "dashboards/runs.ipynb", "c", 0.0, "")
ANA, VIC = Principal("person", "ana"), Principal("person", "vic")


def test_a_view_and_its_kernel_exist_for_their_owner_only():
    views = Views()
    view = views.open(RUNS, ANA, "/x")
    assert views.get(view.id, ANA) is view
    assert views.of_kernel(view.kernel_id, Principal("person", "ana", admin=True)) is view
    for other in (VIC, Principal("project", "ana"), Principal("person", "root", admin=True)):
        with pytest.raises(NotFound):
            views.get(view.id, other)
        with pytest.raises(NotFound):
            views.of_kernel(view.kernel_id, other)


def test_the_number_of_kernels_is_bounded_per_person_and_in_all():
    views = Views(per_person=2, in_all=3)
    first = views.open(RUNS, ANA, "/x")
    views.open(RUNS, ANA, "/x")
    with pytest.raises(TooManyRequests, match=r"2 dashboards open.*Close one"):
        views.open(RUNS, ANA, "/x")
    views.open(RUNS, VIC, "/x")
    with pytest.raises(Unavailable, match="3 dashboards are open"):
        views.open(RUNS, VIC, "/x")
    first.fail("why", 500)  # a failure holds no kernel
    views.open(RUNS, ANA, "/x")
    assert views.remove(first) and not views.remove(first)


def test_when_a_view_is_over():
    views = Views()
    view = views.open(RUNS, ANA, "/x")
    start = view.seen
    assert view.over(start + UNWATCHED_SECONDS - 1) is None
    assert view.over(start + UNWATCHED_SECONDS + 1) == "nobody is looking"
    view.finish("page")
    ready = view.seen
    assert view.over(ready + UNATTENDED_SECONDS - 1) is None
    assert view.over(ready + UNATTENDED_SECONDS + 1) == "nobody is looking"
    socket = object()
    view.sockets.add(socket)
    assert view.over(ready + 10 * UNATTENDED_SECONDS) is None
    view.detach(socket)
    assert view.over(view.seen + UNATTENDED_SECONDS + 1) == "nobody is looking"
    view.sockets.add(socket)
    assert view.over(view.opened + LONGEST_SECONDS + 1) == "open for half a day"


async def test_whoever_waits_hears_of_news_at_once_and_of_silence_in_the_end():
    view = Views().open(RUNS, ANA, "/x")
    waiting = asyncio.create_task(view.progress(view.version, patience=30))
    await asyncio.sleep(0)
    view.say("Running cell 2 of 3", 2, 3)
    said = await asyncio.wait_for(waiting, 1)
    assert (said["doing"], said["cell"], said["state"]) == ("Running cell 2 of 3", 2, State.RUNNING)
    said = await view.progress(view.version, patience=0.01)
    assert said["version"] == view.version
    assert (await view.progress(-1, patience=30))["cells"] == 3


def test_a_page_is_given_out_once():
    view = Views().open(RUNS, ANA, "/x")
    view.finish("page")
    assert (view.take_page(), view.take_page()) == ("page", None)
