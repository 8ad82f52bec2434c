"""Repositories, artifact files, migrations, secrets."""

import stat

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from hub_config import keys
from hub_config.errors import Invalid, Misconfigured, NotFound
from hub_config.settings import load_settings
from hub_config.storage.database import make_engine, migrate, new_id, open_database, write
from hub_config.storage.files import FileStore
from hub_config.storage.repository import Repository
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
