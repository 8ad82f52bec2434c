"""What counts as a program, and what as a browser that another site may have sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from tornado.web import RequestHandler

from hub_config.dashboards.signin import HubIdentityProvider, from_own_page


def asked(**headers: str) -> RequestHandler:
    request = SimpleNamespace(headers=headers, host="here.org")
    return cast(RequestHandler, SimpleNamespace(request=request))


@pytest.mark.parametrize("header", ["Basic x", "Bearer", "Bearer ", "x"])
def test_a_header_without_a_token_makes_no_program_of_a_browser(header: str) -> None:
    handler = asked(Authorization=header, Origin="https://evil.org")
    assert not from_own_page(handler)
    assert not HubIdentityProvider().is_token_authenticated(handler)


def test_a_program_shows_a_token_and_a_browser_its_origin() -> None:
    assert from_own_page(asked(Authorization="Bearer t"))
    assert HubIdentityProvider().is_token_authenticated(asked(Authorization="token t"))
    assert from_own_page(asked(Origin="https://here.org"))
    assert not from_own_page(asked())
