"""The hub with its proxy, for real: who signs in, who gets where, what a server is given."""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest
import pytest_asyncio

from hub_config import keys
from hub_config.accounts import store
from hub_config.accounts.model import State
from hub_config.spawning.places import places
from tests.hub_fixture import PASSWORD, TempHub, temp_hub, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub() -> AsyncIterator[TempHub]:
    async with temp_hub() as made:
        for name in ("ana", "bob", "outsider"):
            await made.add_account(name)
        await made.make_project("demo", entrants=("ana", "bob"))
        yield made


def bearer(hub: TempHub, token: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"token {token}"}
    return httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=60)


async def started(hub: TempHub, account: str, token: str = "") -> psutil.Process:
    """The process of the account's server, started if need be."""
    await hub.api("POST", f"/users/{account}/server", token=token)

    async def pid() -> int:
        async with bearer(hub, token or keys.secret(hub.settings, "service-cuaderno")) as client:
            answer = await client.get(f"/user/{account}/api/status")
        return answer.status_code == 200

    await until(pid, seconds=30, what=f"the server of {account}")
    return server_process(hub, account)


def server_process(hub: TempHub, account: str) -> psutil.Process:
    wanted = f"{hub.settings.data_dir}:{account}"
    return min(
        (p for p in psutil.process_iter() if environ(p).get("CUADERNO_SERVER_MARK") == wanted),
        key=lambda p: p.create_time(),
    )


def environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


