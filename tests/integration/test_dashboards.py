"""The process `dashboards` behind a real hub and proxy: who sees what, and who reaches a kernel."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
import pytest_asyncio
import websockets
from sqlalchemy import delete

from hub_config import keys
from hub_config.storage.database import write
from hub_config.storage.schema import members
from tests.hub_fixture import until
from tests.integration.dashboards_world import PREFIX, World, printed, temp_dashboards

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world():
    async with temp_dashboards() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(world: World):
    """A view of vic's, by cookie, that no test ends: the browser, the view's id, its kernel's."""
    browser = await world.browser("vic")
    view, kernel, page = await world.view(browser, "live", "?n=7&unit=ms")
    assert page.status_code == 200, page.text
    yield browser, view, kernel, page
    await browser.aclose()


async def shut(world: World, browser: httpx.AsyncClient, kernel: str, **headers: str):
    headers = headers or {"Origin": world.hub.url}
    return await browser.post(f"{PREFIX}voila/api/shutdown/{kernel}", headers=headers)


def channels(world: World, kernel: str, **kwargs):
    url = world.hub.url.replace("http", "ws") + f"{PREFIX}api/kernels/{kernel}/channels"
    return websockets.connect(f"{url}?session_id=x", max_size=None, open_timeout=20, **kwargs)


async def status_of(connection) -> int:
    """The status with which a websocket is refused, or 101."""
    try:
        async with connection:
            return 101
    except websockets.InvalidStatus as refused:
        return refused.response.status_code


def cookie(browser: httpx.AsyncClient) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{c.name}={c.value}" for c in browser.cookies.jar)}


# Who sees a dashboard ---------------------------------------------------------------------------


async def test_a_dashboard_is_for_members(world):
    async with world.client(None) as nobody, world.client("out") as outsider:
        answer = await nobody.get(f"{PREFIX}demo/live")
        assert answer.status_code == 302
        assert answer.headers["location"].startswith("/hub/api/oauth2/authorize?")
        assert (await outsider.get(f"{PREFIX}demo/live")).status_code == 404
        assert (await outsider.get(f"{PREFIX}demo/nothing")).status_code == 404
        wrong = {"Authorization": "Bearer nonsense"}
        assert (await nobody.get(f"{PREFIX}demo/live", headers=wrong)).status_code == 401
        assert (await nobody.get(f"{PREFIX}health")).json()["status"] == "ok"
    async with world.client("vic") as viewer:
        assert (await viewer.get(f"{PREFIX}demo/nothing")).status_code == 404
        assert (await viewer.get(PREFIX)).headers["location"] == "/services/cuaderno/dashboards"


async def test_signing_in_leaves_a_cookie_for_this_service_only(world):
    session = await world.hub.sign_in("vic")
    begun = await session.get(f"{PREFIX}demo/nothing?x=1")
    state = begun.headers["set-cookie"]
    assert "HttpOnly" in state and f"Path={PREFIX}" in state
    authorized = await session.get(begun.headers["location"])
    callback = authorized.headers["location"]
    # Elsewhere the callback signs nobody in: without a state, and with another one.
    async with httpx.AsyncClient(base_url=world.hub.url) as stranger:
        assert (await stranger.get(callback)).status_code == 401
        await stranger.get(f"{PREFIX}demo/nothing")
        answer = await stranger.get(callback)
        assert answer.status_code == 401 and "another browser" in answer.text
    done = await session.get(callback)
    assert done.headers["location"] == f"{PREFIX}demo/nothing?x=1"
    token = next(c for c in done.headers.get_list("set-cookie") if "service-dashboards=" in c)
    for part in ("HttpOnly", f"Path={PREFIX}", "SameSite=lax"):
        assert part.lower() in token.lower()
    await session.aclose()


async def test_the_page_runs_at_its_commit_and_shows_no_warnings(world, live):
    _, _, _, page = live
    assert page.headers["content-encoding"] == "gzip"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert json.loads(printed(page.text)) == {"query": "n=7&unit=ms", "answer": 42}
    assert "a warning for nobody" not in page.text


