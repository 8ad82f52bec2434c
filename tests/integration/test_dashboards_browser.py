"""A dashboard in a real browser: it draws, stays on this platform, and leaves no kernel behind."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

from tests import hub_fixture
from tests.hub_fixture import PASSWORD, free_ports, until
from tests.integration.dashboards_world import PREFIX, World, temp_dashboards

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str):
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield made
        await made.close()


async def sign_in(page: Page, url: str) -> None:
    """Open `url` as vic, by way of the hub's sign-in."""
    await page.goto(url)
    await page.fill("input[name=username]", "vic")
    await page.fill("input[name=password]", PASSWORD)
    await page.click("[type=submit]")


async def drawn(page: Page) -> None:
    for selector in (".js-plotly-plot .scatterlayer", ".widget-hslider", "mjx-container"):
        await page.wait_for_selector(selector, timeout=120_000)
    await page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length == 2")


async def test_figures_and_widgets_draw_and_closed_tabs_leave_no_kernel(browser):
    async with temp_dashboards() as world:
        context = await browser.new_context()
        asked: set[str] = set()
        context.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        page = await context.new_page()
        address = f"{world.hub.url}{PREFIX}demo/live?n=3"
        await sign_in(page, address)
        # The first thing to see is a page that says what is being done.
        await page.wait_for_selector("#cu-doing")
        await drawn(page)
        assert page.url == address
        await page.locator(".noUi-handle").first.focus()
        await page.keyboard.press("ArrowRight")
        await page.wait_for_selector("text=n is 4", timeout=30_000)
        assert await page.locator("#rendered_cells").evaluate("e => e.offsetWidth") <= 1200
        assert await page.locator("#cu-ended").is_hidden()
        assert asked - {""} == {urlsplit(world.hub.url).netloc}
        tabs = [page]
        for _ in range(4):
            tabs.append(await context.new_page())
            await tabs[-1].goto(address)
        for tab in tabs[1:]:
            await drawn(tab)
        assert len(world.kernels()) == 5
        for tab in tabs:
            await tab.close(run_before_unload=True)
        await until(lambda: not world.kernels(), seconds=20, what="the end of 5 kernels")
        await context.close()


async def test_a_page_whose_kernel_is_gone_says_so(browser):
    async with temp_dashboards() as world:
        page = await browser.new_page()
        await sign_in(page, f"{world.hub.url}{PREFIX}demo/live")
        await drawn(page)
        for process in world.kernels():
            process.kill()
        await page.wait_for_selector("#cu-ended:not([hidden])", timeout=60_000)
        await page.close()


async def test_with_subdomains_dashboards_have_an_origin_of_their_own(browser, monkeypatch):
    ports = free_ports(9)
    monkeypatch.setattr(hub_fixture, "free_ports", lambda count: ports[:count])
    hub = f"http://cuaderno.localhost:{ports[0]}"
    own = f"http://dashboards--service.cuaderno.localhost:{ports[0]}"
    async with temp_dashboards(hub_subdomain_host=hub) as world:
        context = await browser.new_context()
        page = await context.new_page()
        await sign_in(page, f"{own}{PREFIX}demo/live?n=3")
        await drawn(page)
        assert page.url == f"{own}{PREFIX}demo/live?n=3"
        await page.locator(".noUi-handle").first.focus()
        await page.keyboard.press("ArrowRight")
        await page.wait_for_selector("text=n is 4", timeout=30_000)
        cookies = {c["name"]: c for c in await context.cookies()}
        token = cookies["service-dashboards"]
        assert token["domain"] == urlsplit(own).hostname and token["httpOnly"]
        # A page of the portal's origin is another site to a kernel.
        await foreign_origin_is_refused(world, page, own, hub)
        await page.close(run_before_unload=True)
        await until(lambda: not world.kernels(), seconds=20, what="the kernel's end")
        await context.close()


async def foreign_origin_is_refused(world: World, page: Page, own: str, hub: str) -> None:
    kernel = await page.evaluate(
        "JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
    )
    other = await page.context.new_page()
    await other.goto(f"{hub}/hub/login")
    address = f"{own.replace('http', 'ws')}{PREFIX}api/kernels/{kernel}/channels"
    opened = await other.evaluate(
        """address => new Promise(done => {
            const socket = new WebSocket(address);
            socket.onopen = () => done(true);
            socket.onerror = () => done(false);
        })""",
        address,
    )
    assert opened is False and world.kernels(kernel)
    await other.close()
