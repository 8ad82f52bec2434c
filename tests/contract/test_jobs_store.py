"""The store of runs, on SQLite and PostgreSQL: the promises that its docstring makes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select, update

from hub_config.errors import Conflict, Invalid, NotFound
from hub_config.jobs import store as store_module
from hub_config.jobs.model import State
from hub_config.jobs.store import LOG_LIMIT, MAX_ATTEMPTS, RunStore, Stale
from hub_config.storage.database import write
from hub_config.storage.schema import attempts, projects

SHA = "a" * 40


@pytest.fixture
def store(engine):
    with write(engine) as connection:
        for name in ("demo", "other"):
            row = {"name": name, "title": name, "created_at": 1.0, "created_by": "ana"}
            connection.execute(insert(projects).values(row))
    return RunStore(engine)


def make(store, **changes):
    given = {
        "project": "demo",
        "notebook": "a.ipynb",
        "commit": SHA,
        "parameters": {"depth": 4, "names": ["ä", None, True, 1.5]},
        "submitted_by": "ana",
        "origin": "api",
    }
    return store.create(**{**given, **changes})


def begin(store):
    attempt = store.claim()
    store.start(attempt.id, host="h", pid=17, pid_started=1.0)
    return attempt


def test_a_new_run_waits_with_its_input(store):
    run = make(store)
    assert store.get(run.id) == run
    assert (run.state, run.target, run.attempt) == (State.QUEUED, State.SUCCEEDED, None)
    assert run.parameters == {"depth": 4, "names": ["ä", None, True, 1.5]}
    assert store.counts() == (1, 0)
    assert run.to_json()["created_at"].endswith("Z")
    with pytest.raises(NotFound):
        make(store, project="none")
    with pytest.raises(NotFound):
        store.get("none")


def test_each_run_is_claimed_exactly_once(store):
    made = [make(store).id for _ in range(40)]
    claimed, barrier = [], threading.Barrier(4)

    def claim_all():
        barrier.wait()
        while (attempt := store.claim()) is not None:
            claimed.append((attempt.run.id, attempt.id))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: claim_all(), range(4)))
    assert sorted(run for run, _ in claimed) == sorted(made)
    assert len({attempt for _, attempt in claimed}) == 40
    assert store.counts() == (0, 40)


def test_the_run_that_waits_longest_goes_first(store):
    first, second = make(store), make(store)
    assert store.claim().run.id == first.id
    assert store.claim().run.id == second.id
    assert store.claim() is None


def test_the_same_key_is_the_same_run(store):
    first = make(store, key="k")
    assert make(store, key="k").id == first.id
    assert make(store, key="other").id != first.id
    assert make(store, key="k", submitted_by="ben").id != first.id
    assert make(store, key="k", project="other").id != first.id
    with pytest.raises(Conflict, match="idempotency key 'k'"):
        make(store, key="k", parameters={"depth": 5})


def test_the_same_key_at_the_same_time_is_one_run(store):
    barrier = threading.Barrier(4)

    def submit(_):
        barrier.wait()
        return make(store, key="k").id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(submit, range(4)))) == 1
    assert store.counts() == (1, 0)


def test_a_late_writer_is_refused(store):
    run = make(store)
    old = store.claim()
    store.log(old.id, "one\n")
    store.put_back(old.id, "the worker was lost.")
    new = begin(store)
    assert new.id > old.id and new.run.id == run.id
    for late in (
        lambda: store.start(old.id, host="h", pid=17, pid_started=1.0),
        lambda: store.heartbeat(old.id, cells_done=1, cells_total=2),
        lambda: store.log(old.id, "late\n"),
        lambda: store.finish(old.id, State.SUCCEEDED, ""),
        lambda: store.put_back(old.id, "again"),
    ):
        with pytest.raises(Stale):
            late()
    store.heartbeat(new.id, cells_done=1, cells_total=2)
    ended = store.finish(new.id, State.FAILED, "why")
    assert (ended.state, ended.reason, ended.cells_done) == (State.FAILED, "why", 1)
    assert ended.duration is not None and ended.duration >= 0
    with pytest.raises(Stale):
        store.finish(new.id, State.SUCCEEDED, "")
    with pytest.raises(Stale):
        store.log(new.id, "late\n")
    assert "".join(t for _, _, t in store.log_after(run.id)) == "one\n"


def test_a_second_runner_of_one_attempt_is_refused(store):
    make(store)
    attempt = begin(store)
    store.start(attempt.id, host="h", pid=17, pid_started=1.0)  # said twice by the same one
    with pytest.raises(Stale):
        store.start(attempt.id, host="h", pid=18, pid_started=1.0)


def test_a_run_cannot_finish_unfinished(store):
    make(store)
    with pytest.raises(Invalid):
        store.finish(begin(store).id, State.RUNNING, "")


def test_cancel_at_once_or_by_target(store):
    queued = make(store)
    assert store.cancel(queued.id, "ben").state == State.CANCELLED
    assert store.get(queued.id).reason == "Cancelled by ben before it began."
    assert store.claim() is None
    running = make(store)
    attempt = begin(store)
    assert store.cancel(running.id, "ben").state == State.RUNNING
    assert store.heartbeat(attempt.id, cells_done=0, cells_total=3) == State.CANCELLED
    assert store.cancel(running.id, "eve").reason == "Cancelled by ben"
    ended = store.finish(attempt.id, State.CANCELLED, "in cell 1 of 3.")
    assert ended.reason == "Cancelled by ben in cell 1 of 3."
    assert store.cancel(running.id, "eve") == ended
    done = make(store)
    store.finish(begin(store).id, State.SUCCEEDED, "")
    with pytest.raises(Conflict, match="succeeded already"):
        store.cancel(done.id, "ben")
    with pytest.raises(NotFound):
        store.cancel("none", "ben")


def test_what_was_never_started_waits_again_but_not_for_ever(store):
    run = make(store)
    for _ in range(MAX_ATTEMPTS - 1):
        assert store.put_back(store.claim().id, "its worker was lost.").state == State.QUEUED
    assert store.get(run.id).reason == "Waits again: its worker was lost."
    ended = store.put_back(store.claim().id, "its worker was lost.")
    assert ended.state == State.FAILED and "5 tries" in ended.reason
    cancelled = make(store)
    attempt = store.claim()
    store.cancel(cancelled.id, "ben")
    assert store.put_back(attempt.id, "lost").state == State.CANCELLED


def test_a_run_that_began_meanwhile_is_not_queued_again(store):
    run = make(store)
    attempt = begin(store)
    with pytest.raises(Stale, match="started meanwhile"):
        store.put_back(attempt.id, "no worker started its runner in time.")
    assert store.get(run.id).attempt == attempt.id and store.claim() is None
    assert store.finish(attempt.id, State.SUCCEEDED, "").state == State.SUCCEEDED


def test_who_holds_a_run_is_listed_with_its_heartbeat(store, engine):
    make(store), make(store)
    started, unstarted = begin(store), store.claim()
    holding = {a.id: a for a in store.running()}
    assert set(holding) == {started.id, unstarted.id}
    assert (holding[started.id].pid, holding[started.id].host) == (17, "h")
    assert holding[unstarted.id].pid is None and holding[unstarted.id].heartbeat_at is None
    with write(engine) as connection:
        connection.execute(update(attempts).values(heartbeat_at=5.0))
    store.heartbeat(started.id, cells_done=0, cells_total=0)
    with engine.connect() as connection:
        beat = select(attempts.c.heartbeat_at).where(attempts.c.id == started.id)
        assert connection.scalar(beat) == pytest.approx(time.time(), abs=5)
    store.finish(started.id, State.SUCCEEDED, "")
    assert [a.id for a in store.running()] == [unstarted.id]


def test_pages_hold_still_while_runs_are_added(store):
    # Sorted: of the runs of one millisecond any may be the newer.
    made = sorted(make(store, project=("demo", "other")[n % 2]).id for n in range(7))
    first, cursor, total = store.page({"demo", "other"}, limit=3)
    assert total == 7 and [r.id for r in first] == made[:3:-1]
    make(store)
    second, cursor, _ = store.page({"demo", "other"}, limit=3, cursor=cursor)
    third, end, _ = store.page({"demo", "other"}, limit=3, cursor=cursor)
    assert [r.id for r in second + third] == made[3::-1] and end is None
    assert store.page({"other"})[2] == 3
    assert store.page(set()) == ([], None, 0)
    store.finish(begin(store).id, State.FAILED, "")
    assert [r.state for r in store.page({"demo"}, state=State.FAILED)[0]] == [State.FAILED]
    for wrong in ("x", "' or 1", "Z" * 22):
        with pytest.raises(Invalid):
            store.page({"demo"}, cursor=wrong)


def test_the_log_is_read_in_pieces_and_bounded(store, monkeypatch):
    run = make(store)
    attempt = begin(store)
    store.log(attempt.id, "one\n")
    store.log(attempt.id, "nul \0 and half a pair \ud83d\n")
    pieces = store.log_after(run.id)
    assert pieces[0][2] == "one\n"
    assert [t for _, _, t in store.log_after(run.id, pieces[0][0])] == [pieces[1][2]]
    assert store.log_after(run.id, pieces[-1][0]) == []
    for _ in range(6):
        store.log(attempt.id, "x" * 1_000_000)
    kept, after = "", 0
    while pieces := store.log_after(run.id, after):
        assert len(pieces) == 1 or sum(len(t) for _, _, t in pieces[:-1]) < store_module.LOG_PAGE
        kept, after = kept + "".join(t for _, _, t in pieces), pieces[-1][0]
    assert LOG_LIMIT <= len(kept) < LOG_LIMIT + 200
    assert "log.txt holds more of it" in kept
    fresh = RunStore(store._engine)  # as after a restart of jobs
    fresh.log(attempt.id, "more\n")
    assert "more" not in "".join(t for _, _, t in store.log_after(run.id, after))
