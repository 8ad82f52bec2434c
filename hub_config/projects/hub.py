"""The hub as projects need it: accounts, shares and servers, over its REST API.

The token is that of the hub service `cuaderno`, whose scopes `configure.py` sets. One client for
all threads. Whatever the hub cannot do raises `Unavailable`, with what it said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

import httpx

from hub_config.errors import CuadernoError, Unavailable
from hub_config.identity import PROJECT_ACCOUNTS, project_account
from hub_config.keys import secret
from hub_config.settings import Settings, load_addresses

ASK_SECONDS = 1.0  # the hub answers a start or stop late, though it works on it from the start
ServerState = Literal["stopped", "starting", "running", "stopping", "unknown"]


@dataclass(frozen=True)
class Server:
    """A server of the hub. `progress` in percent and `message` are known while it starts."""

    state: ServerState
    url: str
    since: float | None = None
    progress: int | None = None
    message: str = ""


class Hub:
    """A client of the running hub."""

    def __init__(self, settings: Settings) -> None:
        self.token = secret(settings, "service-cuaderno")
        self._http = httpx.Client(
            base_url=load_addresses(settings).url("hub") + "/hub/api",
            headers={"Authorization": f"token {self.token}"},
            timeout=10,
        )

    # What the reconciler needs --------------------------------------------------------------------

    def ensure_account(self, name: str) -> None:
        if self._call("GET", f"/users/{quote(name)}", missing=True) is None:
            self._call("POST", f"/users/{quote(name)}", conflict=True)

    def add_project_account(self, name: str) -> None:
        """Put the account where the scopes of `web` reach it."""
        group = self._call("GET", f"/groups/{PROJECT_ACCOUNTS}")
        if name not in group["users"]:
            self._call("POST", f"/groups/{PROJECT_ACCOUNTS}/users", {"users": [name]})

    def share_server(self, account: str, people: set[str]) -> None:
        """Let `people` enter the account's default server, and nobody else; revoke first.

        Person by person: a token does not count what is shared with its owner's group. Who is
        refused keeps no other waiting; the first refusal is raised at the end.
        """
        present, path = self._shared_with(account), f"/shares/{quote(account)}/"
        with Refusals() as refusals:
            for person in sorted(present - people):
                with refusals.of_one():
                    self._call("PATCH", path, {"user": person})
            for person in sorted(people - present):
                with refusals.of_one():
                    self.ensure_account(person)  # the hub knows people only since they signed in
                    self._call("POST", path, {"user": person})

    def _shared_with(self, account: str) -> set[str]:
        found: set[str] = set()
        while True:
            path = f"/shares/{quote(account)}/?limit=200&offset={len(found)}"
            items = (self._call("GET", path) or {}).get("items", ())
            names = {share["user"]["name"] for share in items if share.get("user")}
            if names <= found:
                return found
            found |= names

    # Servers --------------------------------------------------------------------------------------

    def server(self, account: str) -> Server:
        """The default server of an account, as the hub knows it."""
        url = f"/user/{quote(account)}/"
        model = self._call("GET", f"/users/{quote(account)}", missing=True)
        known = (model or {}).get("servers")
        if known is None:
            return Server("unknown" if model else "stopped", url)
        server = known.get("")
        if not server:
            return Server("stopped", url)
        since = _seconds(server.get("started"))
        if server.get("pending") == "stop":
            return Server("stopping", url, since)
        if server.get("ready"):
            return Server("running", url, since)
        if server.get("pending") == "spawn":
            return self._starting(account, url, since)
        return Server("stopped", url)

    def start_server(self, project: str) -> Server:
        """Ask the hub to start the server; it may take longer than we wait for the answer."""
        account = project_account(project)
        # A project is there before the reconciler has told the hub of it.
        self.ensure_account(account)
        self.add_project_account(account)
        self._call("POST", f"/users/{account}/server", conflict=True, patience=ASK_SECONDS)
        return self.server(project_account(project))

    def stop_server(self, project: str) -> Server:
        path = f"/users/{project_account(project)}/server"
        self._call("DELETE", path, missing=True, conflict=True, patience=ASK_SECONDS)
        return self.server(project_account(project))

    def why_stopped(self, account: str) -> str:
        """The hub's words about the last start, if that failed; else an empty text."""
        event = self._progress(account)
        return str(event.get("message", "")) if event.get("failed") else ""

    def _starting(self, account: str, url: str, since: float | None) -> Server:
        event = self._progress(account)
        return Server("starting", url, since, event.get("progress"), event.get("message", ""))

    def _progress(self, account: str) -> dict[str, Any]:
        """The last of the events that the hub sends at once about a server's start."""
        last: dict[str, Any] = {}
        timeout = httpx.Timeout(3, read=0.4)
        try:
            path = f"/users/{quote(account)}/server/progress"
            with self._http.stream("GET", path, timeout=timeout) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        last = json.loads(line.removeprefix("data:"))
                        if last.get("ready") or last.get("failed"):
                            break
        except (httpx.HTTPError, ValueError):
            pass  # the stream stays open while the server starts: a silence is its end for us
        return last

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        missing: bool = False,
        conflict: bool = False,
        patience: float | None = None,
    ) -> Any:
        """The answer's JSON. `missing`: None for 404; `conflict`: None for 400 and 409.

        With `patience` (seconds) a hub that got the request and is still busy with it is no error.
        """
        timeout = httpx.Timeout(10, read=patience or 10)
        try:
            answer = self._http.request(method, path, json=body, timeout=timeout)
        except httpx.ReadTimeout as error:
            if patience:
                return None
            raise Unavailable("The hub is slow to answer; try again in a moment.") from error
        except httpx.HTTPError as error:
            raise Unavailable("The hub is not answering; try again in a moment.") from error
        if (missing and answer.status_code == 404) or (
            conflict and answer.status_code in (400, 409)
        ):
            return None
        if answer.is_error:
            raise HubRefused(
                f"The hub refused {method} {path.split('?')[0]} ({answer.status_code}): "
                f"{_message(answer)}"
            )
        return answer.json() if answer.content else None


class HubRefused(CuadernoError):
    status = 502
    title = "The hub did not do it"


class Refusals:
    """Goes on where the hub refuses one of many things, and raises the first refusal at the end.

    A hub that does not answer at all (`Unavailable`) ends the work at once.
    """

    def __init__(self) -> None:
        self._first: HubRefused | None = None

    @contextmanager
    def of_one(self) -> Iterator[None]:
        try:
            yield
        except HubRefused as error:
            self._first = self._first or error

    def __enter__(self) -> Refusals:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None and self._first:
            raise self._first


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("message", ""))[:300]
    except (ValueError, AttributeError):
        return answer.reason_phrase


def _seconds(stamp: str | None) -> float | None:
    if not stamp:
        return None
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
