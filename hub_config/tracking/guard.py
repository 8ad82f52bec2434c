"""The stores that MLflow's handlers get: each method checks the caller, then asks MLflow's own.

Guarantees of `GuardedStore`:

1. A method that it does not define is refused, whatever a later MLflow calls.
2. Nothing is read without viewer, written without editor, deleted, restored or renamed (an
   experiment) without owner, in the project that the experiment's name tells.
3. An experiment never changes its owner, and its artifacts lie where the server puts them.
4. The tags in `STAMPS` come from the caller's token. What a client says about them is dropped when
   it makes a run, and refused later. Only `cuaderno.started_by` is hearsay: a project's shared
   server says who sat at the keyboard, and nobody's permission depends on it.

The process `jobs` is no member of anything. It finds runs of the platform by their tag and ends
those whose process died: `search_*`, and `update_run_info` with a final status.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NoReturn

from mlflow.entities import LoggedModelTag, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.entities.paged_list import PagedList

from hub_config.errors import Forbidden, Invalid
from hub_config.identity import Role
from hub_config.tracking.ownership import Caller, caller, owner_of
from hub_config.tracking.store import Places

READ, WRITE, MANAGE = Role.VIEWER, Role.EDITOR, Role.OWNER
USER, PROJECT, RUN, STARTED_BY = (
    "mlflow.user",
    "cuaderno.project",
    "cuaderno.run",
    "cuaderno.started_by",
)
STAMPS = frozenset((USER, PROJECT, RUN, STARTED_BY))
FINAL = frozenset((RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED))
# Two notebooks that start together both find no experiment and both make it; the second gets the
# first one's instead of an error when that was made so recently.
SAME_CREATION_SECONDS = 30
PAGE = 1000


def stamps(who: Caller, experiment_name: str) -> dict[str, str]:
    """What the server itself writes on a run that `who` makes in `experiment_name`."""
    principal, owner = who.principal, owner_of(experiment_name)
    tags = {USER: principal.project or principal.name}
    if not owner.personal:
        tags[PROJECT] = owner.name
    if principal.run:
        tags[RUN] = principal.run
    return tags


class GuardedStore:
    """MLflow's tracking store as the caller may use it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._places = Places(inner.ManagedSessionMaker)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Forbidden(f"This part of MLflow ({name}) is not offered here.")

    # Checks ---------------------------------------------------------------------------------------

    def require_experiment(self, experiment_id: str, needed: Role) -> str:
        """The experiment's name, if the caller holds `needed` there."""
        name = self._places.experiments([str(experiment_id)]).get(str(experiment_id))
        caller().require(name, needed, f"The experiment {experiment_id}")
        return name or ""

    def require_run(self, run_id: str, needed: Role) -> None:
        self._require_runs([run_id], needed)

    def _require_runs(self, run_ids: Iterable[str], needed: Role) -> None:
        ids = list(run_ids)
        found = self._places.runs(ids)
        for run_id in ids:
            caller().require(found.get(run_id), needed, f"The run {run_id}")

    def _require_models(self, model_ids: Iterable[str], needed: Role) -> None:
        ids = list(model_ids)
        found = self._places.models(ids)
        for model_id in ids:
            caller().require(found.get(model_id), needed, f"The model {model_id}")

    def _readable(self, experiment_ids: Iterable[str]) -> list[str]:
        ids = list(dict.fromkeys(str(i) for i in experiment_ids))
        names = self._places.experiments(ids)
        return [i for i in ids if i in names and self._sees(names[i])]

    @staticmethod
    def _sees(experiment_name: str) -> bool:
        who = caller()
        if who.closes_runs:
            return not owner_of(experiment_name).personal
        return who.may(experiment_name, READ)

    @staticmethod
    def _refuse_stamps(keys: Iterable[str]) -> None:
        if taken := sorted(STAMPS & set(keys)):
            raise Forbidden(f"The tag {taken[0]} is written by the platform and cannot be changed.")

    # Experiments ----------------------------------------------------------------------------------

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Any = None
    ) -> str:
        if artifact_location:
            raise Invalid(
                "An experiment's artifacts lie where the platform keeps them: "
                "leave artifact_location out."
            )
        owner = owner_of(name)
        caller().require(
            name,
            WRITE,
            f"A place for the experiment {name!r} (names begin with a project of yours, or with "
            f"~ and your own name): {'the person' if owner.personal else 'the project'} "
            f"{owner.name!r}",
        )
        try:
            return self._inner.create_experiment(name, None, tags)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            there = self._inner.get_experiment_by_name(name)
            age = time.time() - (there.creation_time or 0) / 1000 if there else 0.0
            if there is None or age > SAME_CREATION_SECONDS or there.lifecycle_stage != "active":
                raise
            return str(there.experiment_id)

    def get_experiment(self, experiment_id: str) -> Any:
        self.require_experiment(experiment_id, READ)
        return self._inner.get_experiment(experiment_id)

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        found = self._inner.get_experiment_by_name(experiment_name)
        return found if found is not None and self._sees(found.name) else None

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = PAGE,
        filter_string: str | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList:
        """The visible ones of MLflow's result; pages are counted in visible ones."""
        offset = int(page_token) if page_token and page_token.isdecimal() else 0
        seen: list[Any] = []
        token = None
        while len(seen) <= offset + max_results:
            page = self._inner.search_experiments(view_type, PAGE, filter_string, order_by, token)
            seen += [e for e in page if self._sees(e.name)]
            token = page.token
            if not token:
                break
        end = offset + max_results
        return PagedList(seen[offset:end], str(end) if len(seen) > end else None)

    def delete_experiment(self, experiment_id: str) -> None:
        self.require_experiment(experiment_id, MANAGE)
        self._inner.delete_experiment(experiment_id)

    def restore_experiment(self, experiment_id: str) -> None:
        self.require_experiment(experiment_id, MANAGE)
        self._inner.restore_experiment(experiment_id)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        name = self.require_experiment(experiment_id, MANAGE)
        if owner_of(new_name) != owner_of(name):
            head = name.split("/", 1)[0]
            raise Invalid(
                f"An experiment stays with its owner: call it {head}, or something that begins "
                f"with {head}/."
            )
        self._inner.rename_experiment(experiment_id, new_name)

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        self.require_experiment(experiment_id, WRITE)
        self._inner.set_experiment_tag(experiment_id, tag)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        self.require_experiment(experiment_id, WRITE)
        self._inner.delete_experiment_tag(experiment_id, key)

    # Runs -----------------------------------------------------------------------------------------

    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str
    ) -> Any:
        name = self.require_experiment(experiment_id, WRITE)
        ours = stamps(caller(), name)
        for tag in tags or ():
            if tag.key == STARTED_BY and caller().principal.kind == "project":
                ours[STARTED_BY] = str(tag.value)[:64]
        kept = [tag for tag in tags or () if tag.key not in STAMPS]
        kept += [RunTag(key, value) for key, value in ours.items()]
        return self._inner.create_run(experiment_id, ours[USER], start_time, kept, run_name)

    def get_run(self, run_id: str) -> Any:
        self._require_runs([run_id], READ)
        return self._inner.get_run(run_id)

    def search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int = PAGE,
        order_by: Any = None,
        page_token: str | None = None,
    ) -> PagedList:
        visible = self._readable(experiment_ids)
        if not visible:
            return PagedList([], None)
        return self._inner.search_runs(
            visible, filter_string, run_view_type, max_results, order_by, page_token
        )

    def update_run_info(
        self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None
    ) -> Any:
        if caller().closes_runs:
            ours = self._places.tag(run_id, RUN) is not None
            if not ours or run_status not in FINAL or run_name is not None:
                raise Forbidden("The service jobs may only end runs of the platform.")
        else:
            self._require_runs([run_id], WRITE)
        return self._inner.update_run_info(run_id, run_status, end_time, run_name)

    def delete_run(self, run_id: str) -> None:
        self._require_runs([run_id], WRITE)
        self._inner.delete_run(run_id)

    def restore_run(self, run_id: str) -> None:
        self._require_runs([run_id], WRITE)
        self._inner.restore_run(run_id)

    def log_metric(self, run_id: str, metric: Any) -> None:
        self._may_log(run_id, [metric])
        self._inner.log_metric(run_id, metric)

    def log_param(self, run_id: str, param: Any) -> None:
        self._require_runs([run_id], WRITE)
        self._inner.log_param(run_id, param)

    def set_tag(self, run_id: str, tag: Any) -> None:
        self._require_runs([run_id], WRITE)
        self._refuse_stamps([tag.key])
        self._inner.set_tag(run_id, tag)

    def delete_tag(self, run_id: str, key: str) -> None:
        self._require_runs([run_id], WRITE)
        self._refuse_stamps([key])
        self._inner.delete_tag(run_id, key)

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        self._may_log(run_id, metrics)
        self._refuse_stamps(tag.key for tag in tags)
        self._inner.log_batch(run_id, metrics, params, tags)

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        self._require_runs([run_id], WRITE)
        self._inner.record_logged_model(run_id, mlflow_model)

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        self._require_runs([run_id], WRITE)
        self._require_models((m.model_id for m in models or ()), READ)
        self._inner.log_inputs(run_id, datasets=datasets, models=models)

    def log_outputs(self, run_id: str, models: Any) -> None:
        self._require_runs([run_id], WRITE)
        self._require_models((m.model_id for m in models), WRITE)
        self._inner.log_outputs(run_id=run_id, models=models)

    def _may_log(self, run_id: str, metrics: Any) -> None:
        """A metric may also name a model, which then carries it too."""
        self._require_runs([run_id], WRITE)
        self._require_models({m.model_id for m in metrics if m.model_id}, WRITE)

    # What runs hold -------------------------------------------------------------------------------

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Any:
        self._require_runs([run_id], READ)
        return self._inner.get_metric_history(run_id, metric_key, max_results, page_token)

    def get_metric_history_bulk(self, run_ids: Any, metric_key: str, max_results: int) -> Any:
        self._require_runs(run_ids, READ)
        return self._inner.get_metric_history_bulk(run_ids, metric_key, max_results)

    def get_metric_history_bulk_interval(
        self, run_ids: Any, metric_key: str, max_results: int, start_step: Any, end_step: Any
    ) -> Any:
        self._require_runs(run_ids, READ)
        return self._inner.get_metric_history_bulk_interval(
            run_ids, metric_key, max_results, start_step, end_step
        )

    def _search_datasets(self, experiment_ids: Any) -> Any:
        visible = [i for i in self._readable(experiment_ids) if not caller().closes_runs]
        return self._inner._search_datasets(visible) if visible else []

    def search_traces(self, *_: Any, **__: Any) -> tuple[list[Any], None]:
        """Traces are not taken in (their artifacts may be anywhere), so there are none."""
        return [], None

    # Logged models --------------------------------------------------------------------------------

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Any = None,
        params: Any = None,
        model_type: str | None = None,
    ) -> Any:
        place = self.require_experiment(experiment_id, WRITE)
        if source_run_id:
            self._require_runs([source_run_id], WRITE)
        kept = [tag for tag in tags or () if tag.key not in STAMPS]
        kept += [LoggedModelTag(k, v) for k, v in stamps(caller(), place).items()]
        return self._inner.create_logged_model(
            experiment_id, name, source_run_id, kept, params, model_type
        )

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:
        self._require_models([model_id], READ)
        return self._inner.get_logged_model(model_id, allow_deleted=allow_deleted)

    def search_logged_models(self, experiment_ids: Any, *args: Any, **kwargs: Any) -> PagedList:
        visible = [i for i in self._readable(experiment_ids) if not caller().closes_runs]
        if not visible:
            return PagedList([], None)
        return self._inner.search_logged_models(visible, *args, **kwargs)

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        self._require_models([model_id], WRITE)
        return self._inner.finalize_logged_model(model_id, status)

    def delete_logged_model(self, model_id: str) -> None:
        self._require_models([model_id], WRITE)
        self._inner.delete_logged_model(model_id)

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        self._require_models([model_id], WRITE)
        self._inner.log_logged_model_params(model_id, params)

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        self._require_models([model_id], WRITE)
        self._refuse_stamps(tag.key for tag in tags)
        self._inner.set_logged_model_tags(model_id, tags)

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        self._require_models([model_id], WRITE)
        self._refuse_stamps([key])
        self._inner.delete_logged_model_tag(model_id, key)


class EmptyRegistry:
    """There is no model registry yet: searching it finds nothing, all else is refused.

    MLflow's own would have to be owned by projects first: its names, its aliases and the artifact
    addresses in its versions.
    """

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Forbidden(
            "There is no model registry here yet. Log the model to its run, without "
            "registered_model_name, and load it as models:/<model id>."
        )

    def search_registered_models(self, *_: Any, **__: Any) -> PagedList:
        return PagedList([], None)

    def search_model_versions(self, *_: Any, **__: Any) -> PagedList:
        return PagedList([], None)
