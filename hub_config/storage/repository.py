"""A project's git repository: read at a commit, compared with the working tree, committed to.

The working tree is live: a shared server edits it. So nothing here ever changes the tree: reads
name a commit, runs get a worktree of their own, and a commit takes files as they are.

The repository's configuration belongs to its editors. Of it we run no hooks, no signing, no pager
and no transport. Filters (`.gitattributes` with `filter.*` in `.git/config`, as git LFS needs them)
do run when a worktree or an archive is made: who may edit them may run code in the project anyway.
They do not run on a commit, which takes the bytes on disk. Every git call has a time limit.

A git that was killed leaves lock files behind. A commit builds its tree in an index of its own, so
a stale lock of the shared index hinders nobody; the shared index follows as well as it can.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hub_config.errors import Conflict, CuadernoError, Invalid, NotFound

log = logging.getLogger(__name__)
PLATFORM_AUTHOR = "Cuaderno <cuaderno@localhost>"
GIT_SECONDS = 60.0
# No git holds a lock so long, but `git commit` with an open editor, which then fails harmlessly:
# HEAD has moved beneath it.
STALE_LOCK_SECONDS = 600.0
SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "gc.auto": "0",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "log.showSignature": "false",
}
SAFE = tuple(word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}"))
GONE = "0" * 40


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

    def git(
        self, *args: str, input: bytes | None = None, more: dict[str, str] | None = None
    ) -> bytes:
        """What git says; `more` adds to its environment. Raises `GitFailed`."""
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_CEILING_DIRECTORIES": str(self.path.parent),  # no repository around ours
            **(more or {}),
        }
        with subprocess.Popen(
            ["git", *SAFE, *args],
            cwd=self.path,
            env=environ,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        ) as child:
            try:
                out, err = child.communicate(input, GIT_SECONDS)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # its filters too: they hold the pipes
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise GitFailed(
                    f"git {args[0]} in {self.path.name} took longer than {GIT_SECONDS:.0f} s and "
                    "was ended. Look for large files, or for filters in .git/config."
                ) from error
        if child.returncode:
            said = err.decode(errors="replace").replace(f"{self.path}/", "").split("\n")
            words = " ".join(line.strip() for line in said if line.strip())
            raise GitFailed(f"git {args[0]} in {self.path.name}: {words[:600] or 'failed'}")
        return out

    # Making ---------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make an empty repository; nothing happens where there is one already."""
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / ".git").exists():
            return
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.path.parent) as made:
            self.git("init", "-q", "-b", "main", made)
            try:  # whole or not at all
                (Path(made) / ".git").rename(self.path / ".git")
            except OSError:
                if not (self.path / ".git" / "HEAD").exists():  # somebody else was not faster
                    raise

    def commit(self, paths: list[str], message: str, author: str = PLATFORM_AUTHOR) -> str:
        """Commit `paths` as they are on disk, whatever else is staged; the new commit's id.

        A folder means the files in it that are not ignored; a file gone from disk is deleted.
        Raises `Invalid` when none of them differs from HEAD, `Conflict` during a merge.
        """
        names = [self.relative(p) for p in paths]
        for part, what in (("MERGE_HEAD", "merge"), ("CHERRY_PICK_HEAD", "cherry-pick")):
            if (self.path / ".git" / part).exists():
                raise Conflict(
                    f"A {what} is under way in this project. Finish it (`git commit`) or end it "
                    f"(`git {what} --abort`) in the project's server, then commit again."
                )
        self._drop_stale_locks()
        head = self.head()
        with tempfile.TemporaryDirectory(prefix="cuaderno-", dir=self.path / ".git") as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.git("read-tree", head or "--empty", more=index)
            entries = self._entries(names, index)
            self.git("update-index", "-z", "--index-info", input=entries, more=index)
            tree = self.git("write-tree", more=index).decode().strip()
        if head and tree == self.git("rev-parse", f"{head}^{{tree}}").decode().strip():
            raise Invalid(f"Nothing to commit: {', '.join(names)} as at HEAD.")
        parents = ("-p", head) if head else ()
        people = _person("AUTHOR", author) | _person("COMMITTER", PLATFORM_AUTHOR)
        made = self.git("commit-tree", tree, *parents, input=message.encode(), more=people)
        commit = made.decode().strip()
        # Fails if HEAD has moved since: then nothing is lost, and committing again takes it along.
        self.git("update-ref", "-m", "commit", "HEAD", commit, head or "", more=people)
        try:
            self.git("update-index", "-z", "--index-info", input=entries)
        except GitFailed as error:
            log.warning("The index of %s does not follow its HEAD: %s", self.path, error.detail)
        return commit

    def _entries(self, names: list[str], index: dict[str, str]) -> bytes:
        """`names` as they are on disk, as lines for `git update-index --index-info`."""
        listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--")
        lines: dict[str, str] = {}
        for name in names:
            found = {f for f in self.git(*listing, name, more=index).decode().split("\0") if f}
            if not found:
                raise Invalid(f"There is nothing to commit at {name}, or .gitignore leaves it out.")
            for file in sorted(found):
                if file.endswith("/"):
                    raise Invalid(f"{file} is a repository of its own; commit in there.")
                mode, data = self._as_on_disk(file)
                blob = GONE
                if mode:
                    said = self.git("hash-object", "-w", "--no-filters", "--stdin", input=data)
                    blob = said.decode().strip()
                lines[file] = f"{mode or '0'} {blob}\t{file}\0"
        return "".join(lines.values()).encode()

    def _as_on_disk(self, name: str) -> tuple[str, bytes]:
        """The mode and bytes of a blob for `name`; the mode is empty if there is no such file."""
        file, root = self.path / name, self.path.resolve()
        try:
            if file.parent.resolve() != (root / name).parent:  # reached through a link
                return "", b""
            if file.is_symlink():
                return "120000", os.fsencode(file.readlink())
            with os.fdopen(os.open(file, os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                if not stat.S_ISREG(mode):
                    return "", b""
                return "100755" if mode & stat.S_IXUSR else "100644", opened.read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return "", b""

    def _drop_stale_locks(self) -> None:
        """Remove the locks that a killed git left; they would hinder all others for ever."""
        with suppress(GitFailed):  # HEAD names no branch
            branch = self.git("symbolic-ref", "-q", "HEAD").decode().strip()
            for name in ("index", "HEAD", branch):
                lock = self.path / ".git" / f"{name}.lock"
                with suppress(OSError):
                    if time.time() - lock.lstat().st_mtime > STALE_LOCK_SECONDS:
                        lock.unlink()
                        log.warning("Removed the stale lock %s.", lock)

    def worktree(self, commit: str, at: Path) -> None:
        """A detached copy of `commit` in the new folder `at`; the repository's filters run."""
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


def _person(role: str, who: str) -> dict[str, str]:
    """`Name <mail>` as git's environment names the author or the committer."""
    name, _, mail = who.partition(" <")
    return {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": mail.rstrip(">")}


def project_repository(projects_dir: Path, project: str) -> Repository:
    """The repository of the project `project`; it need not exist yet."""
    return Repository(projects_dir / project / "repo")
