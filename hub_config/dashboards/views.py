"""Views: who looks at which dashboard, with which kernel.

A *view* is one person's one look at one dashboard: one tab, one kernel, one rendering. It belongs
to the principal who opened it; whoever else asks for it or for its kernel, by whatever route,
learns that there is no such thing. A view ends when its tab says so, when its page has been
without a connection for a minute, when its owner is no longer a member, or after half a day.

    starting → running → ready → (ended)
                      ↘ failed → (ended)

Kernels cost some 140 MB each, so their number is bounded, per person and in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hub_config.dashboards.catalogue import Dashboard
from hub_config.errors import NotFound, TooManyRequests, Unavailable
from hub_config.identity import Principal

PER_PERSON = 6
IN_ALL = 24
# A tab that sleeps or reconnects is forgiven for this long; then its kernel is another's memory.
UNATTENDED_SECONDS = 60.0
# The page that waits asks every few seconds; silence means that its tab was closed.
UNWATCHED_SECONDS = 20.0
# As long as the token in its kernel lives.
LONGEST_SECONDS = 12 * 3600.0


class State(StrEnum):
    STARTING = "starting"  # a kernel is being started
    RUNNING = "running"  # the cells run
    READY = "ready"  # the page is there, the kernel answers its widgets
    FAILED = "failed"  # there is a page that says why, and no kernel


@dataclass(eq=False)
class View:
    dashboard: Dashboard
    owner: Principal
    address: str  # the path and query it was opened with
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    kernel_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = State.STARTING
    doing: str = "Starting a kernel"
    cell: int = 0
    cells: int = 0
    status: int = 200
    page: str | None = None
    opened: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    version: int = 0
    sockets: set[Any] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def belongs_to(self, principal: Principal) -> bool:
        return (principal.kind, principal.name) == (self.owner.kind, self.owner.name)

    def say(self, doing: str, cell: int = 0, cells: int = 0) -> None:
        """Tell whoever waits what is being done."""
        self.doing, self.cell, self.cells = doing, cell, cells
        if cells:
            self.state = State.RUNNING
        self._notify()

    def finish(self, page: str) -> None:
        self.state, self.page, self.status = State.READY, page, 200
        self._notify()

    def fail(self, page: str, status: int) -> None:
        self.state, self.page, self.status = State.FAILED, page, status
        self._notify()

    def _notify(self) -> None:
        self.version += 1
        self.seen = time.monotonic() if self.page else self.seen
        self._changed.set()
        self._changed = asyncio.Event()

    async def progress(self, after: int, patience: float) -> dict[str, Any]:
        """What is being done, once it is newer than version `after`, or when patience ends."""
        self.seen = time.monotonic()
        if self.version <= after:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), patience)
        self.seen = time.monotonic()
        return {
            "state": self.state,
            "version": self.version,
            "doing": self.doing,
            "cell": self.cell,
            "cells": self.cells,
            "seconds": round(time.monotonic() - self.opened, 1),
        }

    def take_page(self) -> str | None:
        """The page, once: it may weigh megabytes, and a second tab needs a kernel of its own."""
        page, self.page, self.seen = self.page, None, time.monotonic()
        return page

    def detach(self, socket: Any) -> None:
        """A websocket of the page closed: from now on the view may be unattended."""
        self.sockets.discard(socket)
        self.seen = time.monotonic()

    def over(self, now: float) -> str | None:
        """Why the view should end now, or None."""
        if now - self.opened > LONGEST_SECONDS:
            return "open for half a day"
        if self.sockets:
            return None
        waiting = self.state in (State.STARTING, State.RUNNING)
        if now - self.seen > (UNWATCHED_SECONDS if waiting else UNATTENDED_SECONDS):
            return "nobody is looking"
        return None


class Views:
    """All views of this process, by id and by kernel."""

    def __init__(
        self,
        per_person: int = PER_PERSON,
        in_all: int = IN_ALL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._views: dict[str, View] = {}
        self._per_person = per_person
        self._in_all = in_all
        self._clock = clock

    def __iter__(self) -> Any:
        return iter(list(self._views.values()))

    def __len__(self) -> int:
        return len(self._views)

    def open(self, dashboard: Dashboard, owner: Principal, address: str) -> View:
        """A new view. Raises `TooManyRequests` or `Unavailable` when there are too many."""
        live = [v for v in self._views.values() if v.state is not State.FAILED]
        mine = [v for v in live if v.belongs_to(owner)]
        if len(mine) >= self._per_person:
            names = ", ".join(sorted({v.dashboard.title for v in mine}))
            raise TooManyRequests(
                f"You have {len(mine)} dashboards open, as many as one person may have at once: "
                f"{names}. Close one of their tabs, then reload this page."
            )
        if len(live) >= self._in_all:
            raise Unavailable(
                f"{len(live)} dashboards are open on this platform, as many as it has memory for. "
                "Reload this page in a minute; dashboards whose tabs are closed end by themselves."
            )
        view = View(dashboard, owner, address)
        self._views[view.id] = view
        return view

    def get(self, id: str, principal: Principal) -> View:
        """The view `id` of `principal`. Raises `NotFound`, for other people's views too."""
        view = self._views.get(id)
        if view is None or not view.belongs_to(principal):
            raise NotFound("This view of the dashboard has ended. Open the dashboard again.")
        return view

    def of_kernel(self, kernel_id: str, principal: Principal) -> View:
        """The view of `principal` that a kernel serves. Raises `NotFound`, as `get`."""
        for view in self._views.values():
            if view.kernel_id == kernel_id and view.belongs_to(principal):
                return view
        raise NotFound(f"There is no kernel {kernel_id} of yours.")

    def over(self) -> list[tuple[View, str]]:
        """The views that should end now, each with the reason."""
        now = self._clock()
        return [(v, reason) for v in self._views.values() if (reason := v.over(now))]

    def remove(self, view: View) -> bool:
        """Forget a view; whether it was still known."""
        return self._views.pop(view.id, None) is not None