async def test_a_page_is_given_once_and_a_second_time_means_a_new_view(world, live):
    browser, view, _, _ = live
    again = await browser.get(f"{PREFIX}api/views/{view}/page")
    assert again.headers["location"] == f"{PREFIX}demo/live?n=7&unit=ms"


async def test_a_kernel_gets_a_token_that_reads_and_none_of_our_secrets(world):
    async with world.client("ana") as editor:
        _, kernel, page = await world.view(editor, "environment")
        environment = json.loads(printed(page.text))
        await shut(world, editor, kernel)
    assert environment["CUADERNO_PROJECT"] == "demo"
    assert environment["CUADERNO_URL"] == world.hub.url
    assert environment["CUADERNO_TOKEN"].startswith("cu_")
    ours = {keys.secret(world.hub.settings, name) for name in keys.NAMES}
    assert not ours & set(environment.values())
    assert not {n for n in environment if n.startswith(("CUADERNO_D", "JUPYTERHUB"))} - {
        "CUADERNO_DASHBOARDS_MARK"
    }


# What goes wrong --------------------------------------------------------------------------------


async def test_a_failing_cell_is_a_500_that_says_which_and_to_editors_why(world):
    before = len(world.kernels())
    async with world.client("vic") as viewer, world.client("ana") as editor:
        _, _, page = await world.view(viewer, "fails")
        assert page.status_code == 500
        assert "cell 2 of 2 (“The division”)" in page.text
        assert "ZeroDivisionError" not in page.text and "editors only" not in page.text
        _, _, page = await world.view(editor, "fails")
        assert page.status_code == 500
        assert "ZeroDivisionError: division by zero" in page.text and "editors only" in page.text
        _, _, page = await world.view(editor, "dies")
        assert page.status_code == 500 and "the kernel ended" in page.text
    await until(lambda: len(world.kernels()) == before, what="the end of failed kernels")


async def test_a_kernel_that_cannot_start_is_an_error_page(world):
    spec = world.hub.settings.jupyter_dir / "kernels" / "python3" / "kernel.json"
    good = spec.read_text()
    try:
        for argv in (["/bin/false", "{connection_file}"], ["/nonexistent/python"]):
            spec.write_text(json.dumps({**json.loads(good), "argv": argv}))
            async with world.client("vic") as viewer:
                _, _, page = await asyncio.wait_for(world.view(viewer, "live"), 30)
            assert page.status_code == 500 and "The kernel could not start" in page.text
    finally:
        spec.write_text(good)


# Who reaches a kernel ---------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["val", "ana", "out"])
async def test_another_who_knows_the_kernel_reaches_it_by_no_route(world, live, who):
    browser, view, kernel, _ = live
    async with world.client(who) as other:
        for path in (f"api/kernels/{kernel}", f"api/views/{view}", f"api/views/{view}/page"):
            assert (await other.get(PREFIX + path)).status_code == 404, path
        assert (await shut(world, other, kernel)).status_code == 404
        assert (await other.delete(f"{PREFIX}api/kernels/{kernel}")).status_code in (404, 405)
        headers = {"Authorization": f"Bearer {world.tokens[who]}"}
    assert await status_of(channels(world, kernel, additional_headers=headers)) == 404
    assert (await browser.get(f"{PREFIX}api/kernels/{kernel}")).status_code == 200


async def test_nobody_in_particular_reaches_no_kernel(world, live):
    _, view, kernel, _ = live
    async with world.client(None) as nobody:
        assert (await nobody.get(f"{PREFIX}api/kernels/{kernel}")).status_code == 403
        assert (await nobody.get(f"{PREFIX}api/views/{view}")).status_code == 403
        assert (await shut(world, nobody, kernel)).status_code == 403
    assert await status_of(channels(world, kernel)) == 403


