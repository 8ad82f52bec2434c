"""The platform over HTTP, as whoever the kernel acts for.

The address and the token are `CUADERNO_URL` and `CUADERNO_TOKEN`, which every kernel of the
platform has. A *project* is named by its name; a person's own experiments by `~<name>`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx

API = "/services/cuaderno/api/"
PAGE = 100  # items asked for at once
TIMEOUT_SECONDS = 20.0


class PlatformError(Exception):
    """The platform refused, or did not answer; the message says what to do.

    `status` is the HTTP status, None when there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Platform:
    """A connection to one platform; close it, or use it in a `with`."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.url = (url or os.environ.get("CUADERNO_URL", "")).rstrip("/")
        token = token or os.environ.get("CUADERNO_TOKEN", "")
        if not self.url or not token:
            raise PlatformError(
                "This kernel does not know its platform: CUADERNO_URL or CUADERNO_TOKEN is not "
                "set. Kernels that the platform starts have both; elsewhere set them, with a token "
                "from `cuaderno token`."
            )
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,  # a proxy of the network has no business between kernel and hub
        )

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at `path` (from the root of the platform); parameters of None are left out."""
        return self._ask("GET", path, params=_given(parameters))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that answers `body` at `path`; fields of None are left out."""
        return self._ask("POST", path, json=_given(body))

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise PlatformError(
                f"{self.url} does not answer ({type(error).__name__}). If the platform was just "
                "started, try again in a moment."
            ) from error
        if answer.is_success:
            try:
                return answer.json()
            except ValueError as error:
                raise PlatformError(
                    f"{path} answered with no JSON: is there a Cuaderno at {self.url}?",
                    answer.status_code,
                ) from error
        raise PlatformError(_reason(answer, path), answer.status_code)


def runs(
    project: str | None = None, *, limit: int = 100, platform: Platform | None = None
) -> list[dict[str, Any]]:
    """The newest `limit` runs of `project`, newest first, as the API shows them.

    `project` is by default the kernel's own (`CUADERNO_PROJECT`); without one, the runs of all
    projects that you may see. Times are ISO 8601 in UTC, `duration` (s) is None before the
    end. Raises `PlatformError`.
    """
    if platform is None:
        with Platform() as own:
            return runs(project, limit=limit, platform=own)
    found: list[dict[str, Any]] = []
    cursor = None
    while len(found) < limit:
        page = platform.get(
            API + "runs",
            project=project or os.environ.get("CUADERNO_PROJECT"),
            limit=min(PAGE, limit - len(found)),
            cursor=cursor,
        )
        found += page["items"]
        cursor = page["next"]
        if not cursor or not page["items"]:
            break
    return found[:limit]


def run_url(run: str | Mapping[str, Any]) -> str:
    """The address of a run's page, for a browser; `run` is a run of `runs()` or its id."""
    return f"{browser_url()}/services/cuaderno/runs/{run if isinstance(run, str) else run['id']}"


def browser_url() -> str:
    """The address that people use for the portal, which need not be the one kernels use."""
    return os.environ.get("CUADERNO_PUBLIC_URL", os.environ.get("CUADERNO_URL", "")).rstrip("/")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _reason(answer: httpx.Response, path: str) -> str:
    """What an answer that is no success says; problem details first, then MLflow's own form."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    said = body.get("detail") or body.get("message") or body.get("title")
    if said:
        return str(said)
    if answer.status_code in (502, 503, 504):
        return f"{path} is not running at the moment ({answer.status_code}). Try again shortly."
    return f"{path} answered {answer.status_code} {answer.reason_phrase}."
