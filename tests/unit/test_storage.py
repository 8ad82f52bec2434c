"""Repositories, artifact files, migrations, secrets."""

import os
import shutil
import stat
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from hub_config import keys
from hub_config.errors import Conflict, Invalid, Misconfigured, NotFound
from hub_config.settings import load_settings
from hub_config.storage import repository as repository_module
from hub_config.storage.database import make_engine, migrate, new_id, open_database, write
from hub_config.storage.files import FileStore
from hub_config.storage.repository import GitFailed, Repository
from hub_config.storage.schema import metadata


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "repo")
    made.create()
    (made.path / "a.ipynb").write_text("one")
    made.commit(["a.ipynb"], "First")
    return made


def test_a_commit_takes_the_named_files_only(repository):
    (repository.path / "a.ipynb").write_text("two")
    (repository.path / "b.ipynb").write_text("b")
    repository.git("add", "b.ipynb")
    before = repository.head()
    after = repository.commit(["a.ipynb"], "Second", author="Ana <ana@localhost>")
    assert repository.read("a.ipynb", after) == b"two"
    assert repository.read("a.ipynb", before) == b"one"
    assert repository.files(after) == ["a.ipynb"]
    assert repository.log()[0].author == "Ana"
    with pytest.raises(Invalid, match="Nothing to commit"):
        repository.commit(["a.ipynb"], "Again")


def test_hooks_of_the_repository_are_never_run(repository, tmp_path):
    hook = repository.path / ".git" / "hooks" / "post-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
    hook.chmod(0o755)
    (repository.path / "a.ipynb").write_text("two")
    repository.commit(["a.ipynb"], "Second")
    assert not (tmp_path / "owned").exists()


def test_a_commit_takes_files_as_they_are_on_disk(repository):
    folder = repository.path / "notebooks"
    folder.mkdir()
    (folder / "x[1].txt").write_bytes(b"one\r\n")
    (folder / "run.sh").write_text("true")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("run.sh")
    (folder / "left.tmp").write_text("ignored")
    (repository.path / ".gitignore").write_text("*.tmp")
    (repository.path / ".gitattributes").write_text("* text=auto")
    first = repository.commit(["notebooks", ".gitignore", ".gitattributes"], "Folder")
    listed = repository.git("ls-tree", "-r", first, "notebooks").decode().splitlines()
    assert [(line.split()[0], line.split("\t")[1]) for line in listed] == [
        ("120000", "notebooks/link"),
        ("100755", "notebooks/run.sh"),
        ("100644", "notebooks/x[1].txt"),
    ]
    assert repository.read("notebooks/x[1].txt", first) == b"one\r\n"
    shutil.rmtree(folder)
    folder.write_text("a file now")
    second = repository.commit(["notebooks", "a.ipynb", "notebooks/run.sh"], "Replaced")
    assert repository.files(second) == [".gitattributes", ".gitignore", "a.ipynb", "notebooks"]
    (repository.path / "a.ipynb").unlink()
    assert "a.ipynb" not in repository.files(repository.commit(["a.ipynb"], "Gone"))
    assert repository.git("status", "--porcelain") == b""
    for nothing in ("none.txt", "left.tmp"):
        with pytest.raises(Invalid, match="nothing to commit at"):
            repository.commit([nothing], "None")


def test_a_link_out_of_the_tree_brings_nothing_in(repository, tmp_path):
    inside, outside = repository.path / "deep", tmp_path / "outside"
    inside.mkdir()
    (inside / "a").write_text("mine")
    repository.commit(["deep"], "Deep")
    outside.mkdir()
    (outside / "a").write_text("secret")
    shutil.rmtree(inside)
    inside.symlink_to(outside)
    commit = repository.commit(["deep/a"], "Through a link")
    assert repository.files(commit) == ["a.ipynb"]


def test_the_lock_of_a_killed_git_hinders_no_commit(repository):
    lock = repository.path / ".git" / "index.lock"
    lock.touch()
    (repository.path / "a.ipynb").write_text("two")
    commit = repository.commit(["a.ipynb"], "Second")
    assert repository.read("a.ipynb", commit) == b"two"
    assert lock.exists()  # young: its git may live
    branch = repository.path / ".git" / "refs" / "heads" / "main.lock"
    branch.touch()
    (repository.path / "a.ipynb").write_text("three")
    with pytest.raises(GitFailed, match=r"main\.lock"):
        repository.commit(["a.ipynb"], "Third")
    old = time.time() - 3600
    for left in (lock, branch):
        os.utime(left, (old, old))
    repository.commit(["a.ipynb"], "Third")
    assert not lock.exists() and not branch.exists()
    assert repository.git("status", "--porcelain") == b""


