"""papermill's engine for runs: streams what happens, keeps what there is, can be stopped.

What differs from papermill's own engine, and why:

1. it saves a snapshot when something changed, at most every two seconds, also in the middle of a
   long cell; papermill rewrites and validates the whole notebook twice per cell;
2. its kernel talks over IPC sockets: under load TCP ports collide;
3. it heeds a cancel: interrupts the kernel (the runner ends the tree if that does not help);
4. a lost kernel is told apart from a failed cell. papermill marks the cells of both as completed.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.utils import run_sync
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager

SNAPSHOT_SECONDS = 2.0
SNAPSHOT_SHARE = 0.05  # of the time at most, so that a huge notebook is saved less often
TICK_SECONDS = 0.2
TRACEBACK_LINES = 60
FLUSH_SECONDS = 120.0
FLUSH = """\
import sys
if "mlflow.tracking.fluent" in sys.modules:
    sys.modules["mlflow"].flush_async_logging()
"""

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class Cancelled(Exception):
    """The run's target became `cancelled`."""


class KernelLost(Exception):
    """The kernel ended by itself; the message says how."""


class CellFailed(Exception):
    """A cell raised; the message names the cell and the error."""


@dataclass
class Execution:
    """What one execution is given, and where it stands."""

    kernels_dir: Path
    sockets: Path  # what the connection file's and the sockets' names begin with
    snapshot: Path
    say: Callable[[str], None]
    line: Callable[[str], None]
    progress: Callable[[int, int], None]
    cancelled: bool = False  # the run's target is that; set from another thread
    interrupted: bool = False
    cell: int = 0  # the code cell at work or last at work, from 1
    cells: int = 0
    notebook: Any = None
    failure: Exception | None = field(default=None)

    @property
    def where(self) -> str:
        return f"in cell {self.cell} of {self.cells}" if self.cell else "before its first cell"


