"""The command line's way to a running platform: HTTP, with a token.

The address is `CUADERNO_URL`, else that of the platform on the local data folder. The token is
`CUADERNO_TOKEN`, else the operator's, which whoever can read the data folder holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from hub_config import errors
from hub_config.errors import CuadernoError, Misconfigured, Unavailable
from hub_config.keys import secret
from hub_config.settings import Settings, load_settings

FINISHED = ("succeeded", "failed", "cancelled")


def local_settings(data_dir: Path | None = None) -> Settings:
    """The settings of the platform on the data folder, as it was started; else as they are now."""
    now = load_settings(data_dir=data_dir)
    started = now.run_dir / "settings.toml"
    if started.is_file() and os.access(started, os.R_OK):
        return load_settings({}, config=started, data_dir=now.data_dir)
    return now


class Remote:
    """A running platform, spoken to over its REST API and the hub's."""

    def __init__(self) -> None:
        url, token = os.environ.get("CUADERNO_URL"), os.environ.get("CUADERNO_TOKEN")
        settings = None if url and token else local_settings()
        if settings:
            try:
                token = token or secret(settings, "service-operator")
            except OSError as error:
                raise Misconfigured(
                    f"No platform was started on {settings.data_dir}. Start one with `cuaderno up`,"
                    " or set CUADERNO_URL and CUADERNO_TOKEN to speak to one elsewhere."
                ) from error
        self.url = (url or (settings.local_url if settings else "")).rstrip("/")
        self.portal = self.url
        if settings and not url:
            self.portal = settings.service_origin("cuaderno") or settings.base_url
        self._client = httpx.Client(
            timeout=60, trust_env=bool(url), headers={"Authorization": f"Bearer {token}"}
        )

    def api(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer of one call of our API; a problem is raised as the error it names."""
        return self._call(method, f"{self.url}/services/cuaderno/api/{path}", **options)

    def hub(self, method: str, path: str, **options: Any) -> Any:
        return self._call(method, f"{self.url}/hub/api/{path}", **options)

    def pages(self, path: str, limit: int, **params: Any) -> tuple[list[Any], int]:
        """Up to `limit` items of a list, over as many pages as it takes, and how many there are."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            query = {k: v for k, v in {**params, "cursor": cursor}.items() if v is not None}
            page = self.api("GET", path, params={**query, "limit": min(limit - len(items), 100)})
            items += page["items"]
            cursor = page.get("next")
            if not cursor or len(items) >= limit:
                return items[:limit], page.get("total", len(items))

    def run_address(self, run: str) -> str:
        return f"{self.portal}/services/cuaderno/runs/{run}"

    def log(self, run: str, after: int = 0) -> Iterator[tuple[int, str]]:
        """The pieces of a run's log after piece number `after`, as (number, text)."""
        while True:
            page = self.api("GET", f"runs/{run}/log", params={"after": after})
            if page["next"] == after:
                return
            after = page["next"]
            yield after, page["text"]

    def _call(self, method: str, url: str, **options: Any) -> Any:
        try:
            answer = self._client.request(method, url, **options)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"No platform answers at {self.url} ({type(error).__name__}). "
                "Start it with `cuaderno up`, or look at `cuaderno status`."
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _error(answer)


def _error(answer: httpx.Response) -> CuadernoError:
    if answer.is_redirect or (answer.status_code == 503 and not answer.content):
        # The proxy has no route yet, or its target is away.
        return Unavailable(f"{answer.request.url.path} is not served; see `cuaderno status`.")
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    known = {cls.status: cls for cls in CuadernoError.__subclasses__()}
    cls = known.get(answer.status_code, errors.CuadernoError)
    detail = problem.get("detail") or problem.get("message")
    return cls(detail or f"{answer.request.url.path} answered {answer.status_code}.")