def test_nothing_is_committed_into_a_merge(repository):
    (repository.path / ".git" / "MERGE_HEAD").write_text(repository.head() + "\n")
    (repository.path / "a.ipynb").write_text("<<<<<<<")
    with pytest.raises(Conflict, match="merge is under way"):
        repository.commit(["a.ipynb"], "Half")


def test_a_repository_around_ours_is_not_ours(repository):
    inner = Repository(repository.path / "inner")
    inner.path.mkdir()
    assert inner.head() is None
    (inner.path / ".git").mkdir()  # half-made
    assert inner.head() is None


def test_programs_that_the_configuration_names_do_not_sign_or_filter_a_commit(repository, tmp_path):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\ncat\n")
    program.chmod(0o755)
    for key, value in {
        "commit.gpgSign": "true",
        "gpg.program": str(program),
        "filter.x.clean": str(program),
        "log.showSignature": "true",
    }.items():
        repository.git("config", key, value)
    (repository.path / ".gitattributes").write_text("* filter=x")
    repository.commit([".gitattributes"], "Filters")
    assert len(repository.log()) == 2
    assert not (tmp_path / "owned").exists()


def test_git_that_takes_too_long_is_ended_with_what_it_started(repository, tmp_path, monkeypatch):
    repository.git("config", "filter.x.smudge", "sleep 30; cat")
    (repository.path / ".gitattributes").write_text("a.ipynb filter=x")
    commit = repository.commit([".gitattributes"], "Slow")
    monkeypatch.setattr(repository_module, "GIT_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(GitFailed, match="took longer"):
        repository.worktree(commit, tmp_path / "tree")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "", "a/../../x", ".git/config", "-x", "a\nb", "HEAD:a"]
)
def test_a_path_stays_inside(repository, path):
    with pytest.raises(Invalid):
        repository.read(path, repository.head())


def test_links_out_of_the_tree_are_not_followed(repository, tmp_path):
    (tmp_path / "secret").write_text("s")
    (repository.path / "link").symlink_to(tmp_path / "secret")
    assert repository.on_disk("link") is None
    assert repository.on_disk("a.ipynb") == b"one"
    assert repository.on_disk("none") is None


def test_an_unknown_revision_is_not_found_and_never_an_option(repository):
    with pytest.raises(NotFound):
        repository.resolve("nothing")
    with pytest.raises(Invalid):
        repository.resolve("--all")
    assert repository.resolve("main") == repository.head()


def test_a_worktree_is_a_copy_of_its_commit(repository, tmp_path):
    commit = repository.head()
    (repository.path / "a.ipynb").write_text("changed")
    repository.worktree(commit, tmp_path / "tree")
    assert (tmp_path / "tree" / "a.ipynb").read_text() == "one"
    repository.remove_worktree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_artifacts_are_written_read_and_listed(tmp_path, scheme):
    store = FileStore(tmp_path.as_uri() if scheme == "file" else f"memory://{tmp_path}")
    store.write("runs/1/log.txt", b"hello")
    assert store.read("runs/1/log.txt") == b"hello"
    assert store.names("runs/1") == ["log.txt"]
    assert store.names("runs/2") == []
    assert not store.exists("runs/2/log.txt")
    with pytest.raises(NotFound):
        store.read("runs/2/log.txt")
    for bad in ("../x", "/x", "runs/../../x", ""):
        with pytest.raises(Invalid):
            store.read(bad)


def test_artifacts_stay_in_a_folder_whose_name_needs_quoting(tmp_path):
    folder = tmp_path / "my dätä #1"
    FileStore(folder.as_uri()).write("runs/1/log.txt", b"hello")
    assert (folder / "runs" / "1" / "log.txt").read_bytes() == b"hello"
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_migrations_build_exactly_the_schema(tmp_path):
    url = f"sqlite:///{tmp_path}/c.db"
    migrate(url)
    migrate(url)
    engine = open_database(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_an_unknown_revision_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/c.db"
    with pytest.raises(Misconfigured, match="cuaderno up"):
        open_database(url)
    migrate(url)
    engine = make_engine(url)
    with write(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Misconfigured, match="9999"):
        open_database(url)
    with pytest.raises(Misconfigured, match="newer"):
        migrate(url)


def test_ids_are_in_order_of_time():
    assert len({new_id() for _ in range(100)}) == 100
    assert len(new_id()) == 22


def test_secrets_are_private_and_made_once(tmp_path):
    settings = load_settings({}, data_dir=tmp_path)
    keys.ensure_all(settings)
    first = {name: keys.secret(settings, name) for name in keys.NAMES}
    keys.ensure_all(settings)
    assert {name: keys.secret(settings, name) for name in keys.NAMES} == first
    assert len(set(first.values())) == len(first)
    for path in settings.secrets_dir.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.secrets_dir.stat().st_mode) == 0o700
