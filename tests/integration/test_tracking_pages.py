"""MLflow's pages in a browser, signed in with the hub."""

import re

import pytest
from playwright.async_api import async_playwright

from tests.hub_fixture import PASSWORD
from tests.integration.tracking_house import tracking_house

# What MLflow shows when a request failed.
NOTES = "[data-testid*=notification], .du-bois-light-notification-notice, [role=alert]"


async def walk(playwright, chromium, house, person, pages):
    """Open `pages` as `person`: the text of each, requests to outside, and error notes seen."""
    browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = await browser.new_page()
    outside, texts = [], []
    page.on("request", lambda r: outside.append(r.url) if house.hub.url not in r.url else None)
    try:
        await page.goto(house.url + "/")
        await page.fill("input[name=username]", person)
        await page.fill("input[name=password]", PASSWORD)
        await page.click("[type=submit]")
        await page.wait_for_url(f"{house.url}/**")
        for fragment, awaited in pages:
            await page.goto(f"{house.url}/{fragment}")
            await page.get_by_text(re.compile(awaited)).first.wait_for(timeout=60_000)
            texts.append(await page.inner_text("body"))
            notes = page.locator(NOTES)
            said = [await notes.nth(n).inner_text() for n in range(await notes.count())]
            assert not [text for text in said if text.strip()], fragment
        return texts, [url for url in outside if not url.startswith(("data:", "blob:"))]
    finally:
        await browser.close()


@pytest.mark.asyncio
async def test_a_member_sees_the_run_and_a_stranger_sees_nothing(chromium):
    async with tracking_house() as house, async_playwright() as playwright:
        experiment = await house.experiment("bob", "demo")
        run = (await house.run("bob", experiment, run_name="hidden-marker"))["info"]["run_id"]
        await house.post(
            "bob", "/runs/log-metric", run_id=run, key="accuracy", value=0.9, timestamp=1, step=0
        )
        file = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/page.html"
        html = b"<p>before</p><script>document.querySelector('p').textContent = 'drawn'</script>"
        assert (await house.ask("bob", "PUT", file, content=html)).status_code == 200
        base = f"#/experiments/{experiment}"
        texts, outside = await walk(
            playwright,
            chromium,
            house,
            "vic",
            [
                ("#/experiments", "^demo$"),
                (f"{base}/runs", "hidden-marker"),
                (f"{base}/runs/{run}", "accuracy"),
                (f"{base}/runs/{run}/artifacts/page.html", "page.html"),
                (f"{base}/models", "Agent versions|Models"),
                ("#/models", "Registered Models|Model registry|Create"),
            ],
        )
        assert "Created by" in texts[2] and "bob" in texts[2]
        assert not any("Welcome to MLflow Assistant" in text for text in texts)
        assert not any("collects usage data" in text for text in texts)
        assert not outside
        texts, outside = await walk(
            playwright,
            chromium,
            house,
            "eve",
            [
                ("#/experiments", "Experiments"),
                (f"{base}/runs/{run}", "not found|Not Found|404|error"),
            ],
        )
        assert not any("hidden-marker" in text or "accuracy" in text for text in texts)
        assert not outside
