"""What a runner tells `jobs`: that it lives, how far it is, what the notebook printed.

A thread of its own, so that a long cell delays nothing. While `jobs` cannot be reached the runner
goes on and what it has to say is kept; when `jobs` refuses (another attempt holds the run, or it
has ended) the runner must stop, and nothing more is said. Log text is delivered at least once: what
was written by a `jobs` that died before it answered is sent again.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub_config.jobs.model import State

FLUSH_SECONDS = 0.4
PIECE = 200_000  # characters of log in one request
BUFFERED = 6_000_000  # characters kept while `jobs` is away; its log ends at 5 MB anyway
REFUSED = (401, 403, 404, 409, 410)


class Refused(Exception):
    """`jobs` no longer accepts this attempt."""


class Reporter:
    """The line of one attempt to `jobs`. Thread-safe."""

    def __init__(
        self,
        port: Callable[[], int],
        attempt: int,
        token: str,
        *,
        heartbeat_seconds: float,
        on_cancel: Callable[[], None],
        on_refused: Callable[[], None],
        log_file: Path,
    ) -> None:
        self._port = port
        self._path = f"/attempts/{attempt}"
        self._token = token
        self._every = heartbeat_seconds
        self._on_cancel, self._on_refused = on_cancel, on_refused
        self._file = log_file.open("a", encoding="utf-8", errors="replace")
        self._lock = threading.Lock()
        self._pending = ""
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._loop, name="reporter", daemon=True)
        self.cells_done = self.cells_total = 0
        self.cancelled = False

    def start(self, facts: dict[str, Any]) -> None:
        """Register the runner; waits until `jobs` has answered. Raises `Refused`."""
        self._insist("start", facts, seconds=600)
        self._thread.start()

    def say(self, text: str) -> None:
        """Write to the log, as it is; a file keeps all of it."""
        with self._lock:
            if not self._file.closed:
                self._file.write(text)
                self._file.flush()
            if len(self._pending) < BUFFERED:
                self._pending += text

    def line(self, text: str) -> None:
        """Write a line of the platform's own to the log, with the time."""
        self.say(f"[{time.strftime('%H:%M:%S', time.gmtime())}] {text}\n")

    def progress(self, done: int, total: int) -> None:
        if (done, total) != (self.cells_done, self.cells_total):
            self.cells_done, self.cells_total = done, total
            self._wake.set()

    def finish(self, state: State, reason: str) -> None:
        """Send what is left of the log, then the end. Insists for an hour. Raises `Refused`."""
        self._end_thread()
        deadline = time.monotonic() + 60
        while self._pending and time.monotonic() < deadline:
            try:
                self._send_log()
            except OSError:
                time.sleep(0.5)
        self._insist("finish", {"state": state, "reason": reason}, seconds=3600)

    def close(self) -> None:
        self._end_thread()
        self._file.close()

    # The thread -----------------------------------------------------------------------------------

    def _loop(self) -> None:
        beat = 0.0
        while not self._stop:
            self._wake.wait(FLUSH_SECONDS)
            hurry = self._wake.is_set()
            self._wake.clear()
            try:
                if self._pending:
                    self._send_log()
                if hurry or time.monotonic() - beat >= self._every:
                    cells = {"cells_done": self.cells_done, "cells_total": self.cells_total}
                    self._heed(self._post("heartbeat", cells))
                    beat = time.monotonic()
            except Refused:
                self._on_refused()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(min(1.0, self._every))  # `jobs` is away: go on, say it later

    def _end_thread(self) -> None:
        self._stop = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=15)

    def _send_log(self) -> None:
        with self._lock:
            piece = self._pending[:PIECE]
        self._heed(self._post("log", {"text": piece}))
        with self._lock:
            self._pending = self._pending[len(piece) :]

    def _heed(self, answer: dict[str, Any]) -> None:
        if answer.get("target") == State.CANCELLED and not self.cancelled:
            self.cancelled = True
            self._on_cancel()

    def _insist(self, what: str, body: dict[str, Any], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._heed(self._post(what, body))
                return
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def _post(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises `Refused`; `OSError` or `HTTPException` when `jobs` cannot answer now."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=10)
        try:
            headers = {
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            }
            connection.request("POST", f"{self._path}/{what}", json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status in REFUSED:
            raise Refused(data.decode(errors="replace")[:500])
        if answer.status != 200:
            raise OSError(f"jobs answered {answer.status}")
        return json.loads(data)
