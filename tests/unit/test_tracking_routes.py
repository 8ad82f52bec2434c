"""The table of routes against the MLflow that is installed: every route has been decided about."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

# In a process of its own: MLflow reads its switches when it is imported.
LOOK = """
    import json, os, sys
    from pathlib import Path
    from hub_config.settings import load_settings
    from hub_config.tracking.server import load_mlflow

    mlflow = load_mlflow(load_settings({"CUADERNO_DATA_DIR": sys.argv[1]}))
    from hub_config.errors import Forbidden
    from hub_config.tracking import guard, routes

    store, offered = guard.GuardedStore(mlflow.store), []
    for name in dir(mlflow.store):
        try:
            if not name.startswith("__") and name not in vars(guard.GuardedStore):
                offered.append(getattr(store, name) and name)
        except Forbidden:
            pass

    rules = {}
    for rule in mlflow.flask.url_map.iter_rules():
        rules.setdefault(rule.endpoint, []).append(rule.rule)
    served = routes.STORE | routes.RUN_ARTIFACTS_READ | routes.PAGES | routes.RUN_ARTIFACTS_WRITE
    served |= set(routes.ARTIFACT_PATHS) | {routes.ARTIFACT_LIST}
    print(json.dumps({
        "rules": rules,
        "served": sorted(served),
        "refused": {r: routes.why_refused(r) for one in rules.values() for r in one},
        "modules": sorted(m for m, found in sys.modules.items() if found is not None),
        "offered": offered,
        "targets": [n for n in os.environ if n.startswith("MLFLOW_") and n.endswith("TARGET")],
    }))
"""


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(LOOK), folder],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"MLFLOW_DEPLOYMENTS_TARGET": "http://192.0.2.1"},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_route_of_mlflow_is_served_or_refused_for_a_reason(look):
    unknown = {
        endpoint: rules
        for endpoint, rules in look["rules"].items()
        if endpoint not in look["served"] and not all(look["refused"][r] for r in rules)
    }
    assert not unknown, "decide about these in hub_config/tracking/routes.py"


def test_the_table_names_no_route_that_mlflow_does_not_have(look):
    assert set(look["served"]) <= set(look["rules"])


def test_nothing_that_is_served_calls_out_or_runs_code(look):
    for word in ("gateway", "invoke", "webhook", "secret", "workspace", "demo", "presigned"):
        found = {name for name in look["served"] if word in name}
        assert found <= {"serve_gateway_proxy"}, word  # which only says that there is no gateway
    assert not look["targets"]


def test_the_process_holds_no_second_authority_and_nothing_heavy(look):
    modules = set(look["modules"])
    assert not modules & {"mlflow.server.auth", "mlflow.server.fastapi_app", "mlflow.gateway.app"}
    assert not modules & {"pandas", "pyarrow", "scipy", "sklearn", "torch"}


def test_a_method_of_the_store_that_the_guard_does_not_name_is_refused(look):
    assert not look["offered"]
