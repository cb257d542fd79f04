# SPDX-License-Identifier: Apache-2.0
"""The control plane's calls about who may call it: device login, API tokens, people. A pair of twins.

api_accounts says what a call does; control_plane joins these with the other groups.
"""

from __future__ import annotations

import asyncio
import sys
import time
import webbrowser
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from thalovant import api_accounts
from thalovant.control_base import AsyncCalls, BlockingCalls
from thalovant.device_login import ApiToken, DeviceAuthorization, DeviceLoginRequest

__all__ = ["AsyncControlAccounts", "ControlAccounts"]

Prompt = Callable[[dict[str, Any]], None]


def _show(login: dict[str, Any]) -> None:
    """Tell whoever sits at the terminal, on standard error: standard output may be read by a program."""
    sys.stderr.write(f"Open {login['verification_uri']} and type the code {login['user_code']}\n")
    sys.stderr.flush()


def _shown(authorization: DeviceAuthorization) -> dict[str, Any]:
    """What a prompt is told: all but the secret."""
    return {name: value for name, value in authorization.as_dict().items() if name != "device_code"}


def _address(authorization: DeviceAuthorization) -> str:
    return authorization.verification_uri_complete or authorization.verification_uri


class AsyncControlAccounts(AsyncCalls):
    """Who may call the control plane, for asyncio."""

    async def begin_device_login(
        self,
        *,
        scopes: Iterable[str] | None = None,
        client_name: str | None = None,
        client_id: str | None = None,
    ) -> DeviceAuthorization:
        """Begin a sign-in that somebody approves in a browser (contract 4.4); needs no sign-in.

        Show `user_code` and `verification_uri`, then call poll_device_login every `interval` seconds. Without `scopes`
        it asks for hubs:read and clients:write.
        """
        return await self._run(api_accounts.begin_device_login(scopes, client_name, client_id))

    async def poll_device_login(self, authorization: DeviceAuthorization | str) -> ApiToken:
        """Ask once whether somebody approved; keeps the token and returns it.

        `authorization` may be the device code alone. Raises ThalovantDeviceLoginPending (wait its `interval` and call
        again), ThalovantDeviceLoginDenied or ThalovantDeviceLoginExpired.
        """
        return await self._run(api_accounts.poll_device_login(self._session, authorization))

    async def login_with_browser(
        self,
        *,
        scopes: Iterable[str] | None = None,
        client_name: str | None = None,
        open_browser: bool = True,
        prompt: Prompt | None = None,
        timeout: float = 900.0,
        client_id: str | None = None,
    ) -> dict[str, Any]:
        """Sign in by a browser, of this machine or another: shows a code, opens the page, waits for the answer.

        `prompt` is called with `user_code`, `verification_uri` and the rest to show, instead of a line on standard
        error; `timeout` is seconds. Keeps the token and returns it with its scopes. Raises ThalovantDeviceLoginDenied
        or ThalovantDeviceLoginExpired.
        """
        begun = await self.begin_device_login(scopes=scopes, client_name=client_name, client_id=client_id)
        (prompt or _show)(_shown(begun))
        if open_browser:
            await asyncio.to_thread(webbrowser.open, _address(begun))
        token = await self._run(api_accounts.wait_for_device_login(self._session, begun, timeout, time.monotonic))
        return token.as_dict()

    async def describe_device_login(self, user_code: str) -> DeviceLoginRequest:
        """Who asks to be signed in and for what, before you approve it.

        Raises ThalovantAPIError with status 404 when the code is unknown, expired or answered.
        """
        return await self._run(api_accounts.describe_device_login(user_code))

    async def approve_device_login(
        self, user_code: str, *, scopes: Iterable[str] | None = None, hub_ids: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Let a device sign in as you; returns what it gets.

        It never gets more than it asked for, nor than your own token has; `scopes` and `hub_ids` make it less. Needs
        the scope `tokens:write`.
        """
        return await self._run(api_accounts.approve_device_login(user_code, scopes, hub_ids))

    async def deny_device_login(self, user_code: str) -> None:
        """Refuse a device; it is told so."""
        await self._run(api_accounts.deny_device_login(user_code))

    async def create_api_token(
        self,
        name: str,
        *,
        scopes: Iterable[str],
        hub_ids: Iterable[str] | None = None,
        expires_in_seconds: int | None = None,
    ) -> dict[str, Any]:
        """Make a token for a program; `access_token` is told this once.

        It can do no more than your own token. `hub_ids` limit it to some hubs; without `expires_in_seconds` it is good
        until it is revoked (revoke_api_token). Needs the scope `tokens:write`.
        """
        return await self._run(api_accounts.create_api_token(name, scopes, hub_ids, expires_in_seconds))

    async def list_api_tokens(
        self, *, limit: int = 100, cursor: str | None = None, kind: str | None = None, owner_id: str | None = None
    ) -> dict[str, Any]:
        """A page of your tokens that are good, without themselves: `data`, and `meta.next` to hand back as `cursor`.

        `kind` is `api` or `device` (both without it), or `session` for password logins. Needs `tokens:write`.
        """
        return await self._run(api_accounts.list_api_tokens(limit, cursor, kind, owner_id))

    async def list_users(self, *, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
        """A page of the server's accounts, for admins: `data`, and `meta.next` to hand back as `cursor`."""
        return await self._run(api_accounts.list_users(limit, cursor))

    async def invite_user(self, email: str, *, display_name: str | None = None, role: str = "user") -> dict[str, Any]:
        """Invite somebody, as an admin; `invitation_token` is told this once and good for seven days.

        `role` is `user` or `admin`. Raises ThalovantAPIError with code `email_in_use` (409).
        """
        return await self._run(api_accounts.invite_user(email, display_name, role))

    async def invite_user_again(self, user_id: str) -> dict[str, Any]:
        """Give out another `invitation_token`, as an admin: the first was lost, or the password is."""
        return await self._run(api_accounts.invite_user_again(user_id))

    async def update_user(self, user_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Change an account's `active`, `role` or `display_name`, as an admin; returns it.

        `active` False ends its tokens at once; its hubs and clients stay. Raises ThalovantAPIError with code
        `last_admin` (409) when nobody could sign in as an admin any more.
        """
        return await self._run(api_accounts.update_user(user_id, payload))

    async def accept_invitation(self, token: str, password: str, *, display_name: str | None = None) -> dict[str, Any]:
        """Choose the password of an account with an invitation; returns the account. Needs no sign-in; login() then."""
        return await self._run(api_accounts.accept_invitation(token, password, display_name))

    async def change_password(self, current_password: str, new_password: str) -> None:
        """Change your password: every other sign-in of yours ends, API tokens stay.

        Raises ThalovantAPIError with code `wrong_password` (403).
        """
        await self._run(api_accounts.change_password(current_password, new_password))


class ControlAccounts(BlockingCalls):
    """Who may call the control plane, for code that blocks."""

    def begin_device_login(
        self,
        *,
        scopes: Iterable[str] | None = None,
        client_name: str | None = None,
        client_id: str | None = None,
    ) -> DeviceAuthorization:
        """Begin a sign-in that somebody approves in a browser (contract 4.4); needs no sign-in.

        Show `user_code` and `verification_uri`, then call poll_device_login every `interval` seconds. Without `scopes`
        it asks for hubs:read and clients:write.
        """
        return self._run(api_accounts.begin_device_login(scopes, client_name, client_id))

    def poll_device_login(self, authorization: DeviceAuthorization | str) -> ApiToken:
        """Ask once whether somebody approved; keeps the token and returns it.

        `authorization` may be the device code alone. Raises ThalovantDeviceLoginPending (wait its `interval` and call
        again), ThalovantDeviceLoginDenied or ThalovantDeviceLoginExpired.
        """
        return self._run(api_accounts.poll_device_login(self._session, authorization))

    def login_with_browser(
        self,
        *,
        scopes: Iterable[str] | None = None,
        client_name: str | None = None,
        open_browser: bool = True,
        prompt: Prompt | None = None,
        timeout: float = 900.0,
        client_id: str | None = None,
    ) -> dict[str, Any]:
        """Sign in by a browser, of this machine or another: shows a code, opens the page, waits for the answer.

        `prompt` is called with `user_code`, `verification_uri` and the rest to show, instead of a line on standard
        error; `timeout` is seconds. Keeps the token and returns it with its scopes. Raises ThalovantDeviceLoginDenied
        or ThalovantDeviceLoginExpired.
        """
        begun = self.begin_device_login(scopes=scopes, client_name=client_name, client_id=client_id)
        (prompt or _show)(_shown(begun))
        if open_browser:
            webbrowser.open(_address(begun))
        token = self._run(api_accounts.wait_for_device_login(self._session, begun, timeout, time.monotonic))
        return token.as_dict()

    def describe_device_login(self, user_code: str) -> DeviceLoginRequest:
        """Who asks to be signed in and for what, before you approve it.

        Raises ThalovantAPIError with status 404 when the code is unknown, expired or answered.
        """
        return self._run(api_accounts.describe_device_login(user_code))

    def approve_device_login(
        self, user_code: str, *, scopes: Iterable[str] | None = None, hub_ids: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Let a device sign in as you; returns what it gets.

        It never gets more than it asked for, nor than your own token has; `scopes` and `hub_ids` make it less. Needs
        the scope `tokens:write`.
        """
        return self._run(api_accounts.approve_device_login(user_code, scopes, hub_ids))

    def deny_device_login(self, user_code: str) -> None:
        """Refuse a device; it is told so."""
        self._run(api_accounts.deny_device_login(user_code))

    def create_api_token(
        self,
        name: str,
        *,
        scopes: Iterable[str],
        hub_ids: Iterable[str] | None = None,
        expires_in_seconds: int | None = None,
    ) -> dict[str, Any]:
        """Make a token for a program; `access_token` is told this once.

        It can do no more than your own token. `hub_ids` limit it to some hubs; without `expires_in_seconds` it is good
        until it is revoked (revoke_api_token). Needs the scope `tokens:write`.
        """
        return self._run(api_accounts.create_api_token(name, scopes, hub_ids, expires_in_seconds))

    def list_api_tokens(
        self, *, limit: int = 100, cursor: str | None = None, kind: str | None = None, owner_id: str | None = None
    ) -> dict[str, Any]:
        """A page of your tokens that are good, without themselves: `data`, and `meta.next` to hand back as `cursor`.

        `kind` is `api` or `device` (both without it), or `session` for password logins. Needs `tokens:write`.
        """
        return self._run(api_accounts.list_api_tokens(limit, cursor, kind, owner_id))

    def list_users(self, *, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
        """A page of the server's accounts, for admins: `data`, and `meta.next` to hand back as `cursor`."""
        return self._run(api_accounts.list_users(limit, cursor))

    def invite_user(self, email: str, *, display_name: str | None = None, role: str = "user") -> dict[str, Any]:
        """Invite somebody, as an admin; `invitation_token` is told this once and good for seven days.

        `role` is `user` or `admin`. Raises ThalovantAPIError with code `email_in_use` (409).
        """
        return self._run(api_accounts.invite_user(email, display_name, role))

    def invite_user_again(self, user_id: str) -> dict[str, Any]:
        """Give out another `invitation_token`, as an admin: the first was lost, or the password is."""
        return self._run(api_accounts.invite_user_again(user_id))

    def update_user(self, user_id: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Change an account's `active`, `role` or `display_name`, as an admin; returns it.

        `active` False ends its tokens at once; its hubs and clients stay. Raises ThalovantAPIError with code
        `last_admin` (409) when nobody could sign in as an admin any more.
        """
        return self._run(api_accounts.update_user(user_id, payload))

    def accept_invitation(self, token: str, password: str, *, display_name: str | None = None) -> dict[str, Any]:
        """Choose the password of an account with an invitation; returns the account. Needs no sign-in; login() then."""
        return self._run(api_accounts.accept_invitation(token, password, display_name))

    def change_password(self, current_password: str, new_password: str) -> None:
        """Change your password: every other sign-in of yours ends, API tokens stay.

        Raises ThalovantAPIError with code `wrong_password` (403).
        """
        self._run(api_accounts.change_password(current_password, new_password))
