"""Makes the hub agree with the tables: every project's account, and with whom its server is shared.

The tables say what should be, the hub what is; this closes the gap at the start, after each change
and once a minute, and goes on trying while the hub is away. Nothing waits for it: a member's role
holds at once wherever we check it, entering the shared server follows a moment later.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Engine

from hub_config.errors import CuadernoError
from hub_config.identity import Role, project_account
from hub_config.projects import store
from hub_config.projects.hub import Hub, Refusals

log = logging.getLogger(__name__)
EVERY_SECONDS = 60.0
RETRY_SECONDS = 2.0


def reconcile(engine: Engine, hub: Hub) -> None:
    """One pass over all projects. Raises what the hub's client raises.

    What the hub refuses for one project or person keeps no other waiting, and raises at the end.
    """
    active = set(store.active_people(engine))
    admins = set(store.active_people(engine, admins=True))  # owners everywhere, see identity
    with Refusals() as refusals:
        for project in store.list_projects(engine):
            account = project_account(project.name)
            entering = {
                member.person
                for member in store.list_members(engine, project.name)
                if member.role.includes(Role.EDITOR) and member.person in active
            }
            with refusals.of_one():
                hub.ensure_account(account)
            with refusals.of_one():
                hub.add_project_account(account)
            with refusals.of_one():  # revokes, so it is tried whatever became of the others
                hub.share_server(account, entering | admins)


class Reconciler:
    """A thread that reconciles when poked and once a minute."""

    def __init__(self, engine: Engine, hub: Hub) -> None:
        self._engine = engine
        self._hub = hub
        self._poked = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self.problem: str | None = None

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        self._poked.set()

    def stop(self) -> None:
        self._ended = True
        self._poked.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._ended:
            self._poked.clear()
            try:
                reconcile(self._engine, self._hub)
                if self.problem:
                    log.info("The hub agrees with the projects again.", extra={"action": "agree"})
                self.problem = None
            except CuadernoError as error:
                if self.problem != error.detail:
                    log.warning("The hub does not agree with the projects yet: %s", error.detail)
                self.problem = error.detail
            except Exception:
                log.exception("Reconciling projects with the hub failed.")
                self.problem = "Reconciling failed; see the log of web."
            self._poked.wait(RETRY_SECONDS if self.problem else EVERY_SECONDS)