class RunEngine(Engine):
    """Registered with papermill as `cuaderno`; takes the `Execution` as `execution=`."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **kwargs: Any) -> Any:
        execution: Execution = kwargs["execution"]
        journal = Journal(nb, execution)
        journal.notebook_start()
        try:
            Client(journal, execution, kernel_name).execute(cwd=str(Path.cwd()))
        except Exception as error:
            execution.failure = execution.failure or error
        finally:
            journal.notebook_complete()
        return journal.nb


class Journal(NotebookExecutionManager):
    """papermill's record of an execution in the notebook's metadata, saved as snapshots."""

    def __init__(self, nb: Any, execution: Execution) -> None:
        super().__init__(nb, progress_bar=False)
        self._execution = execution
        self._changed = False
        self._next = 0.0
        execution.notebook = nb
        execution.cells = sum(runnable(cell) for cell in nb.cells)

    def save(self, **kwargs: Any) -> None:
        self._changed = True
        self.tick()

    def autosave_cell(self, **kwargs: Any) -> None:
        self.save()

    def tick(self, *, force: bool = False) -> None:
        """Write the snapshot if something changed and it is time."""
        if not force and (not self._changed or time.monotonic() < self._next):
            return
        begun = time.monotonic()
        write_snapshot(self.nb, self._execution.snapshot)
        self._changed = False
        took = time.monotonic() - begun
        self._next = time.monotonic() + max(SNAPSHOT_SECONDS, took / SNAPSHOT_SHARE)

    def notebook_complete(self, **kwargs: Any) -> None:
        if self._execution.failure:  # else papermill would call what never ran completed
            for cell in self.nb.cells:
                if cell.metadata.papermill["status"] == self.PENDING:
                    cell.metadata.papermill["status"] = "skipped"
        super().notebook_complete(**kwargs)
        self.tick(force=True)


class Client(PapermillNotebookClient):
    """Runs the cells on a kernel of its own."""

    def __init__(self, journal: Journal, execution: Execution, kernel_name: str) -> None:
        super().__init__(
            journal,
            kernel_name=kernel_name,
            startup_timeout=60,
            timeout=None,
            iopub_timeout=30,
            raise_on_iopub_timeout=False,
            kernel_manager_class=AsyncKernelManager,
        )
        self._journal, self._execution = journal, execution

    def create_kernel_manager(self) -> Any:
        manager = AsyncKernelManager(
            kernel_name=self.kernel_name,
            transport="ipc",
            connection_file=f"{self._execution.sockets}.json",
            kernel_spec_manager=KernelSpecManager(
                kernel_dirs=[str(self._execution.kernels_dir)], ensure_native_kernel=False
            ),
            client_factory=AsyncKernelClient,
        )
        manager.ip = f"{self._execution.sockets}-s"
        self.km = manager
        return manager

    def papermill_execute_cells(self) -> None:
        try:
            self._execute_cells()
        finally:
            if not self._execution.cancelled and not isinstance(
                self._execution.failure, KernelLost
            ):
                run_sync(self._flush)()

    async def _flush(self) -> None:
        """Have the kernel send the metrics that it still holds, while it lives.

        Leaving that to its end would need a long patience with kernels that end, and some of
        ipykernel 7.4 never do until they are told by a signal.
        """
        try:
            reply = await self.kc.execute_interactive(
                FLUSH,
                silent=True,
                store_history=False,
                allow_stdin=False,
                output_hook=lambda _message: None,
                timeout=FLUSH_SECONDS,
            )
            said = reply["content"].get("evalue", "")
        except (TimeoutError, RuntimeError, OSError) as error:
            said = str(error) or type(error).__name__
        if said:
            self._execution.line(f"the last metrics may be lost: {plain(said)[:300]}")

    def _execute_cells(self) -> None:
        run, done = self._execution, 0
        for index, cell in enumerate(self.nb.cells):
            if not runnable(cell):
                self._journal.cell_start(cell, index)
                self._journal.cell_complete(cell, cell_index=index)
                continue
            if run.cancelled:
                raise Cancelled
            run.cell = done + 1
            run.line(f"cell {run.cell} of {run.cells} started")
            run.progress(done, run.cells)
            begun = time.monotonic()
            self._journal.cell_start(cell, index)
            try:
                goes_on = self._run_cell(cell, index)
            except Exception as error:
                self._journal.cell_exception(cell, cell_index=index, exception=error)
                run.failure = error
                run.line(f"cell {run.cell} of {run.cells} failed after {_seconds(begun)}")
                raise
            finally:
                self._journal.cell_complete(self.nb.cells[index], cell_index=index)
            done += 1
            run.line(f"cell {run.cell} of {run.cells} finished in {_seconds(begun)}")
            run.progress(done, run.cells)
            if not goes_on:
                run.line("the notebook ended itself")
                return

    def _run_cell(self, cell: Any, index: int) -> bool:
        """Whether to go on: not after `sys.exit(0)`, by which a notebook ends itself well."""
        run = self._execution
        try:
            self.execute_cell(cell, index)
            return True
        except CellExecutionError as error:
            if error.ename == "SystemExit" and error.evalue in ("", "0", "None"):
                return False
            if run.cancelled:
                raise Cancelled from error
            raise CellFailed(f"Cell {run.cell} of {run.cells}: {_named(error)}") from error
        except CellTimeoutError as error:
            raise CellFailed(f"Cell {run.cell} of {run.cells}: {plain(str(error))}") from error
        except DeadKernelError as error:
            if run.cancelled:
                raise Cancelled from error
            raise KernelLost(f"{_how(self._exit_code())} {run.where}.") from error

    async def _async_poll_kernel_alive(self) -> None:
        """Runs beside each cell: snapshots, cancels, and notices a dead kernel."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._journal.tick()
            await self._heed_cancel()
            try:
                await self._async_check_alive()
            except DeadKernelError:
                if self.task_poll_for_reply is not None:
                    self.task_poll_for_reply.cancel()
                return

    async def _heed_cancel(self) -> None:
        run = self._execution
        if run.cancelled and not run.interrupted:
            run.interrupted = True
            run.line(f"cancelled: interrupting cell {run.cell} of {run.cells}")
            await self.km.interrupt_kernel()

    def _exit_code(self) -> int | None:
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        return process.poll() if process is not None else None

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        content, run = msg["content"], self._execution
        if msg["msg_type"] == "stream":
            run.say(plain(content["text"]))
        elif msg["msg_type"] == "error":
            lines = plain("\n".join(content.get("traceback", []))).splitlines()
            if len(lines) > TRACEBACK_LINES:
                lines = [*lines[:20], "…", *lines[-(TRACEBACK_LINES - 20) :]]
            run.say("\n".join(lines) + "\n")
        elif text := content.get("data", {}).get("text/plain"):
            run.say(plain(text)[:2000] + "\n")
        return super().process_message(msg, cell, cell_index)


def runnable(cell: Any) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def write_snapshot(notebook: Any, path: Path) -> None:
    """Write the notebook atomically, as it is: checking it costs more than writing it."""
    text = nbformat.versions[4].writes_json(notebook)
    temporary = path.with_suffix(".part")
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(path)


def plain(text: str) -> str:
    """`text` without the escape sequences that colour a terminal."""
    return _ANSI.sub("", text)


def _named(error: CellExecutionError) -> str:
    value = plain(error.evalue).strip().splitlines()
    first = value[0][:300] if value else ""
    return f"{error.ename}: {first}" if first else error.ename


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        number = -code
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        hint = " (often: the machine ran out of memory)" if number == signal.SIGKILL else ""
        return f"The kernel was ended by signal {name}{hint}"
    if code is not None:
        return f"The kernel ended by itself with exit code {code}"
    return "The kernel died"


def _seconds(begun: float) -> str:
    return f"{time.monotonic() - begun:.1f} s"
