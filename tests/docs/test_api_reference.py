"""docs/reference/api.md names every route of the REST API, and none that is not there."""

import re
from pathlib import Path

from hub_config.accounts.routes import router as accounts
from hub_config.dashboards.routes import router as dashboards
from hub_config.jobs.routes import router as jobs
from hub_config.projects.routes import router as projects
from hub_config.web import health, notebooks

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def test_every_route_is_documented():
    served = {
        f"{method} {re.sub(r':path}', '}', route.path)}"
        for router in (accounts, dashboards, jobs, projects, health.router, notebooks.router)
        for route in router.routes
        for method in route.methods
    }
    written = set(re.findall(r"^\| `([A-Z]+ \S+)` \|", PAGE.read_text(), re.M))
    assert written == served
