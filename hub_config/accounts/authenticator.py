"""JupyterHub's authenticator over our accounts.

Whether an account is active is asked again every few seconds, also for tokens
(`auth_refresh_strict`), so a person who is disabled loses the hub and every server with it.
Accounts of projects never sign in; they only own servers.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jupyterhub.auth import Authenticator
from tornado import web
from traitlets import Instance, default

from hub_config.accounts.domain import Accounts
from hub_config.accounts.model import check_name
from hub_config.errors import CuadernoError, Invalid
from hub_config.identity import PROJECT_ACCOUNT_PREFIX
from hub_config.settings import Settings
from hub_config.storage.database import open_database


class LocalAccounts(Authenticator):
    """Signs people in with the accounts of our database."""

    settings = Instance(Settings).tag(config=True)
    accounts = Instance(Accounts)

    @default("accounts")
    def _open_accounts(self) -> Accounts:
        return Accounts(open_database(self.settings.database_url))

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # argon2 takes 64 MiB and a core for each password: two at a time are enough.
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="sign-in")

    async def _run(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def validate_username(self, username: str) -> bool:
        """Which names hub accounts may have: those of people, and those of projects."""
        try:
            return bool(check_name(username.removeprefix(PROJECT_ACCOUNT_PREFIX)))
        except Invalid:
            return False

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        name = self.normalize_username(data.get("username", "").strip())
        try:
            check_name(name)
        except Invalid:
            return None
        try:
            account = await self._run(self.accounts.sign_in, name, data.get("password", ""))
        except CuadernoError as error:
            raise web.HTTPError(error.status, error.detail.replace("%", "%%")) from error
        return {"name": account.name, "admin": account.admin} if account else None

    def check_allowed(self, username: str, authentication: dict[str, Any] | None = None) -> bool:
        # Existing hub users are checked without authentication, at the hub's start.
        return True

    async def refresh_user(self, user: Any, handler: Any = None) -> bool:
        if user.name.startswith(PROJECT_ACCOUNT_PREFIX):
            return True
        return await self._run(self.accounts.is_active, user.name)
