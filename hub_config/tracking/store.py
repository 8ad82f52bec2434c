"""Where runs and models lie: the names of their experiments, read from MLflow's own tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun, SqlTag


class Places:
    """Looks up, for ids of MLflow, the name of the experiment that holds each of them.

    Nothing is kept between requests: a rename or a deletion counts at once.
    """

    def __init__(self, sessions: Any) -> None:
        self._sessions = sessions

    def experiments(self, ids: Iterable[str]) -> dict[str, str]:
        """Names by id; unknown ids are left out."""
        numbers = {int(i): i for i in ids if i.isascii() and i.isdigit() and str(int(i)) == i}
        if not numbers:
            return {}
        with self._sessions() as session:
            rows = session.query(SqlExperiment.experiment_id, SqlExperiment.name).filter(
                SqlExperiment.experiment_id.in_(numbers)
            )
            return {numbers[number]: name for number, name in rows}

    def runs(self, ids: Iterable[str]) -> dict[str, str]:
        return self._by_experiment(SqlRun.run_uuid, SqlRun.experiment_id, ids)

    def models(self, ids: Iterable[str]) -> dict[str, str]:
        return self._by_experiment(SqlLoggedModel.model_id, SqlLoggedModel.experiment_id, ids)

    def tag(self, run_id: str, key: str) -> str | None:
        with self._sessions() as session:
            row = (
                session.query(SqlTag.value)
                .filter(SqlTag.run_uuid == run_id, SqlTag.key == key)
                .first()
            )
            return row[0] if row else None

    def _by_experiment(self, id_column: Any, place: Any, ids: Iterable[str]) -> dict[str, str]:
        wanted = [str(i) for i in ids]
        if not wanted:
            return {}
        with self._sessions() as session:
            rows = (
                session.query(id_column, SqlExperiment.name)
                .join(SqlExperiment, SqlExperiment.experiment_id == place)
                .filter(id_column.in_(wanted))
            )
            return dict(tuple(row) for row in rows)
