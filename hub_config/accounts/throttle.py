"""How often something may be tried: so many attempts per key, and in all, within some seconds.

An attempt is counted before its outcome is known, so that attempts in parallel cannot slip past;
what turns out well is given back. The counts live in the process: a restart forgets them. Who
knows a person's name can so keep that person from signing in for a while; the wait is short, which
is the other side of the same bargain.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from hub_config.errors import TooManyRequests


class Throttle:
    """Thread-safe. `per_key` and `in_all` attempts are free within `seconds`."""

    def __init__(
        self,
        what: str,
        *,
        per_key: int,
        in_all: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._per_key = per_key
        self._in_all = in_all
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._all: deque[float] = deque()
        self._keys: dict[str, deque[float]] = {}

    def take(self, key: str) -> float:
        """Count an attempt; what to `give_back`. Raises `TooManyRequests` when none is left."""
        with self._lock:
            now = self._clock()
            self._forget_before(now - self._seconds)
            mine = self._keys.setdefault(key, deque())
            for seen, limit in ((mine, self._per_key), (self._all, self._in_all)):
                if len(seen) >= limit:
                    wait = math.ceil(seen[-limit] + self._seconds - now)
                    raise TooManyRequests(
                        f"Too many {self._what}. Try again in {max(wait, 1)} seconds.",
                        retry_after=max(wait, 1),
                    )
            mine.append(now)
            self._all.append(now)
            return now

    def give_back(self, key: str, taken: float) -> None:
        """The attempt turned out well: forget it, and the failures of its key."""
        with self._lock:
            self._keys.pop(key, None)
            if taken in self._all:
                self._all.remove(taken)

    def _forget_before(self, oldest: float) -> None:
        while self._all and self._all[0] <= oldest:
            self._all.popleft()
        # A key holds only what the whole holds, so this stays small: no more keys than attempts.
        for key in [k for k, seen in self._keys.items() if not seen or seen[-1] <= oldest]:
            del self._keys[key]
        for seen in self._keys.values():
            while seen and seen[0] <= oldest:
                seen.popleft()
