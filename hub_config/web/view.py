"""How pages are rendered: the Jinja environment, its filters, and the page for an error.

Templates escape everything. Texts come from the catalogue `texts.py` by key: `t("home.title")`.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from hub_config.errors import CuadernoError
from hub_config.settings import Settings
from hub_config.text import ago, duration, mebibytes
from hub_config.web.places import Places
from hub_config.web.texts import text

THEMES = ("auto", "light", "dark")
THEME_COOKIE = "cuaderno-theme"
HERE = Path(__file__).parent


class View:
    """Renders the portal's pages."""

    def __init__(self, settings: Settings, places: Places) -> None:
        self._prefix = places.prefix
        self._jinja = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.filters |= {
            "ago": time_ago,
            "clock": clock,
            "duration": duration,
            "mebibytes": mebibytes,
            "number": number,
            "value": value,
            "path": lambda path: quote(path),
        }
        self._jinja.globals |= {
            "t": text,
            "prefix": self._prefix,
            "places": places,
            "asset": self._asset,
            "signup_open": settings.hub.signup,
        }
        self._stamps = {
            path.name: str(int(path.stat().st_mtime)) for path in (HERE / "static").iterdir()
        }

    def page(
        self, request: Request, template: str, *, status: int = 200, **context: Any
    ) -> Response:
        principal = request.state.principal
        theme = request.cookies.get(THEME_COOKIE, "auto")
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        rendered = self._jinja.get_template(template).render(
            me=principal if principal and principal.kind == "person" else None,
            theme=theme if theme in THEMES else "auto",
            here=here,
            section=context.pop("section", ""),
            notice=context.pop("notice", None),
            refresh=context.pop("refresh", None),
            **context,
        )
        return HTMLResponse(rendered, status)

    def error(self, request: Request, error: CuadernoError) -> Response:
        return self.page(
            request,
            "error.html",
            status=error.status,
            error=error,
            request_id=request.state.request_id,
        )

    def _asset(self, name: str) -> str:
        return f"{self._prefix}static/{name}?v={self._stamps[name]}"


def time_ago(moment: float | None) -> Markup:
    """`<time>` with how long ago, the exact time in its title and `datetime`."""
    if moment is None:
        return Markup("–")
    at = datetime.fromtimestamp(moment, UTC)
    words = "just now" if 0 <= time.time() - moment < 5 else ago(moment)
    return Markup('<time datetime="{}" title="{}" data-ago>{}</time>').format(
        at.isoformat(timespec="seconds"), at.strftime("%Y-%m-%d %H:%M:%S UTC"), words
    )


def clock(moment: float | None) -> Markup:
    """`<time>` with date and time, to the minute."""
    if moment is None:
        return Markup("–")
    at = datetime.fromtimestamp(moment, UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(timespec="seconds"),
        at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        at.strftime("%Y-%m-%d %H:%M UTC"),
    )


def number(measure: Any) -> str:
    """A measure with the digits that say something: six significant ones at most."""
    if isinstance(measure, bool) or not isinstance(measure, int | float):
        return str(measure)
    return f"{measure:,}" if isinstance(measure, int) else f"{measure:.6g}"


def value(given: Any) -> str:
    """A parameter's value as it is typed in: text as it is, anything else as JSON."""
    return given if isinstance(given, str) else json.dumps(given)
