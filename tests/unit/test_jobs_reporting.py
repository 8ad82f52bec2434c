"""What a runner tells `jobs`, and what it does when `jobs` answers oddly."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hub_config.jobs import reporting
from hub_config.jobs.model import State
from hub_config.jobs.reporting import Reporter


class Jobs(ThreadingHTTPServer):
    """Answers what `answers` has for the last part of the path, else that all is well."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.said: list[tuple[str, dict]] = []
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def heard(self, what: str) -> list[dict]:
        return [body for name, body in self.said if name == what]


class Answer(BaseHTTPRequestHandler):
    server: Jobs

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = self.path.rsplit("/", 1)[-1]
        self.server.said.append((what, body))
        status, data = self.server.answers.get(what, (200, b'{"target": "succeeded"}'))
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def jobs():
    server = Jobs()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def refused():
    return threading.Event()


@pytest.fixture
def reporter(jobs, tmp_path, refused):
    reporter = Reporter(
        lambda: jobs.server_port,
        7,
        "token",
        heartbeat_seconds=0.05,
        on_cancel=lambda: None,
        on_refused=refused.set,
        log_file=tmp_path / "log.txt",
    )
    reporter.start({"host": "h", "pid": 1, "pid_started": 1.0})
    yield reporter
    reporter.close()


def wait(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_log_that_fails_does_not_keep_the_heartbeat_waiting(jobs, reporter):
    jobs.answers["log"] = (500, b"")
    reporter.say("hello\n")
    wait(lambda: jobs.heard("log"))
    before = len(jobs.heard("heartbeat"))
    wait(lambda: len(jobs.heard("heartbeat")) > before + 1)
    del jobs.answers["log"]
    wait(lambda: len(jobs.heard("log")) > 1 and not reporter._pending)


def test_words_that_jobs_never_takes_are_left_out(jobs, reporter):
    jobs.answers["log"] = (422, b"{}")
    reporter.say("unreadable\n")
    wait(lambda: jobs.heard("log") and not reporter._pending)
    del jobs.answers["log"]
    reporter.say("next\n")
    reporter.finish(State.SUCCEEDED, "")
    assert jobs.heard("log")[-1] == {"text": "next\n"}


@pytest.mark.parametrize("nonsense", [b"<html>", b"[]", b"\xff"])
def test_an_answer_that_is_none_does_not_end_the_reports(jobs, reporter, nonsense):
    jobs.answers["heartbeat"] = (200, nonsense)
    before = len(jobs.heard("heartbeat"))
    wait(lambda: len(jobs.heard("heartbeat")) > before)
    del jobs.answers["heartbeat"]
    before = len(jobs.heard("heartbeat"))
    wait(lambda: len(jobs.heard("heartbeat")) > before + 1)
    reporter.finish(State.SUCCEEDED, "")


def test_a_refusal_ends_the_reports(jobs, reporter, refused):
    jobs.answers["heartbeat"] = (409, b"{}")
    assert refused.wait(10)
    wait(lambda: not reporter._thread.is_alive())


def test_half_a_pair_is_told_as_text(jobs, reporter):
    reporter.say("half \ud83d of a pair\n")
    reporter.finish(State.SUCCEEDED, "")
    assert "".join(b["text"] for b in jobs.heard("log")) == "half ? of a pair\n"


def test_a_reason_is_told_as_far_as_jobs_takes_it(jobs, reporter):
    reporter.finish(State.FAILED, "x" * 50_000)
    assert 0 < len(jobs.heard("finish")[0]["reason"]) <= 10_000


def test_the_file_ends_at_its_limit_and_says_so(jobs, reporter, tmp_path, monkeypatch):
    reporter._room = 1000
    for _ in range(30):
        reporter.say("x" * 99 + "\n")
    reporter.line("run succeeded")
    text = (tmp_path / "log.txt").read_text()
    assert text.count("x") == 990 and text.count(reporting.FILE_END) == 1
    assert text.endswith("] run succeeded\n")
