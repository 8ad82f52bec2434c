"""What runs logged to MLflow, as a table.

Over MLflow's REST, not its client: `import mlflow` alone takes 1.4 s, more than the whole answer,
which is what a dashboard waits for. Columns are named as `mlflow.search_runs` names them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cuaderno.client import Platform, PlatformError, browser_url

if TYPE_CHECKING:
    import pandas

MLFLOW = "/services/mlflow/api/2.0/mlflow/"
PAGE = 500
TAGS = {"mlflow.user": "user", "cuaderno.started_by": "started_by", "cuaderno.run": "run"}


def logged_runs(
    project: str | None = None, *, limit: int = 500, platform: Platform | None = None
) -> pandas.DataFrame:
    """The newest `limit` MLflow runs of `project`, newest first, one row each.

    Columns: `run_id`, `name`, `experiment`, `experiment_id`, `status`, `start_time` (UTC),
    `duration` (seconds), `user`, `started_by`, `run` (the platform's run, or empty),
    `metrics.<name>` (the last value), `params.<name>` (text, or a number where all are).
    `project` is by default the kernel's own, in a person's own server `~<name>`. Raises
    `PlatformError`.
    """
    import pandas

    if platform is None:
        with Platform() as own:
            return logged_runs(project, limit=limit, platform=own)
    experiments = _experiments(platform, project or _own_project())
    rows = [_row(run, experiments) for run in _search(platform, list(experiments), limit)]
    fixed = ["run_id", "name", "experiment", "experiment_id", "status", "start_time", "duration"]
    table = pandas.DataFrame(rows, columns=None if rows else [*fixed, *TAGS.values()])
    table["start_time"] = pandas.to_datetime(table["start_time"], unit="ms", utc=True)
    for column in table.columns[table.columns.str.startswith("params.")]:
        numbers = pandas.to_numeric(table[column], errors="coerce")
        if numbers.notna().equals(table[column].notna()):
            table[column] = numbers
    return table


def logged_run_url(experiment_id: str, run_id: str) -> str:
    """The address of an MLflow run's page, for a browser."""
    origin = os.environ.get("CUADERNO_PUBLIC_TRACKING_URL", browser_url()).rstrip("/")
    return f"{origin}/services/mlflow/#/experiments/{experiment_id}/runs/{run_id}"


def _own_project() -> str:
    project, user = os.environ.get("CUADERNO_PROJECT"), os.environ.get("CUADERNO_USER")
    if project or user:
        return project or f"~{user}"
    raise PlatformError("Name a project: this kernel belongs to none (CUADERNO_PROJECT).")


def _experiments(platform: Platform, owner: str) -> dict[str, str]:
    """Id → name of the experiments called `owner` or `owner/…`."""
    found: dict[str, str] = {}
    token = None
    while True:
        page = platform.post(
            MLFLOW + "experiments/search", {"max_results": 1000, "page_token": token}
        )
        for experiment in page.get("experiments", ()):
            if experiment["name"].split("/", 1)[0] == owner:
                found[experiment["experiment_id"]] = experiment["name"]
        token = page.get("next_page_token")
        if not token:
            return found


def _search(platform: Platform, experiment_ids: list[str], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = None
    while experiment_ids and len(found) < limit:
        page = platform.post(
            MLFLOW + "runs/search",
            {
                "experiment_ids": experiment_ids,
                "max_results": min(PAGE, limit - len(found)),
                "order_by": ["attributes.start_time DESC"],
                "page_token": token,
            },
        )
        found += page.get("runs", ())
        token = page.get("next_page_token")
        if not token:
            break
    return found


def _row(run: dict[str, Any], experiments: dict[str, str]) -> dict[str, Any]:
    info, data = run["info"], run.get("data", {})
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", ())}
    started, ended = info.get("start_time"), info.get("end_time")
    return {
        "run_id": info["run_id"],
        "name": info.get("run_name", ""),
        "experiment": experiments[info["experiment_id"]],
        "experiment_id": info["experiment_id"],
        "status": info["status"].lower(),
        "start_time": started,
        "duration": (ended - started) / 1000 if started and ended else None,
        **{column: tags.get(tag, "") for tag, column in TAGS.items()},
        **{f"metrics.{m['key']}": m["value"] for m in data.get("metrics", ())},
        **{f"params.{p['key']}": p["value"] for p in data.get("params", ())},
    }
