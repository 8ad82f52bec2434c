"""A real Chromium, and people who sit before it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.platform import PASSWORD, Platform

FLAGS = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--disable-dev-shm-usage",
]
expect.set_options(timeout=30_000)


# Per module: while Playwright's synchronous half lives, no other event loop can run.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    flags = [*FLAGS, "--no-sandbox"] if os.getuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield made
        made.close()


class Visitor:
    """One person in a browser of their own, with what the browser complained about."""

    def __init__(self, context: BrowserContext, platform: Platform, name: str) -> None:
        self.platform, self.name = platform, name
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("pageerror", self._complain)
        self.page.on("request", self._note)

    def _complain(self, error: object) -> None:
        # plotly 7 says this in every Voila page; its charts draw all the same.
        if "r.setData is not a function" not in str(error):
            self.errors.append(str(error))

    def _note(self, request: object) -> None:
        url = request.url  # type: ignore[attr-defined]
        if url.startswith("http") and not url.startswith(self.platform.url):
            self.elsewhere.append(url)

    def sign_in(self, password: str = PASSWORD) -> None:
        self.page.goto(self.platform.url)
        self.page.get_by_label("Username").or_(self.page.get_by_label("Name")).first.fill(self.name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name=f"Hello, {self.name}")).to_be_visible()

    def open_lab(self, path: str) -> None:
        """Open a notebook in the demo project's shared server, whose first visit asks once."""
        page = self.page
        page.goto(f"{self.platform.url}/services/cuaderno/projects/demo")
        page.get_by_role("button", name="Open in Lab").or_(
            page.get_by_role("link", name="Open in Lab")
        ).first.click()
        page.wait_for_url(re.compile(r"/user/project-demo/|oauth2/authorize"), timeout=120_000)
        if "oauth2/authorize" in page.url:
            page.get_by_role("button", name="Authorize").click()
            page.wait_for_url(re.compile(r"/user/project-demo/"), timeout=60_000)
        page.goto(f"{self.platform.url}/user/project-demo/lab/tree/{path}?reset")
        expect(page.locator(".jp-NotebookPanel:visible .jp-Cell").first).to_be_visible(
            timeout=90_000
        )
        # Cells that are run before the kernel is there are not run at all.
        expect(page.get_by_role("button", name="Python (CPU) | Idle").first).to_be_visible(
            timeout=90_000
        )


@pytest.fixture
def visitor(browser: Browser, platform: Platform) -> Iterator[Callable[..., Visitor]]:
    """Make a visitor: `visitor("ana", "editor")`; signed in at once."""
    contexts = []

    def make(name: str, role: str | None = None, password: str = PASSWORD) -> Visitor:
        if role:
            platform.person(name, "demo", role)
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(30_000)
        contexts.append(context)
        made = Visitor(context, platform, name)
        made.sign_in(password)
        return made

    yield make
    for context in contexts:
        context.close()
