"""Notebooks and dashboards as they are stored: no outputs, stable ids, typed parameters with help.

What they compute is tested in tests/integration/test_kernels_notebooks.py.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from hub_config.jobs.parameters import declared

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STORED = NOTEBOOKS + sorted((ROOT / "dashboards").glob("*.ipynb"))


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("path", STORED, ids=names(STORED))
def test_stored_without_what_running_leaves(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.cuaderno.title and notebook.metadata.cuaderno.description
    ids = [cell.id for cell in notebook.cells]
    # Names, not the random ids of an editor: a difference between versions stays readable.
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in ids), ids
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.id
            ast.parse(cell.source)


@pytest.mark.parametrize("path", STORED, ids=names(STORED))
def test_source_names_no_machine_and_no_other_site(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?://|/home/|/root/|/tmp/|\bcdn\b", text, re.IGNORECASE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_parameters_are_typed_and_explained(path: Path) -> None:
    parameters = declared(path.read_bytes())
    assert parameters
    for parameter in parameters:
        assert parameter.type and parameter.help and not parameter.computed, parameter
