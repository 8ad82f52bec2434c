"""What a person or program does with runs: submit, find, read, cancel.

Used by the API's routes and the portal's pages alike. Reads the database itself; what changes a
run is asked of the process `jobs`, its only writer. Whoever cannot see a run is told that there is
none.
"""

from __future__ import annotations

from typing import Any

import httpx
from sqlalchemy import Engine

from hub_config.errors import (
    Conflict,
    CuadernoError,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
)
from hub_config.identity import Identity, Principal, Role, Signer, project_account
from hub_config.jobs.measurements import Measurements
from hub_config.jobs.model import Run, State
from hub_config.jobs.parameters import declared, validate
from hub_config.jobs.store import RunStore
from hub_config.keys import secret
from hub_config.settings import Settings, load_addresses
from hub_config.storage.repository import project_repository

ERRORS: dict[int, type[CuadernoError]] = {
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
}


class Runs:
    """Runs as principals meet them. Thread-safe; every method may wait, so call it in a thread."""

    def __init__(self, settings: Settings, engine: Engine, identity: Identity) -> None:
        self._settings, self._identity = settings, identity
        self._store = RunStore(engine)
        self._signer = Signer(secret(settings, "platform-key"))
        self._measurements = Measurements(settings, self._signer, "web")

    def submit(
        self,
        principal: Principal,
        *,
        project: str,
        notebook: str,
        parameters: dict[str, Any],
        commit: str | None = None,
        key: str | None = None,
        origin: str = "api",
    ) -> Run:
        """Queue a run of `notebook` at `commit` (at HEAD if none is given).

        With the same `key` as before it is the same run, also when HEAD has moved meanwhile.
        """
        self._identity.require(principal, project, Role.EDITOR)
        who = submitter(principal)
        repository = project_repository(self._settings.projects_dir, project)
        path = repository.relative(notebook)
        if not path.endswith(".ipynb"):
            raise Invalid(f"{path} is not a notebook: its name must end in .ipynb.")
        known = self._store.by_key(project, who, key) if key else None
        if commit is not None:
            sha = repository.resolve(commit)
        elif known is not None:
            sha = known.commit
        elif (head := repository.head()) is not None:
            sha = head
        else:
            raise NotFound(f"The project {project} has no commit yet. Commit {path} first.")
        values = validate(declared(repository.read(path, sha)), parameters)
        body = {
            "project": project,
            "notebook": path,
            "commit": sha,
            "parameters": values,
            "submitted_by": who,
            "origin": origin,
            "idempotency_key": key,
        }
        return self._store.get(self._ask("/runs", body, "The run was not submitted.")["id"])

    def find(self, principal: Principal, run: str, needed: Role = Role.VIEWER) -> Run:
        """The run, for who has the role `needed` in its project.

        Raises `NotFound`, the same for a run that is not there and one that may not be seen.
        """
        hidden = NotFound(f"There is no run {run!r} that you can see.")
        try:
            found = self._store.get(run)
        except NotFound as error:
            raise hidden from error
        if self._identity.role(principal, found.project) is None:
            raise hidden
        self._identity.require(principal, found.project, needed)
        return found

    def page(
        self,
        principal: Principal,
        *,
        project: str | None = None,
        state: State | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Run], str | None, int]:
        """Runs that the principal may see, newest first: items, the next cursor, how many."""
        if project is not None:
            self._identity.require(principal, project, Role.VIEWER)
            visible = [project]
        else:
            visible = list(self._identity.projects(principal))
        return self._store.page(visible, state=state, cursor=cursor, limit=limit)

    def log(self, principal: Principal, run: str, after: int = 0) -> dict[str, Any]:
        """The log after the piece `after`: its text, the next piece's `after`, whether it ended."""
        found = self.find(principal, run)  # read before the log: an ended run's log is complete
        pieces = self._store.log_after(run, after)
        last = pieces[-1][0] if pieces else after
        return {
            "text": "".join(text for _, _, text in pieces),
            "next": last,
            "ended": found.state.ended and not (pieces and self._store.log_after(run, last)),
        }

    def cancel(self, principal: Principal, run: str) -> Run:
        found = self.find(principal, run, Role.EDITOR)
        self._ask(
            f"/runs/{found.id}/cancel",
            {"by": submitter(principal)},
            "The run was not cancelled.",
        )
        return self._store.get(found.id)

    def metrics(self, principal: Principal, run: str) -> list[dict[str, Any]]:
        """What the run's notebook logged with MLflow: one item per MLflow run."""
        return self._measurements.of_run(self.find(principal, run))

    def _ask(self, path: str, body: dict[str, Any], failed: str) -> dict[str, Any]:
        url = load_addresses(self._settings).url("jobs") + path
        token = self._signer.service_token("web")
        try:
            answer = httpx.post(
                url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=20
            )
            said = answer.json()
        except httpx.TimeoutException as error:
            raise Unavailable(
                "The jobs service did not answer in time. Look at the list of runs before you "
                "try again, or send the same Idempotency-Key."
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                f"{failed} The jobs service is not answering: try again in a moment, and see "
                "`cuaderno status` if it stays away."
            ) from error
        if answer.is_success:
            return said
        detail = said.get("detail")
        kind = ERRORS.get(answer.status_code, Unavailable)
        raise kind(detail if isinstance(detail, str) else failed)


def submitter(principal: Principal) -> str:
    """How a principal is named as the one who submitted or cancelled a run."""
    match principal.kind:
        case "project":
            return project_account(principal.name)
        case "run":
            return f"run:{principal.name}"
        case _:
            return principal.name
