"""From an attempt's folder to what is kept.

As a program: `python -m hub_config.jobs.results RUN ATTEMPT PROJECT TITLE`.

An attempt works in `<data>/jobs/<run>/<attempt>/`: `tree` (the worktree), `input.ipynb`,
`executed.ipynb` (an atomic snapshot, at most some seconds old), `log.txt`, `runner.log`. Publishing
copies to the artifact store what there is and renders the page; then the folder is removed, but not
where publishing failed, since it holds the only copy. A runner does it before it reports its end;
for one that was killed, and again where it failed, the dispatcher calls this module, in a process
of its own since rendering is heavy.
"""

from __future__ import annotations

import logging
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hub_config.jobs.model import attempt_dir, file_key
from hub_config.settings import Settings, load_settings
from hub_config.storage.files import FileStore
from hub_config.storage.repository import GitFailed, project_repository

log = logging.getLogger(__name__)


def socket_prefix(settings: Settings, attempt: int) -> Path:
    """What the names of an attempt's connection file and sockets begin with; short, see IPC."""
    return settings.runtime_dir / f"r{attempt}"


def publish(settings: Settings, run: str, attempt: int, title: str = "") -> None:
    """Copy an attempt's files to the artifact store. Raises what the store raises."""
    folder, files = attempt_dir(settings, run, attempt), FileStore(settings.artifacts_url)
    for name in ("input.ipynb", "executed.ipynb", "log.txt"):
        if (folder / name).exists():  # asked, not tried: a store without its bucket raises the same
            files.put(file_key(run, name), folder / name)
    if not (folder / "executed.ipynb").exists():
        return
    try:
        from hub_config.jobs.page import render

        page = render(_read_notebook(folder / "executed.ipynb"), title or run)
    except Exception:  # a page less, but the run and its notebook stand
        log.exception("The page of run %s was not rendered. action=render-failed", run)
    else:
        files.write(file_key(run, "executed.html"), page)


def skip_slow_imports() -> None:
    """Keep libraries from loading what they take where they find it and we have no use for.

    jsonschema checks IRIs with a grammar that takes over a second to build; papermill offers HDFS
    through pyarrow, half a second and 40 MB. Both do without when the import fails.
    """
    for name in ("rfc3987_syntax", "pyarrow.fs"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def remove(settings: Settings, run: str, attempt: int, project: str) -> None:
    """Remove an attempt's worktree, folder and sockets; what is gone already is no error."""
    folder = attempt_dir(settings, run, attempt)
    repository = project_repository(settings.projects_dir, project)
    if (folder / "tree").exists():
        with suppress(GitFailed, OSError):
            repository.remove_worktree(folder / "tree")
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()
    with suppress(GitFailed, OSError):
        repository.git("worktree", "prune")
    prefix = socket_prefix(settings, attempt)
    for left in prefix.parent.glob(f"{prefix.name}[.-]*"):
        left.unlink(missing_ok=True)


def _read_notebook(path: Path) -> Any:
    skip_slow_imports()
    import nbformat

    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run, attempt, project, title = sys.argv[1:5]
    settings = load_settings()
    publish(settings, run, int(attempt), title)
    remove(settings, run, int(attempt), project)


if __name__ == "__main__":
    main()
