"""What MLflow knows of our runs, through tracking's REST: what a run measured, and what it left.

A notebook that was killed leaves its MLflow run `RUNNING` for good. `close_left_open` ends such
runs with the truth. Both are found by the tag `cuaderno.run`, which the tracking server stamps.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import httpx

from hub_config.errors import Unavailable
from hub_config.identity import Signer
from hub_config.jobs.model import Run, State
from hub_config.settings import Settings

API = "/services/mlflow/api/2.0/mlflow"
STATUS = {
    State.SUCCEEDED: "FINISHED",
    State.FAILED: "FAILED",
    State.CANCELLED: "KILLED",
}


class Measurements:
    """Tracking as the service `name` sees it."""

    def __init__(self, settings: Settings, signer: Signer, name: str) -> None:
        self._signer, self._name = signer, name
        self._http = httpx.Client(base_url=settings.local_url + API, timeout=15)

    def of_run(self, run: Run) -> list[dict[str, Any]]:
        """The MLflow runs of `run`: name, status, latest metrics, parameters, link."""
        found = self._search(run.project, f"tags.`cuaderno.run` = '{run.id}'")
        return [
            {
                "id": item["info"]["run_id"],
                "name": item["info"].get("run_name", ""),
                "status": item["info"]["status"],
                "experiment": item["info"]["experiment_id"],
                "metrics": {m["key"]: m["value"] for m in item["data"].get("metrics", [])},
                "parameters": {p["key"]: p["value"] for p in item["data"].get("params", [])},
                "link": "/services/mlflow/#/experiments/"
                f"{quote(item['info']['experiment_id'])}/runs/{quote(item['info']['run_id'])}",
            }
            for item in found
        ]

    def left_open(self, project: str) -> dict[str, list[str]]:
        """Run → its MLflow runs that are still RUNNING, in the project's experiments."""
        result: dict[str, list[str]] = {}
        for item in self._search(project, "attributes.status = 'RUNNING'"):
            tags = {t["key"]: t["value"] for t in item["data"].get("tags", [])}
            if run := tags.get("cuaderno.run"):
                result.setdefault(run, []).append(item["info"]["run_id"])
        return result

    def close(self, mlflow_run: str, run: Run) -> None:
        """End an MLflow run as `run`, which has ended, did."""
        end = run.finished_at or time.time()
        body = {"run_id": mlflow_run, "status": STATUS[run.state], "end_time": int(end * 1000)}
        self._post("runs/update", body, self._signer.service_token(self._name))

    def _search(self, project: str, condition: str) -> list[dict[str, Any]]:
        # A token that reads this one project: tracking shows a service no project's experiments.
        token = self._signer.dashboard_token(project, 60)
        experiments = [
            e["experiment_id"]
            for name in (f"name = '{project}'", f"name LIKE '{project}/%'")
            for e in self._all("experiments/search", "experiments", {"filter": name}, token)
        ]
        if not experiments:
            return []
        wanted = {"experiment_ids": experiments, "filter": condition}
        return self._all("runs/search", "runs", wanted, token)

    def _all(self, path: str, key: str, body: dict[str, Any], token: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {"max_results": 500}
        while True:
            answer = self._post(path, {**body, **page}, token)
            found += answer.get(key, [])
            if not answer.get("next_page_token") or len(found) >= 10_000:
                return found
            page["page_token"] = answer["next_page_token"]

    def _post(self, path: str, body: dict[str, Any], token: str) -> dict[str, Any]:
        try:
            answer = self._http.post(
                f"/{path}", json=body, headers={"Authorization": f"Bearer {token}"}
            )
            if answer.status_code == 200:
                return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable("Tracking is not answering; try again in a moment.") from error
        raise Unavailable(f"Tracking answered {answer.status_code}; try again in a moment.")
