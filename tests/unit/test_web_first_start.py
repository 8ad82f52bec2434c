"""The first start goes on whatever becomes of the demo."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hub_config.projects import seed
from hub_config.settings import Settings
from hub_config.storage.repository import GitFailed
from hub_config.web import first_start
from hub_config.web.first_start import FirstStart
from tests.platform import wait_for


def test_a_demo_that_cannot_be_made_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    submitted: list[str] = []

    def fails_twice(*_args: object) -> bool:
        tried.append("seed")
        if len(tried) < 3:
            raise GitFailed("git init in repo: a lock is in the way")
        return True

    def submit(*_args: object, project: str, **_more: object) -> SimpleNamespace:
        submitted.append(project)
        return SimpleNamespace(id="r1")

    monkeypatch.setattr(seed, "seed", fails_twice)
    monkeypatch.setattr(first_start, "SEED_RETRY_SECONDS", 0.05)
    runs = SimpleNamespace(submit=submit)
    start = FirstStart(None, Settings(data_dir=tmp_path), runs)  # type: ignore[arg-type]
    start.start()
    try:
        wait_for("the first run", lambda: submitted, 10)
        assert (len(tried), submitted) == (3, [seed.DEMO])
    finally:
        start.stop()
