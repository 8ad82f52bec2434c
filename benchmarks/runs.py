"""A run from submission to finished, beside the papermill command on the same notebook."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import nbformat

from benchmarks.measure import Measure, compare
from benchmarks.peers import BIN, folder, platform


def notebook(cells: int) -> nbformat.NotebookNode:
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python (CPU)"}
    made.cells = [nbformat.v4.new_code_cell(f"print({k})") for k in range(cells)]
    return made


def timed(action: Callable[[], object]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def run() -> Iterator[Measure]:
    with folder() as room, platform(room) as made:
        made.start()
        repository = made.data_dir / "projects" / "demo" / "repo"
        environ = {**os.environ, "JUPYTER_PATH": str(made.data_dir / "jupyter")}
        for cells in (1, 100):
            name = f"cells_{cells}.ipynb"
            nbformat.write(notebook(cells), repository / name)
            body = {"paths": [name], "message": name}
            made.operator.post("projects/demo/commits", json=body).raise_for_status()

            def ours(name: str = name) -> None:
                submitted = {"project": "demo", "notebook": name, "parameters": {}}
                answer = made.operator.post("runs", json=submitted).raise_for_status()
                done = made.wait_for_run(answer.json()["id"])
                assert done["state"] == "succeeded", done
                made.operator.get(f"runs/{done['id']}/files/executed.html").raise_for_status()

            def papermill(name: str = name) -> None:
                argv = [BIN / "papermill", repository / name, room / "out.ipynb"]
                subprocess.run(argv, env=environ, check=True, capture_output=True)

            def floor(cells: int = cells) -> None:
                code = "\n".join(f"print({k})" for k in range(cells))
                subprocess.run([BIN / "python", "-c", code], check=True, capture_output=True)

            yield compare(
                f"run of {cells} cells until finished",
                "s",
                lambda ours=ours: timed(ours),
                lambda papermill=papermill: timed(papermill),
                floor=lambda floor=floor: timed(floor),
                repetitions=5,
            )
