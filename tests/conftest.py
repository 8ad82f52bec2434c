"""What all tests share: one real platform for those that do not break it, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.platform import Platform, temp_platform

REQUIRED = set(filter(None, os.environ.get("CUADERNO_TEST_REQUIRE", "").split(",")))


def missing(what: str, why: str) -> None:
    """Skip for want of `what`, or fail where CUADERNO_TEST_REQUIRE names it (as `.ci/run` does)."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here, but {why}")
    pytest.skip(why)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def platform() -> AsyncIterator[Platform]:
    """One platform for the whole session, with its demo project and its first run."""
    async with temp_platform() as made:
        yield made


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    missing("browser", "no chromium was found")
    return ""
