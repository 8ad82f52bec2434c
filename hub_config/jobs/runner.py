"""The runner: one process that makes one attempt at one run: `python -m hub_config.jobs.runner`.

It reads its assignment from stdin, and nothing secret from its command line or environment. It
outlives whoever started it, reports to `jobs`, and when it ends nothing of what it or the notebook
started is left. It decides what became of the run: a kernel that was killed leaves a notebook
whose metadata say `completed`.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hub_config.errors import CuadernoError
from hub_config.jobs.model import Assignment, State, attempt_dir, run_mark
from hub_config.jobs.reporting import Refused, Reporter
from hub_config.jobs.results import publish, remove, skip_slow_imports, socket_prefix
from hub_config.node.processes import PLATFORM_MARK, RUN_MARK, end_marked, start_time
from hub_config.settings import Settings, load_addresses, load_settings
from hub_config.storage.repository import project_repository

if TYPE_CHECKING:
    from hub_config.jobs.engine import Execution

PR_SET_CHILD_SUBREAPER = 36
OOM_SCORE = 500
EXIT_REFUSED = 3
KERNEL = "python3"

log = logging.getLogger(__name__)


class Runner:
    """One attempt, from the assignment to the last report."""

    def __init__(self, settings: Settings, assignment: Assignment) -> None:
        self.settings, self.assignment = settings, assignment
        self.mark = run_mark(assignment.run, assignment.attempt)
        self.folder = attempt_dir(settings, assignment.run, assignment.attempt)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.execution: Execution | None = None
        self._cancelled = False
        self._only_copy = False  # the folder holds what could not be published
        self._over = threading.Event()  # the notebook is, and nothing of it is left
        self.reporter = Reporter(
            lambda: load_addresses(settings).jobs,
            assignment.attempt,
            assignment.token,
            heartbeat_seconds=settings.jobs.heartbeat_seconds,
            on_cancel=self._cancel,
            on_refused=self._refused,
            log_file=self.folder / "log.txt",
        )

    def run(self) -> int:
        """Make the attempt; the process's exit code."""
        pid = os.getpid()
        try:
            self.reporter.start(
                {"host": socket.gethostname(), "pid": pid, "pid_started": start_time(pid)}
            )
            state, reason = self._attempt()
            self.reporter.line(f"run {state}{f': {reason}' if reason else ''}")
            state, reason = self._publish(state, reason)
            self.reporter.finish(state, reason)
        except Refused as error:
            log.warning("jobs refused: %s action=runner-refused", error)
            self._refused()
        self.reporter.close()
        self._remove()
        return 0

    @property
    def _names(self) -> tuple[str, int]:
        return self.assignment.run, self.assignment.attempt

    def _attempt(self) -> tuple[State, str]:
        given = self.assignment
        self.reporter.line(f"run {given.run}: {given.notebook} at {given.commit[:10]}")
        try:
            state, reason = self._execute()
        except CuadernoError as error:
            state, reason = State.FAILED, error.detail
        except Exception as error:  # ours, not the notebook's: the log has all of it
            self.reporter.say(traceback.format_exc())
            state, reason = State.FAILED, f"The runner failed: {type(error).__name__}: {error}"
        self._over.set()
        self._end_tree()
        return state, reason

    def _execute(self) -> tuple[State, str]:
        given, settings = self.assignment, self.settings
        tree = self.folder / "tree"
        repository = project_repository(settings.projects_dir, given.project)
        repository.worktree(given.commit, tree)
        source = tree / repository.relative(given.notebook)
        if not source.is_file():
            return State.FAILED, f"There is no {given.notebook} at commit {given.commit[:10]}."
        (self.folder / "input.ipynb").write_bytes(source.read_bytes())

        skip_slow_imports()  # and the rest, a second of work, when `jobs` knows of us already
        import nbformat
        import papermill
        from papermill.engines import papermill_engines
        from papermill.exceptions import PapermillExecutionError

        from hub_config.jobs import engine

        self.execution = execution = engine.Execution(
            kernels_dir=settings.jupyter_dir / "kernels",
            sockets=socket_prefix(settings, given.attempt),
            snapshot=self.folder / "executed.ipynb",
            say=self.reporter.say,
            line=self.reporter.line,
            progress=self.reporter.progress,
        )
        execution.cancelled = self._cancelled  # it may have come before there was an execution
        papermill_engines.register("cuaderno", engine.RunEngine)
        notebook = nbformat.reads(source.read_text(encoding="utf-8"), as_version=4)
        # The page at the end needs it; here it costs nobody's time.
        threading.Thread(target=__import__, args=("nbconvert",), daemon=True).start()
        with suppress(PapermillExecutionError):  # `execution.failure` says it better
            papermill.execute_notebook(
                notebook,
                None,
                parameters=given.parameters,
                engine_name="cuaderno",
                kernel_name=KERNEL,
                language="python",
                progress_bar=False,
                cwd=tree / PurePosixPath(given.notebook).parent,
                execution=execution,
            )
        if execution.notebook is not None:
            engine.write_snapshot(execution.notebook, execution.snapshot)
        match execution.failure:
            case None:
                return State.SUCCEEDED, ""
            case engine.Cancelled():
                return State.CANCELLED, f"{execution.where}."
            case engine.CellFailed() | engine.KernelLost() as failure:
                return State.FAILED, str(failure)
            case failure:
                if execution.cancelled:
                    return State.CANCELLED, f"{execution.where}."
                self.reporter.say("".join(traceback.format_exception(failure)))
                where = f" {execution.where}" if execution.cell else ""
                return State.FAILED, (
                    f"The kernel could not run the notebook{where}: "
                    f"{type(failure).__name__}: {engine.plain(str(failure))[:500]}"
                )

    def _publish(self, state: State, reason: str) -> tuple[State, str]:
        try:
            publish(self.settings, *self._names, title=self.assignment.notebook)
            return state, reason
        except Exception as error:
            # Failed, though the notebook may have gone well: whoever waits for a success reads its
            # files next.
            self._only_copy = True
            log.exception("Files could not be kept. action=publish-failed")
            self.reporter.line(f"its files could not be kept yet: {error}")
            late = f"Its files could not be kept yet ({type(error).__name__}: {error}); "
            return State.FAILED, f"{reason} {late}this is tried again every minute.".strip()

    def _cancel(self) -> None:
        self._cancelled = True
        if self.execution is not None:
            self.execution.cancelled = True
        threading.Thread(target=self._insist_on_cancel, daemon=True).start()

    def _insist_on_cancel(self) -> None:
        if not self._over.wait(self.settings.jobs.cancel_grace_seconds):
            self.reporter.line("the notebook did not stop: ending it and all it started")
            self._end_tree()

    def _end_tree(self) -> None:
        """End all that the notebook started, and its kernel."""
        end_marked(RUN_MARK, self.mark, grace=1.0)

    def _refused(self) -> None:
        """Another attempt holds the run, or it has ended: stop now, and leave nothing."""
        self._end_tree()
        self._remove()
        os._exit(EXIT_REFUSED)

    def _remove(self) -> None:
        if not self._only_copy:  # else the dispatcher publishes and removes it, when it can
            remove(self.settings, *self._names, self.assignment.project)


def isolate(settings: Settings, assignment: Assignment) -> None:
    """Make this process the root of the run's tree, and its environment what kernels are given."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # who is orphaned stays our descendant
    try:
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    except OSError:
        log.warning("Could not raise oom_score_adj. action=oom-score")
    settings.runtime_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = {PLATFORM_MARK, RUN_MARK}
    for name in [n for n in os.environ if n.startswith("CUADERNO_") and n not in kept]:
        del os.environ[name]  # settings may hold a database's password
    os.environ.update(
        CUADERNO_TOKEN=assignment.token,
        CUADERNO_PROJECT=assignment.project,
        CUADERNO_RUN=assignment.run,
        JUPYTER_RUNTIME_DIR=str(settings.runtime_dir),
        **settings.kernel_addresses,
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    assignment = Assignment(**json.loads(sys.stdin.read()))
    settings = load_settings()
    isolate(settings, assignment)
    code = Runner(settings, assignment).run()
    logging.shutdown()
    os._exit(code)  # no thread of a library may keep us


if __name__ == "__main__":
    main()
