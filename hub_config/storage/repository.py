"""A project's git repository: read at a commit, compared with the working tree, committed to.

The working tree is live: a shared server edits it. So nothing here ever changes the tree: reads
name a commit, runs get a worktree of their own, and a commit takes files as they are.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hub_config.errors import CuadernoError, Invalid, NotFound

PLATFORM_AUTHOR = "Cuaderno <cuaderno@localhost>"
# Hooks and configuration of the repository belong to its editors; the platform never runs them.
SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0")


class GitFailed(CuadernoError):
    title = "git could not do it"


@dataclass(frozen=True)
class Commit:
    sha: str
    author: str
    at: float
    subject: str


class Repository:
    """The git repository whose working tree is `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *args: str, input: bytes | None = None) -> bytes:
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
        }
        done = subprocess.run(
            ["git", *SAFE, *args],
            cwd=self.path,
            env=environ,
            input=input,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise GitFailed(f"git {args[0]} in {self.path.name}: {said[-1] if said else 'failed'}")
        return done.stdout

    # Making ---------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make an empty repository; nothing happens where there is one already."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / ".git").exists():
            self.git("init", "-q", "-b", "main")

    def commit(self, paths: list[str], message: str, author: str = PLATFORM_AUTHOR) -> str:
        """Commit `paths` as they are on disk, whatever else is staged; the new commit's id.

        Raises `Invalid` when none of them differs from HEAD.
        """
        names = [self.relative(p) for p in paths]
        self.git("add", "--", *names)
        if not self.git("diff", "--cached", "--name-only", "--", *names) and self.head():
            raise Invalid(f"Nothing to commit: {', '.join(names)} as at HEAD.")
        committer, _, mail = PLATFORM_AUTHOR.partition(" <")
        self.git(
            *("-c", f"user.name={committer}", "-c", f"user.email={mail.rstrip('>')}"),
            *("commit", "-q", "--no-verify", f"--author={author}", "-m", message),
            *("--only", "--", *names),
        )
        return self.head() or ""

    def worktree(self, commit: str, at: Path) -> None:
        """A detached copy of `commit` in the new folder `at`."""
        self.git("worktree", "add", "-q", "--detach", str(at), commit)

    def remove_worktree(self, at: Path) -> None:
        self.git("worktree", "remove", "--force", str(at))

    # Reading --------------------------------------------------------------------------------------

    def head(self) -> str | None:
        """The id of HEAD's commit, or None before the first one."""
        if not self.path.is_dir():
            return None
        try:
            return self.git("rev-parse", "--verify", "-q", "HEAD").decode().strip()
        except GitFailed:
            return None

    def resolve(self, revision: str) -> str:
        """The full id of a commit named by id, branch or tag. Raises `NotFound`."""
        if revision.startswith("-"):
            raise Invalid(f"{revision!r} is not the name of a commit.")
        try:
            out = self.git("rev-parse", "--verify", "-q", f"{revision}^{{commit}}")
        except GitFailed as error:
            raise NotFound(f"There is no commit {revision!r} in this project.") from error
        return out.decode().strip()

    def read(self, path: str, commit: str) -> bytes:
        """The bytes of `path` at `commit`. Raises `NotFound`."""
        name = self.relative(path)
        try:
            return self.git("cat-file", "blob", f"{commit}:{name}")
        except GitFailed as error:
            raise NotFound(
                f"There is no {name} at commit {commit[:10]}. Commit the file first, or look at "
                "the names with `git ls-files` in the project's server."
            ) from error

    def files(self, commit: str, suffix: str = "") -> list[str]:
        """Paths of the files at `commit`, in order."""
        names = self.git("ls-tree", "-r", "-z", "--name-only", commit).decode().split("\0")
        return [n for n in names if n and n.endswith(suffix)]

    def log(self, path: str | None = None, limit: int = 20) -> list[Commit]:
        """Newest commits first, those that touched `path` if it is given."""
        if not self.head():
            return []
        tail = ["--", self.relative(path)] if path else []
        out = self.git("log", f"-{limit}", "-z", "--format=%H%x1f%an%x1f%at%x1f%s", *tail)
        rows = [r.split("\x1f") for r in out.decode(errors="replace").split("\0") if r]
        return [Commit(sha, author, float(at), subject) for sha, author, at, subject in rows]

    def on_disk(self, path: str) -> bytes | None:
        """The file's bytes in the working tree, or None; links out of the tree are not followed."""
        file = self.path / self.relative(path)
        try:
            if not file.resolve().is_relative_to(self.path.resolve()):
                return None
            return file.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def relative(self, path: str) -> str:
        """`path` as a clean name inside the repository. Raises `Invalid` on one that leaves it."""
        pure = PurePosixPath(path)
        if (
            pure.is_absolute()
            or not pure.parts
            or ".." in pure.parts
            or ".git" in pure.parts
            or any(c in path for c in "\0\n:")
            or path.startswith("-")
        ):
            raise Invalid(f"{path!r} is not a path inside the project's repository.")
        return str(pure)


def project_repository(projects_dir: Path, project: str) -> Repository:
    """The repository of the project `project`; it need not exist yet."""
    return Repository(projects_dir / project / "repo")
