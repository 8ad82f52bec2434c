"""What a kernel finds in its environment, for each that starts kernels; and the kernelspecs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cuaderno import specs
from cuaderno.provisioning import CuadernoProvisioner
from cuaderno.provisioning.environment import kernel_environment
from jupyter_client.kernelspec import KernelSpec

PLATFORM = Path("/opt/platform")
KERNEL = Path("/opt/kernels/bin/python")


def environment(**starter: str) -> dict[str, str]:
    return kernel_environment(starter, python=KERNEL, platform_prefix=PLATFORM)


@pytest.mark.parametrize(
    ("starter", "token", "experiment"),
    [
        ({"JUPYTERHUB_API_TOKEN": "t", "CUADERNO_USER": "ada"}, "t", "~ada"),
        ({"JUPYTERHUB_API_TOKEN": "t", "CUADERNO_PROJECT": "demo"}, "t", "demo"),
        ({"CUADERNO_TOKEN": "run", "CUADERNO_PROJECT": "demo"}, "run", "demo"),
    ],
    ids=["own server", "shared server", "run or dashboard"],
)
def test_tracking_needs_no_configuration(
    starter: dict[str, str], token: str, experiment: str
) -> None:
    found = environment(CUADERNO_URL="http://127.0.0.1:8000/", **starter)
    assert found["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:8000/services/mlflow"
    assert found["MLFLOW_TRACKING_TOKEN"] == found["CUADERNO_TOKEN"] == token
    assert found["MLFLOW_EXPERIMENT_NAME"] == experiment
    assert found["MLFLOW_ENABLE_ASYNC_LOGGING"] == "true"
    assert "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS" not in found


def test_a_kernel_outside_the_platform_keeps_its_own_tracking() -> None:
    assert environment(MLFLOW_TRACKING_URI="sqlite:///mine.db")["MLFLOW_TRACKING_URI"] == (
        "sqlite:///mine.db"
    )


def test_no_gpu_whatever_the_starter_has() -> None:
    found = environment(CUDA_VISIBLE_DEVICES="0,1", NVIDIA_VISIBLE_DEVICES="all")
    assert (found["CUDA_VISIBLE_DEVICES"], found["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")


def test_the_platforms_own_settings_and_secrets_stay_behind() -> None:
    found = environment(
        CUADERNO_DATABASE_URL="postgresql://u:secret@h/d",
        CUADERNO_DATA_DIR="/data",
        CUADERNO_PLATFORM="/data",
        CUADERNO_RUN_MARK="r.1",
        CUADERNO_STARTED_BY="ada",
        CUADERNO_SERVER_MARK="/data:ada",
        JUPYTERHUB_API_TOKEN="t",
        JUPYTERHUB_CLIENT_ID="id",
        JUPYTERHUB_SERVICE_PREFIX="/user/ada/",
        CONFIGPROXY_AUTH_TOKEN="secret",
        LANG="C.UTF-8",
    )
    assert {n for n in found if n.startswith(("CUADERNO", "JUPYTERHUB", "CONFIGPROXY"))} == {
        "CUADERNO_PLATFORM",
        "CUADERNO_RUN_MARK",
        "CUADERNO_SERVER_MARK",
        "CUADERNO_STARTED_BY",
        "JUPYTERHUB_SERVICE_PREFIX",
    }
    assert found["LANG"] == "C.UTF-8"


def test_python_of_the_platform_does_not_leak() -> None:
    found = environment(
        PATH="/opt/platform/bin:/usr/bin:/bin",
        PYTHONPATH="/opt/platform/extra",
        VIRTUAL_ENV="/opt/platform",
    )
    assert found["PATH"] == "/opt/kernels/bin:/usr/bin:/bin"
    assert "PYTHONPATH" not in found
    assert "VIRTUAL_ENV" not in found  # /opt/kernels is no virtual environment here


def test_importing_the_provisioner_stays_light() -> None:
    code = (
        "import sys, jupyter_client.provisioning; before = set(sys.modules);"
        "import cuaderno.provisioning; new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "print(*sorted(new - {'cuaderno'} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_specs_hold_ours_and_nothing_else(tmp_path: Path) -> None:
    folder, python = tmp_path / "kernels", Path(sys.executable)
    (folder / "conda-env" / "deep").mkdir(parents=True)
    (folder / "stray.json").write_text("{}")
    for _ in range(2):  # every start writes them again
        specs.write(folder, python)
        assert [path.name for path in folder.iterdir()] == ["python3"]
        assert [path.name for path in (folder / "python3").iterdir()] == ["kernel.json"]
    spec = json.loads((folder / "python3" / "kernel.json").read_text())
    assert spec["argv"][0] == str(python)
    assert spec["display_name"] == "Python (CPU)"
    assert spec["metadata"]["kernel_provisioner"]["provisioner_name"] == "cuaderno-provisioner"


def test_specs_say_when_there_is_no_kernel_environment(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make install"):
        specs.write(tmp_path / "kernels", tmp_path / "missing" / "python")


async def test_a_kernel_that_ends_has_time_to_send_its_metrics() -> None:
    spec = KernelSpec(argv=[str(KERNEL), "-f", "{connection_file}"], language="python")
    provisioner = CuadernoProvisioner(kernel_id="k", kernel_spec=spec)
    await provisioner.pre_launch(env={"PATH": "/usr/bin"})
    assert provisioner.get_shutdown_wait_time(5.0) == 10
