"""The pages around a dashboard: the one that waits, the one that says what went wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from hub_config.dashboards.catalogue import PREFIX, Dashboard
from hub_config.dashboards.views import View
from hub_config.settings import Settings

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
STATIC = HERE / "static"
STATIC_URL = f"{PREFIX}voila/own/"


class Pages:
    """Renders `templates/*.html`; texts are escaped."""

    def __init__(self, settings: Settings) -> None:
        self._env = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True
        )
        portal = settings.service_origin("cuaderno")
        self.catalogue_url = f"{portal}/services/cuaderno/dashboards"
        self._portal = f"{portal}/services/cuaderno/"
        newest = max(int(f.stat().st_mtime) for f in STATIC.iterdir())
        self._static = f"{STATIC_URL}{{}}?v={newest}"

    def waiting(self, view: View) -> str:
        progress = f"{PREFIX}api/views/{view.id}"
        return self._render(
            "waiting.html",
            dashboard=view.dashboard,
            instructions={"progress": progress, "page": f"{progress}/page"},
        )

    def message(
        self, title: str, detail: str, *, dashboard: Dashboard | None = None, trace: str = ""
    ) -> str:
        return self._render(
            "message.html", title=title, detail=detail, dashboard=dashboard, trace=trace
        )

    def frame(self, view: View) -> dict[str, Any]:
        """What the template of a rendered dashboard needs of ours."""
        here = {"progress": f"{PREFIX}api/views/{view.id}", "address": view.address}
        return {"cu": self._names(view.dashboard), "cu_view": here}

    def _render(self, template: str, **values: Any) -> str:
        names = self._names(values.get("dashboard"))
        return self._env.get_template(template).render(cu=names, **values)

    def _names(self, dashboard: Dashboard | None) -> dict[str, Any]:
        return {
            "static": self._static.format,
            "catalogue": self.catalogue_url,
            "portal": self._portal,
            "dashboard": dashboard,
            "age": age(dashboard.updated_at) if dashboard else "",
            "exact": exact(dashboard.updated_at) if dashboard else "",
        }


def age(at: float, now: float | None = None) -> str:
    """How long ago, in the largest unit that fits: "3 days ago"."""
    seconds = max(0.0, (time.time() if now is None else now) - at)
    for length, unit in ((31_557_600, "year"), (2_629_800, "month"), (86400, "day")):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h ago"
    return f"{int(seconds // 60)} min ago" if seconds >= 60 else "just now"


def exact(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
