"""Commits on disk: `<data>/dashboards/<project>/<commit>/`, read-only, shared by all its views.

A dashboard runs in the whole tree of its commit, so that imports and files beside it work, and an
editor at work in the project's server changes nothing under a viewer's feet.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from hub_config.settings import Settings
from hub_config.storage.repository import project_repository

KEEP_SECONDS = 3600.0  # how long a tree outlives its last view


def folder(settings: Settings) -> Path:
    return settings.data_dir / "dashboards"


def home(settings: Settings, project: str) -> Path:
    """The home folder of a project's dashboard kernels: the one place for them to write to."""
    path = folder(settings) / project / "home"
    path.mkdir(parents=True, exist_ok=True)
    return path


def checkout(settings: Settings, project: str, commit: str) -> Path:
    """The tree of `commit`, made if it is not there yet. Safe to call twice at once."""
    tree = folder(settings) / project / commit
    if not tree.is_dir():
        tree.parent.mkdir(parents=True, exist_ok=True)
        archive = project_repository(settings.projects_dir, project).git(
            "archive", "--format=tar", commit
        )
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=tree.parent))
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(part, filter=_inside)  # noqa: S202 (filtered)
        for path in [part, *part.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o500 if path.is_dir() or os.access(path, os.X_OK) else 0o400)
        try:
            part.chmod(0o700)  # a folder that may not be written to may not be renamed either
            part.rename(tree)
            tree.chmod(0o500)
        except OSError:  # another view was faster
            _remove(part)
            if not tree.is_dir():
                raise
    with contextlib.suppress(OSError):
        os.utime(tree)
    return tree


def prune(settings: Settings, in_use: Iterable[tuple[str, str]]) -> int:
    """Remove the trees that no view uses and none has used for an hour; how many were removed."""
    kept, removed = set(in_use), 0
    before = time.time() - KEEP_SECONDS
    for tree in folder(settings).glob("*/*"):
        if tree.name == "home" or (tree.parent.name, tree.name) in kept:
            continue
        with contextlib.suppress(OSError):
            if tree.stat().st_mtime < before:
                _remove(tree)
                removed += 1
    return removed


def _inside(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
    """Leave out what would point out of the tree, rather than refuse the whole commit."""
    try:
        return tarfile.data_filter(member, destination)
    except tarfile.FilterError:
        return None


def _remove(tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(tree)