async def enter(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """Open a page as a browser does: follow redirects, give the hub's consent where asked."""
    url, headers = httpx.URL(path), {"Sec-Fetch-Mode": "navigate"}
    for _ in range(12):
        answer = await client.get(url, headers=headers)
        if answer.status_code == 200 and answer.url.path.endswith("/oauth2/authorize"):
            form = {
                "_xsrf": re.findall(r'name="_xsrf" value="([^"]+)"', answer.text)[0],
                "scopes": re.findall(r'name="scopes" value="([^"]+)"', answer.text),
            }
            page = {"Referer": str(answer.url), **headers}
            answer = await client.post(answer.url, data=form, headers=page)
        if answer.status_code not in (301, 302, 303):
            return answer
        url = answer.url.join(answer.headers["location"])
    raise AssertionError("too many redirects")


async def test_sign_in(hub: TempHub) -> None:
    browser = await hub.sign_in("ana")
    first = await browser.get("/hub/")
    assert first.headers["location"] == "/services/cuaderno/"
    page = await httpx.AsyncClient(base_url=hub.url).get("/hub/login")
    assert "/services/cuaderno/signup" in page.text
    assert "//cdn" not in page.text and "https://" not in page.text


async def test_wrong_passwords_are_throttled_whatever_the_name(hub: TempHub) -> None:
    await hub.add_account("careless")
    for name in ("careless", "nobody-here"):
        async with httpx.AsyncClient(base_url=hub.url) as browser:
            for _ in range(5):
                answer = await hub.post_login(browser, name, "wrong-Password-1")
                assert answer.status_code == 403
                assert "Invalid username or password" in answer.text
            last = await hub.post_login(browser, name, PASSWORD)
            assert last.status_code == 429
            assert "Too many attempts to sign in. Try again in" in last.text


async def test_an_account_that_waits_or_has_a_project_s_name_cannot_sign_in(hub: TempHub) -> None:
    store.add(
        hub.engine,
        "waiting",
        store.password_hash(hub.engine, "ana") or "",
        state=State.PENDING,
        admin=False,
        by=None,
    )
    async with httpx.AsyncClient(base_url=hub.url) as browser:
        answer = await hub.post_login(browser, "waiting", PASSWORD)
        assert (answer.status_code, "approval" in answer.text) == (403, True)
        answer = await hub.post_login(browser, "waiting", "wrong-Password-1")
        assert "approval" not in answer.text
        assert (await hub.post_login(browser, "project-demo", PASSWORD)).status_code == 403


async def test_a_server_gets_our_kernels_its_folders_and_no_secret(hub: TempHub) -> None:
    token = await hub.user_token("ana")
    process = await started(hub, "ana", token)
    async with bearer(hub, token) as client:
        specs = (await client.get("/user/ana/api/kernelspecs")).json()
        assert (specs["default"], list(specs["kernelspecs"])) == ("python3", ["python3"])
        kernel = (await client.post("/user/ana/api/kernels", json={})).json()
        here = places(hub.settings, "ana")
        connection = json.loads((here.runtime / f"kernel-{kernel['id']}.json").read_text())
        assert connection["transport"] == "ipc"
        assert (await client.get("/user/ana/api/kernels")).status_code == 200
    for folder in (here.home, here.runtime):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o777 == 0o700
    env = environ(process)
    assert (env["CUADERNO_USER"], env["CUADERNO_URL"]) == ("ana", hub.url)
    assert "CUADERNO_PROJECT" not in env and "CUADERNO_DATA_DIR" not in env
    secrets = {keys.secret(hub.settings, name) for name in keys.NAMES}
    assert not secrets & set(env.values())
    assert not any(part in secrets for part in " ".join(process.cmdline()).split())


async def test_a_server_s_token_reaches_portal_and_tracking_only(hub: TempHub) -> None:
    process = await started(hub, "project-demo")
    token = environ(process)["JUPYTERHUB_API_TOKEN"]
    assert environ(process)["CUADERNO_PROJECT"] == "demo"
    model = (await hub.api("GET", "/user", token=token)).json()
    assert {s for s in model["scopes"] if s.startswith("access:services")} == {
        "access:services!service=cuaderno",
        "access:services!service=mlflow",
    }
    assert (await hub.api("GET", "/users", token=token)).status_code == 403


async def test_a_kernel_of_a_shared_server_knows_who_started_it(hub: TempHub) -> None:
    process = await started(hub, "project-demo")
    for name in ("ana", "bob"):
        async with bearer(hub, await hub.user_token(name)) as client:
            body = {"path": name, "name": "", "type": "console", "kernel": {"name": "python3"}}
            made = await client.post("/user/project-demo/api/sessions", json=body)
            assert made.status_code == 201, made.text
    kernels = [environ(p) for p in process.children() if "ipykernel_launcher" in p.cmdline()]
    assert sorted(e["CUADERNO_STARTED_BY"] for e in kernels) == ["ana", "bob"]
    assert {e["CUADERNO_PROJECT"] for e in kernels} == {"demo"}


async def test_members_enter_the_shared_server_and_nobody_else(hub: TempHub) -> None:
    await started(hub, "project-demo")
    for name, status in (("ana", 200), ("bob", 200), ("outsider", 403)):
        browser = await hub.sign_in(name)
        assert (await enter(browser, "/user/project-demo/lab")).status_code == status
        seen = await browser.get("/user/project-demo/api/contents")
        assert seen.status_code == status
        async with bearer(hub, await hub.user_token(name)) as client:
            assert (await client.get("/user/project-demo/api/contents")).status_code == status
    other = await hub.sign_in("bob")
    assert (await enter(other, "/user/ana/lab")).status_code == 403

    bob = await hub.user_token("bob")
    (await hub.api("PATCH", "/shares/project-demo/", json={"user": "bob"})).raise_for_status()
    async with bearer(hub, bob) as client:

        async def refused() -> bool:
            return (await client.get("/user/project-demo/api/contents")).status_code == 403

        await until(refused, seconds=25, what="the end of bob's access")


async def test_the_portal_s_scopes_end_at_project_accounts(hub: TempHub) -> None:
    for method, path, body in (
        ("POST", "/users/ana/server", None),
        ("GET", "/users/ana/tokens", None),
        ("POST", "/users/ana/tokens", {}),
        ("POST", "/shares/ana/", {"user": "bob"}),
        ("POST", "/groups/another", None),
        ("GET", "/proxy", None),
    ):
        answer = await hub.api(method, path, json=body)
        assert answer.status_code in (403, 404), (method, path)
    raised = await hub.api("PATCH", "/users/ana", json={"admin": True})
    assert raised.status_code == 403
    assert (await hub.api("GET", "/proxy", service="supervisor")).status_code == 200
    assert (await hub.api("GET", "/users", service="mlflow")).status_code == 403


async def test_a_disabled_person_loses_hub_and_servers(hub: TempHub) -> None:
    await hub.add_account("leaver")
    (await hub.api("POST", "/shares/project-demo/", json={"user": "leaver"})).raise_for_status()
    await started(hub, "project-demo")
    token, browser = await hub.user_token("leaver"), await hub.sign_in("leaver")
    assert (await hub.api("GET", "/user", token=token)).status_code == 200
    async with bearer(hub, token) as client:
        assert (await client.get("/user/project-demo/api/contents")).status_code == 200
        store.decide(
            hub.engine,
            "leaver",
            expected=State.ACTIVE,
            state=State.DISABLED,
            by="test",
            keep_an_admin=False,
        )

        async def is_out() -> bool:
            by_token = await hub.api("GET", "/user", token=token)
            by_cookie = await browser.get("/hub/home")
            at_server = await client.get("/user/project-demo/api/contents")
            statuses = [answer.status_code for answer in (by_token, by_cookie, at_server)]
            return statuses == [403, 302, 403]

        await until(is_out, seconds=30, what="the end of the access")
        answer = await hub.post_login(browser, "leaver", PASSWORD)
        assert (answer.status_code, "disabled" in answer.text) == (403, True)


async def test_nothing_of_a_session_lands_in_the_repository(hub: TempHub) -> None:
    await started(hub, "project-demo")
    token = keys.secret(hub.settings, "service-cuaderno")
    repo = places(hub.settings, "project-demo").root
    async with bearer(hub, token) as client:
        base = "/user/project-demo/api"
        notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (repo / "deep").mkdir(exist_ok=True)
        made = await client.put(
            f"{base}/contents/deep/one.ipynb", json={"type": "notebook", "content": notebook}
        )
        assert made.status_code == 201, made.text
        kept = await client.post(f"{base}/contents/deep/one.ipynb/checkpoints")
        assert kept.status_code == 201, kept.text
        session = await client.put(
            f"{base}/collaboration/session/deep/one.ipynb",
            json={"format": "json", "type": "notebook"},
        )
        assert session.status_code in (200, 201), session.text
    assert [str(p.relative_to(repo)) for p in repo.rglob("*")] == ["deep", "deep/one.ipynb"]
    checkpoints = places(hub.settings, "project-demo").data / "checkpoints"
    assert list(checkpoints.rglob("*.ipynb"))


async def test_stopping_a_server_leaves_nothing_of_it(hub: TempHub) -> None:
    token = await hub.user_token("ana")
    process = await started(hub, "ana", token)
    async with bearer(hub, token) as client:
        terminal = (await client.post("/user/ana/api/terminals")).json()["name"]
        assert terminal
    shells = [p for p in process.children(recursive=True) if p.name() == "bash"]
    assert shells
    begun = time.monotonic()
    stopped = await hub.api("DELETE", "/users/ana/server", token=token)
    assert stopped.status_code in (202, 204)
    await until(lambda: not process.is_running(), seconds=20, what="the end of the server")
    await until(lambda: not any(p.is_running() for p in shells), seconds=10)
    assert time.monotonic() - begun < 20


async def test_a_killed_hub_finds_its_servers_again(hub: TempHub) -> None:
    token = await hub.user_token("bob")
    before = await started(hub, "bob", token)
    await hub.kill("hub")
    assert before.is_running()
    await hub.start_hub()
    async with bearer(hub, token) as client:
        assert (await client.get("/user/bob/api/status")).status_code == 200
    model = (await hub.api("GET", "/users/bob", token=token)).json()
    assert model["servers"][""]["ready"]
    assert server_process(hub, "bob").pid == before.pid
    await hub.api("DELETE", "/users/bob/server", token=token)
    await until(lambda: not before.is_running(), seconds=20, what="the end of the server")


async def test_a_server_killed_outright_is_noticed_and_starts_again(hub: TempHub) -> None:
    token = await hub.user_token("bob")
    process = await started(hub, "bob", token)
    process.kill()
    await until(lambda: not process.is_running() or process.status() == "zombie")

    async def again() -> bool:
        answer = await hub.api("POST", "/users/bob/server", token=token)
        return answer.status_code in (201, 202)

    await until(again, seconds=30, what="a new start")
    assert (await started(hub, "bob", token)).pid != process.pid


async def test_the_log_holds_no_secret(hub: TempHub) -> None:
    text = hub.log("hub") + hub.log("proxy")
    for name in keys.NAMES:
        assert keys.secret(hub.settings, name) not in text
    assert PASSWORD not in text
    for process in psutil.process_iter():
        token = environ(process).get("JUPYTERHUB_API_TOKEN")
        if token and environ(process).get("CUADERNO_PLATFORM") == str(hub.settings.data_dir):
            assert token not in text
