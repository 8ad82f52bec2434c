"""Which of MLflow's routes are served. What this table does not serve is refused.

The names are those of MLflow's Flask endpoints, so it is Flask itself that says which route a
request reached, however its path was written. `REFUSED` exists for one reason: a test compares the
table with what the installed MLflow has, and fails on a route nobody has decided about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow.protos.mlflow_artifacts_pb2 import ListArtifacts
from mlflow.server import handlers
from mlflow.utils.uri import validate_path_is_safe

from hub_config.errors import Forbidden, Invalid
from hub_config.identity import Role
from hub_config.tracking.guard import GuardedStore


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Reach data through the guarded store (or the empty registry) and in no other way.
STORE = _names(
    """
    _create_experiment _delete_experiment _delete_experiment_tag _get_experiment
    _get_experiment_by_name _restore_experiment _search_experiments _set_experiment_tag
    _update_experiment serve_search_datasets _create_run _delete_run _delete_tag _get_run
    _log_batch _log_inputs _log_metric _log_model _log_outputs _log_param _restore_run
    _search_runs _set_tag _update_run _get_metric_history serve_get_metric_history_bulk
    serve_get_metric_history_bulk_interval get_metric_history_bulk_interval_handler
    _create_logged_model _delete_logged_model _delete_logged_model_tag _finalize_logged_model
    _get_logged_model _log_logged_model_params _search_logged_models _set_logged_model_tags
    _search_traces_v3 _graphql _search_registered_models _search_model_versions
    """
)
# Ask the guarded store for a run or a model, then read or write the artifacts beside it.
RUN_ARTIFACTS_READ = _names(
    """
    _list_artifacts serve_artifacts _list_logged_model_artifacts serve_get_logged_model_artifact
    """
)
# Hold nothing of anybody's: the pages, versions, capabilities, telemetry that says "disabled", and
# a gateway that says it has no endpoints (its target is a variable which server.py removes); the
# pages show an error where the last is refused.
PAGES = _names(
    """
    serve serve_static_file health version _get_server_info serve_get_ui_telemetry
    serve_post_ui_telemetry serve_gateway_proxy
    """
)
# Name an artifact by its whole path, which begins with its experiment's id.
ARTIFACT_LIST = "_list_artifacts_mlflow_artifacts"
ARTIFACT_PATHS = {
    "_download_artifact": Role.VIEWER,
    "_upload_artifact": Role.EDITOR,
    "_delete_artifact_mlflow_artifacts": Role.EDITOR,
}
# The upload of small files from MLflow's pages: it reads the run to learn where they go.
RUN_ARTIFACTS_WRITE = frozenset({"serve_upload_artifact"})

NO_REGISTRY = (
    "there is no model registry yet. Log the model to its run, without registered_model_name, "
    "and load it as models:/<model id>"
)
# Parts of a route's path (after `/api/2.0` and the like) that are not offered.
REFUSED = {
    "/mlflow-artifacts/mpu/": "writes past this process, into the object store",
    "/mlflow-artifacts/presigned/": "reads past this process",
    "/mlflow/artifacts/presigned-": "reads and writes past this process",
    "/mlflow/datasets": "evaluation datasets belong to many experiments or none",
    "/mlflow/demo/": "writes sample data",
    "/mlflow/gateway": "calls out, keeps other services' keys",
    "/mlflow/genai/": "runs code in this process",
    "/mlflow/scorer": "runs code in this process",
    "/mlflow/issues": "belongs to traces",
    "/mlflow/jobs/": "there is no job runner here",
    "/mlflow/label-schemas": "belongs to traces",
    "/mlflow/review-queues": "belongs to traces",
    "/mlflow/prompt-optimization": "there is no job runner here",
    "/mlflow/registered-models": NO_REGISTRY,
    "/mlflow/model-versions": NO_REGISTRY,
    "/model-versions/get-artifact": NO_REGISTRY,
    "/mlflow/runs/create-promptlab-run": "calls out",
    "/mlflow/traces": "a trace's tags say where its artifacts lie",
    "/mlflow/get-trace-artifact": "a trace's tags say where its artifacts lie",
    "/mlflow/get-online-trace-details": "MLflow does not implement it",
    "/mlflow/unified-traces": "MLflow does not implement it",
    "mlflow/experiments/search-datasets": "a slip of MLflow's; the real route is served",
    "/mlflow/webhooks": "calls out",
    "/mlflow/workspaces": "projects take their place",
    "/build/": "the pages' files, a second time, outside the prefix",
}


def check_route(
    endpoint: str,
    rule: str,
    arguments: Mapping[str, Any],
    query: Mapping[str, Any],
    store: GuardedStore,
) -> None:
    """Let a request go on to the MLflow endpoint it reached, or raise what refuses it.

    `arguments` are those in the route `rule`, `query` those that MLflow reads from the query.
    """
    if endpoint in STORE or endpoint in RUN_ARTIFACTS_READ or endpoint in PAGES:
        return
    if endpoint == ARTIFACT_LIST:
        # By MLflow's own reading of the request: it may hold the path in its body.
        check_artifact(handlers._get_request_message(ListArtifacts()).path, Role.VIEWER, store)
    elif endpoint in ARTIFACT_PATHS:
        check_artifact(arguments["artifact_path"], ARTIFACT_PATHS[endpoint], store)
    elif endpoint in RUN_ARTIFACTS_WRITE:
        store.require_run(query.get("run_uuid", ""), Role.EDITOR)
    else:
        raise Forbidden(f"MLflow's {endpoint} is not offered here: {why_refused(rule)}.")


def why_refused(rule: str) -> str | None:
    """The reason that the table gives for a route, or None when it has no word about it."""
    return next((why for part, why in REFUSED.items() if part in rule), None)


def check_artifact(path: str, needed: Role, store: GuardedStore) -> str:
    """The path as MLflow will use it, if the caller may use the artifact there.

    Artifacts lie under `<experiment id>/<run id>/artifacts/` and `<experiment id>/models/<model
    id>/artifacts/`. Writing needs all three parts, so that no write reaches a whole experiment.
    """
    clean = validate_path_is_safe(path or "")  # decoded as often as MLflow will, without `..`
    parts = clean.split("/")
    store.require_experiment(parts[0], needed)
    if needed is not Role.VIEWER and len([p for p in parts if p]) < 4:
        raise Invalid(f"{path!r} is not below the artifacts of a run or a model.")
    return clean