async def test_a_websocket_is_for_pages_of_this_origin(world, live):
    browser, _, kernel, _ = live
    mine = cookie(browser)
    for origin in ("http://evil.example", "null", f"{world.hub.url}.evil.example", None):
        connection = channels(world, kernel, additional_headers=mine, origin=origin)
        assert await status_of(connection) == 403, origin
    own = channels(world, kernel, additional_headers=mine, origin=world.hub.url)
    assert await status_of(own) == 101


async def test_a_viewer_runs_no_code(world, live):
    browser, _, kernel, _ = live
    marker = world.hub.settings.data_dir / "ran"
    header = {"version": "5.3", "session": "x", "username": "", "date": ""}

    def message(kind: str, channel: str = "shell", **content) -> str:
        named = {**header, "msg_id": kind, "msg_type": kind}
        return json.dumps(
            {"header": named, "parent_header": {}, "metadata": {}, "content": content}
            | {"channel": channel}
        )

    code = f"open({str(marker)!r}, 'w').close()"
    own = channels(world, kernel, additional_headers=cookie(browser), origin=world.hub.url)
    async with own as socket:
        for channel in ("shell", "control"):
            await socket.send(
                message("execute_request", channel, code=code, silent=False, allow_stdin=False)
            )
        await socket.send(message("shutdown_request", "control", restart=False))
        # Answered after what came before it: a kernel takes one message after the other.
        await socket.send(message("comm_info_request"))
        async with asyncio.timeout(20):
            async for said in socket:
                kind = json.loads(said)["msg_type"] if isinstance(said, str) else ""
                if kind == "comm_info_reply":
                    break
    assert not marker.exists()
    assert (await browser.get(f"{PREFIX}api/kernels/{kernel}")).status_code == 200


async def test_what_voila_and_jupyter_server_offer_beside_is_not_there(world, live):
    browser, _, kernel, _ = live
    for path in (
        "api/contents",
        "api/contents/demo",
        "api/kernels",
        "api/sessions",
        "api/terminals",
        "voila/api/contents/demo",
        "voila/tree/demo/x",
        "voila/files/demo/live.ipynb",
        "voila/render/demo/live.ipynb",
        f"voila/execution/{kernel}",
        f"voila/query/{kernel}",
    ):
        assert (await browser.get(PREFIX + path)).status_code == 404, path
    answer = await browser.post(f"{PREFIX}api/kernels", headers={"Origin": world.hub.url})
    assert answer.status_code in (403, 404, 405)


# When a kernel ends -----------------------------------------------------------------------------


async def test_the_beacon_of_a_closing_tab_ends_its_kernel_if_it_is_our_own_page(world, live):
    browser, *_ = live
    _, kernel, _ = await world.view(browser, "environment")
    assert (await shut(world, browser, kernel, Origin="http://evil.example")).status_code == 403
    assert (await shut(world, browser, kernel, Accept="*/*")).status_code == 403
    assert world.kernels(kernel)
    assert (await shut(world, browser, kernel)).status_code == 204
    await until(lambda: not world.kernels(kernel), what="the kernel's end")


async def test_who_is_no_longer_a_member_loses_what_is_open(world):
    async with world.client("val") as client:
        view, kernel, _ = await world.view(client, "environment")
        headers = {"Authorization": f"Bearer {world.tokens['val']}"}
        async with channels(world, kernel, additional_headers=headers) as socket:
            with write(world.hub.engine) as connection:
                connection.execute(delete(members).where(members.c.person == "val"))
            assert (await client.get(f"{PREFIX}api/kernels/{kernel}")).status_code == 404
            async with asyncio.timeout(30):
                await socket.wait_closed()
        assert (await client.get(f"{PREFIX}api/views/{view}")).status_code == 404
    await until(lambda: not world.kernels(kernel), what="the kernel's end")


async def test_no_kernel_outlives_the_process_whether_it_is_stopped_or_killed(world):
    async with world.client("vic") as client:
        await world.view(client, "environment")
        await world.hub.kill("dashboards")
        await world.start()
        assert not world.kernels()
        await world.view(client, "environment")
    assert len(world.kernels()) == 1
    process = world.hub.processes["dashboards"]
    process.terminate()
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert not world.kernels()
