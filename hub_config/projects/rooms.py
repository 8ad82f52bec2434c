"""Open documents of a project's server: what their shared document says now, and saving it.

A *room* is what jupyter-collaboration makes for a document while somebody has it open (and for a
minute after). We only ever join a room that is there: joining another would make it, and a room
left behind holds a copy of the file in memory. Whether there is one is asked without side effect:
`PUT /api/collaboration/fork/<room>` looks for the room before it reads its body, so a body that is
no JSON gets 404 without a room and 400 with one.

All calls are bounded by `SECONDS` together; a server that does not answer in time raises
`Unavailable`, because "the editor agrees" must not be a guess.
"""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from jupyter_ydoc import ydocs
from pycrdt import Decoder, Doc, Encoder, create_sync_message, handle_sync_message
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from hub_config.errors import Unavailable
from hub_config.identity import project_account
from hub_config.settings import Settings

SECONDS = 2.0
SAVE_SECONDS = 5.0
SYNC, RAW = 0, 2  # kinds of message in a room
STEP_2 = 1


class OpenDocuments:
    """The open documents of one project's running server."""

    def __init__(self, settings: Settings, token: str, project: str) -> None:
        self._account = project_account(project)
        self._address = urlsplit(settings.local_url)
        self._token = token
        host = urlsplit(settings.hub.subdomain_host).netloc
        self._host = f"{self._account}.{host}" if host else self._address.netloc
        self._base = f"/user/{self._account}"

    def content(self, path: str) -> Any:
        """What the open document says: a notebook as a dict, a text as str; None if not open."""
        with self._answering(path), self._room(path, SECONDS) as room:
            if room is None:
                return None
            kind, socket_ = room
            return _read(socket_, kind)

    def save(self, path: str) -> bool:
        """Write the open document to disk now; False if nobody has it open."""
        with self._answering(path), self._room(path, SAVE_SECONDS) as room:
            if room is None:
                return False
            _save(room[1])
            return True

    # The way there --------------------------------------------------------------------------------

    @contextmanager
    def _answering(self, path: str) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, OSError, WebSocketException, ValueError) as error:
            raise Unavailable(
                f"The project's server does not say what the open {path} holds. "
                "Look at the server's page, or stop the server, then try again."
            ) from error

    @contextmanager
    def _room(self, path: str, seconds: float) -> Iterator[tuple[str, ClientConnection] | None]:
        deadline = time.monotonic() + seconds
        form, kind = ("json", "notebook") if path.endswith(".ipynb") else ("text", "file")
        headers = {"Authorization": f"token {self._token}", "Host": self._host}
        address = f"{self._address.scheme}://{self._address.netloc}{self._base}"
        with httpx.Client(base_url=address, headers=headers, timeout=seconds) as client:
            said = client.put(
                f"/api/collaboration/session/{quote(path)}", json={"format": form, "type": kind}
            )
            if said.status_code == 404:  # no such file: nobody can have it open
                yield None
                return
            said.raise_for_status()
            session = said.json()
            room = f"{form}:{kind}:{session['fileId']}"
            probe = client.put(f"/api/collaboration/fork/{room}", content=b"{")
            if probe.status_code == 404:
                yield None
                return
            if probe.status_code != 400:
                probe.raise_for_status()
        left = max(0.1, deadline - time.monotonic())
        with connect(
            f"ws://{self._host}{self._base}/api/collaboration/room/{room}"
            f"?sessionId={session['sessionId']}",
            sock=socket.create_connection((self._address.hostname, self._address.port), left),
            additional_headers={"Authorization": f"token {self._token}"},
            open_timeout=left,
            close_timeout=0.2,
            max_size=None,
        ) as opened:
            yield kind, opened


def _messages(opened: ClientConnection, seconds: float) -> Iterator[bytes]:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        message = opened.recv(timeout=left)
        if isinstance(message, bytes) and message:
            yield message
    raise TimeoutError


def _read(opened: ClientConnection, kind: str) -> Any:
    shared: Doc = Doc()
    document = ydocs[kind](shared)
    opened.send(create_sync_message(shared))
    for message in _messages(opened, SECONDS):
        if message[0] == SYNC:
            handle_sync_message(message[1:], shared)  # an answer of ours would change nothing
            if message[1] == STEP_2:
                return document.get()
    return None


def _save(opened: ClientConnection) -> None:
    number = secrets.randbelow(2**31)
    request = Encoder()
    request.write_var_uint(RAW)
    request.write_var_string("save")
    request.write_var_uint(number)
    for _ in range(20):
        opened.send(request.to_bytes())
        status = _save_reply(opened, number)
        if status == "success":
            return
        if status == "failed":
            raise ValueError("the server could not save")
        time.sleep(0.05)  # "skipped": the document is being saved or loaded just now
    raise TimeoutError


def _save_reply(opened: ClientConnection, number: int) -> str:
    for message in _messages(opened, SAVE_SECONDS):
        decoder = Decoder(message)
        if decoder.read_var_uint() != RAW:
            continue
        try:
            said = json.loads(decoder.read_var_string() or "")
        except ValueError:
            continue
        if said.get("responseTo") == number:
            return str(said.get("status"))
    return "failed"
