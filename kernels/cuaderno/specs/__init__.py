"""The kernels that a platform offers: written afresh at each start, and no others beside them.

A *kernelspec* is a folder with a `kernel.json`. Ours name the interpreter of the kernel
environment by its full path, so that no notebook runs in the platform's own environment, and name
our provisioner, through which Lab, runner and Voila all start their kernels.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

PROVISIONER = "cuaderno-provisioner"


def specifications(kernel_python: Path) -> dict[str, dict[str, Any]]:
    """Name of each kernelspec → its `kernel.json`."""
    return {
        "python3": {
            "argv": [str(kernel_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Python (CPU)",
            "language": "python",
            "interrupt_mode": "signal",
            "metadata": {
                "debugger": True,
                "supported_encryption": ["curve"],
                "kernel_provisioner": {"provisioner_name": PROVISIONER, "config": {}},
            },
        }
    }


def write(kernels_dir: Path, kernel_python: Path) -> None:
    """Make `kernels_dir` hold our kernelspecs and nothing else.

    `kernels_dir` is a folder of ours alone (`jupyter/kernels` in the data folder). Servers may read
    it meanwhile, so each file is replaced in one step. Raises `FileNotFoundError` when there is no
    interpreter at `kernel_python`: every start of a kernel would fail with a worse message.
    """
    if not kernel_python.is_file():
        raise FileNotFoundError(
            f"There is no kernel environment: {kernel_python} does not exist. Run `make install`, "
            "or name another interpreter with the setting kernels.python."
        )
    specs = specifications(kernel_python)
    kernels_dir.mkdir(parents=True, exist_ok=True)
    for name, spec in specs.items():
        (kernels_dir / name).mkdir(exist_ok=True)
        _replace(kernels_dir / name / "kernel.json", json.dumps(spec, indent=1) + "\n")
    for other in kernels_dir.iterdir():
        if other.name not in specs:
            if other.is_dir() and not other.is_symlink():
                shutil.rmtree(other, ignore_errors=True)
            else:
                other.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
