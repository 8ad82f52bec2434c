"""Rendering one view: run the notebook's cells, make the whole page, or say what went wrong.

Voila streams a page while it runs, so a cell that fails is found out after "200 OK" was sent, and a
kernel that never starts leaves a page that spins for ever. Here the page is made in memory while
the browser is told what is being done; then it is either all there or it is an error.
"""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from voila.notebook_renderer import NotebookRenderer

from hub_config.dashboards.catalogue import headings
from hub_config.dashboards.views import View

RENDER_SECONDS = 300.0
KERNEL = "python3"


class CellFailed(Exception):
    """A cell of a dashboard failed. `error` is its last line, `traceback` all of it, plain text."""

    def __init__(self, cell: int, cells: int, section: str, error: str, traceback: str) -> None:
        super().__init__(error)
        self.cell, self.cells, self.section = cell, cells, section
        self.error, self.traceback = error, traceback

    @property
    def where(self) -> str:
        section = f" (“{self.section}”)" if self.section else ""
        return f"cell {self.cell} of {self.cells}{section}"


class TreeImages:
    """What Voila asks of a contents manager: the images that Markdown names, from one tree only."""

    def __init__(self, tree: Path, start: Path) -> None:
        self._tree, self._start = tree.resolve(), start

    def _file(self, name: str) -> Path | None:
        file = (self._start / unquote(name)).resolve() if "\0" not in name else self._tree
        return file if file.is_relative_to(self._tree) and file.is_file() else None

    def file_exists(self, name: str) -> bool:
        kind = mimetypes.guess_type(name)[0] or ""
        return kind.startswith("image/") and self._file(name) is not None

    def get(self, name: str, format: str = "base64") -> dict[str, str]:
        file = self._file(name)
        return {"content": base64.b64encode(file.read_bytes()).decode() if file else ""}


class DashboardRenderer(NotebookRenderer):
    """Runs the notebook of one view, telling the view how far it is."""

    def __init__(
        self, view: View, source: bytes, tree: Path, frame: dict[str, Any], **kwargs: Any
    ) -> None:
        start = tree / Path(view.dashboard.path).parent
        super().__init__(
            notebook_path=view.dashboard.path, contents_manager=TreeImages(tree, start), **kwargs
        )
        self._view, self._source, self._frame = view, source, frame

    async def initialize(self, **kwargs: Any) -> None:
        await super().initialize(**kwargs)
        self.resources.update(self._frame)

    async def load_notebook(self, path: str) -> Any:
        notebook = nbformat.reads(self._source.decode(), as_version=4)
        notebook.metadata.kernelspec = {
            "name": KERNEL,
            "display_name": KERNEL,
            "language": "python",
        }
        # One look for all: a notebook does not choose template or theme.
        notebook.metadata.pop("voila", None)
        notebook.metadata.title = self._view.dashboard.title
        return notebook

    async def _jinja_cell_generator(self, nb: Any, kernel_id: str) -> AsyncIterator[Any]:
        cells, section = len(nb.cells), ""
        try:
            for number, cell in enumerate(nb.cells, start=1):
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
                    what = f"Running cell {number} of {cells}"
                    self._view.say(f"{what}: {section}" if section else what, number, cells)
                    await self._run(cell, number, cells, section)
                elif cell.cell_type == "markdown":
                    section = (headings(cell.source) or [section])[-1]
                yield cell
            self._view.say("Drawing the page", cells, cells)
        finally:
            await self._cleanup_resources()

    async def _run(self, cell: Any, number: int, cells: int, section: str) -> None:
        try:
            await self.executor.execute_cell(cell, None, number - 1, store_history=False)
        except CellExecutionError as error:
            raise CellFailed(
                number, cells, section, f"{error.ename}: {error.evalue}", _plain(error.traceback)
            ) from error
        except CellTimeoutError as error:
            raise CellFailed(number, cells, section, "it took too long", str(error)) from error
        except DeadKernelError as error:
            said = "the kernel ended, perhaps because the machine ran out of memory"
            raise CellFailed(number, cells, section, said, "") from error


def _plain(text: str) -> str:
    """Text without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
