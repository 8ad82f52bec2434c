"""Publishing: by file, and not removed before it is kept."""

from __future__ import annotations

import sys

import pytest

from hub_config.errors import NotFound
from hub_config.jobs import results
from hub_config.jobs.model import attempt_dir, attempts_with_folder
from hub_config.settings import Settings
from hub_config.storage.files import PIECE, FileStore


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_file_is_put_and_streamed(tmp_path, scheme):
    store = FileStore((tmp_path / "a").as_uri() if scheme == "file" else f"memory://{tmp_path}")
    source = tmp_path / "source"
    source.write_bytes(b"0123456789abcdef" * (PIECE // 10))
    store.put("runs/1/log.txt", source)
    size, pieces = store.stream("runs/1/log.txt")
    found = list(pieces)
    assert b"".join(found) == source.read_bytes() and len(found) > 1
    assert size == source.stat().st_size
    assert store.names("runs/1") == ["log.txt"]
    with pytest.raises(NotFound):
        store.stream("runs/2/log.txt")


def test_what_was_not_kept_is_not_removed(tmp_path, monkeypatch):
    settings = Settings(data_dir=tmp_path)
    folder = attempt_dir(settings, "r1", 7)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("only copy")
    assert attempts_with_folder(settings) == [("r1", 7)]

    def no_bucket(*_: object) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(results, "load_settings", lambda: settings)
    monkeypatch.setattr(sys, "argv", ["results", "r1", "7", "demo", "title"])
    with monkeypatch.context() as away, pytest.raises(FileNotFoundError, match="bucket"):
        away.setattr(FileStore, "put", no_bucket)
        results.main()
    assert (folder / "log.txt").read_text() == "only copy"
    results.main()
    assert FileStore(settings.artifacts_url).read("runs/r1/log.txt") == b"only copy"
    assert attempts_with_folder(settings) == []


def test_a_notebook_that_cannot_be_shown_is_kept(tmp_path):
    settings = Settings(data_dir=tmp_path)
    folder = attempt_dir(settings, "r1", 7)
    folder.mkdir(parents=True)
    (folder / "executed.ipynb").write_text("not a notebook")
    results.publish(settings, "r1", 7)
    assert FileStore(settings.artifacts_url).names("runs/r1") == ["executed.ipynb"]
