"""What a runner tells `jobs`: that it lives, how far it is, what the notebook printed.

A thread of its own, so that a long cell delays nothing. While `jobs` cannot be reached the runner
goes on and what it has to say is kept; when `jobs` refuses (another attempt holds the run, or it
has ended) the runner must stop, and nothing more is said. The heartbeat goes first and by itself:
whatever becomes of the log, the run is seen to live. Log text is delivered at least once: what was
written by a `jobs` that died before it answered is sent again; what `jobs` cannot read is left out.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub_config.errors import CuadernoError
from hub_config.jobs.model import State

FLUSH_SECONDS = 0.4
PIECE = 200_000  # characters of log in one request
BUFFERED = 6_000_000  # characters kept while `jobs` is away; its log ends at 5 MB anyway
FILE_BYTES = 50_000_000  # of the notebook's own text in log.txt
FILE_END = "\n[The notebook printed more than 50 MB; the rest is not kept.]\n"
REASON = 5_000  # characters of a reason that are told; `jobs` takes no more than 10 000
REFUSED = (401, 403, 404, 409, 410)
LATER = (408, 425, 429)  # the other 4xx will not do better the next time
# `jobs` is away, or starts, or something that is not `jobs` has its port for a moment.
AWAY = (OSError, http.client.HTTPException, ValueError, CuadernoError)


log = logging.getLogger(__name__)


class Refused(Exception):
    """`jobs` no longer accepts this attempt."""


class Unacceptable(OSError):
    """`jobs` will not take these words, however often they are said."""


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
        self._file = log_file.open("ab", buffering=0)
        self._room = FILE_BYTES
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
        """Write what the notebook printed to the log, as it is; a file keeps 50 MB of it."""
        data = text.encode("utf-8", "replace")  # half of a surrogate pair is no text
        with self._lock:
            if self._room > 0:
                kept = data[: self._room]
                self._room -= len(data)
                self._write(kept if self._room > 0 else kept + FILE_END.encode())
            self._tell(data.decode())

    def line(self, text: str) -> None:
        """Write a line of the platform's own to the log, with the time; the file has them all."""
        data = f"[{time.strftime('%H:%M:%S', time.gmtime())}] {text}\n".encode("utf-8", "replace")
        with self._lock:
            self._write(data)
            self._tell(data.decode())

    def _write(self, data: bytes) -> None:
        if not self._file.closed:
            self._file.write(data)

    def _tell(self, text: str) -> None:
        if len(self._pending) < BUFFERED:
            self._pending += text

    def progress(self, done: int, total: int) -> None:
        if (done, total) != (self.cells_done, self.cells_total):
            self.cells_done, self.cells_total = done, total
            self._wake.set()

    def finish(self, state: State, reason: str) -> None:
        """Send what is left of the log, then the end. Insists for an hour. Raises `Refused`."""
        self._end_thread()
        deadline = time.monotonic() + 60
        while self._pending and time.monotonic() < deadline:
            if not self._done(self._send_log):
                self._done(self._beat)
                time.sleep(0.5)
        self._insist("finish", {"state": state, "reason": reason[:REASON]}, seconds=3600)

    def close(self) -> None:
        self._end_thread()
        self._file.close()

    # The thread -----------------------------------------------------------------------------------

    def _loop(self) -> None:
        due = 0.0
        try:
            while not self._stop:
                hurry = self._wake.wait(FLUSH_SECONDS)
                self._wake.clear()
                well = True
                if hurry or time.monotonic() >= due:
                    well = self._done(self._beat)
                    due = time.monotonic() + self._every if well else 0.0
                if self._pending:
                    well = self._done(self._send_log) and well
                if not well:
                    time.sleep(min(1.0, self._every))  # go on, say it later
        except Refused:
            self._on_refused()

    def _done(self, say: Callable[[], None]) -> bool:
        """Whether it could be said now. Raises `Refused`."""
        try:
            say()
        except AWAY:
            return False
        return True

    def _end_thread(self) -> None:
        self._stop = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)

    def _beat(self) -> None:
        cells = {"cells_done": self.cells_done, "cells_total": self.cells_total}
        self._heed(self._post("heartbeat", cells))

    def _send_log(self) -> None:
        with self._lock:
            piece = self._pending[:PIECE]
        try:
            self._heed(self._post("log", {"text": piece}))
        except Unacceptable:
            log.exception("A piece of the log is left out. action=log-unacceptable")
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
            except AWAY as error:
                if isinstance(error, Unacceptable) or time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def _post(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises `Refused`, `Unacceptable`, and what `AWAY` names when `jobs` cannot answer now."""
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
        if 400 <= answer.status < 500 and answer.status not in LATER:
            raise Unacceptable(f"jobs answered {answer.status}: {data[:500]!r}")
        if answer.status != 200:
            raise OSError(f"jobs answered {answer.status}")
        said = json.loads(data)
        if not isinstance(said, dict):
            raise ValueError("jobs did not answer with an object")
        return said
