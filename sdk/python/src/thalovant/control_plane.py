# SPDX-License-Identifier: Apache-2.0
"""The control plane's client: sign in, look at hubs, make and delete clients.

One class for asyncio, one that blocks. Both are thin: api_calls says what a call does, api_session what it looks
like in HTTP, http_client sends it. Nothing is retried here but a rotation whose answer was lost, and a token is never
sent to another address than the one it is for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Self

from thalovant import api_calls
from thalovant.api_calls import OperationReference
from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.control_accounts import AsyncControlAccounts, ControlAccounts
from thalovant.control_clients import AsyncControlClients, ControlClients
from thalovant.http_client import AsyncHttpClient, HttpClient
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE, HubProtocol
from thalovant.operation import OperationResource
from thalovant.version import USER_AGENT

__all__ = ["AsyncThalovantControlPlane", "BootstrapIdentityResult", "ThalovantControlPlane"]


class AsyncThalovantControlPlane(AsyncControlClients, AsyncControlAccounts):
    """The control plane for asyncio.

    `api_url` None finds the server: `THALOVANT_API_URL`, the login of `thalovant login`,
    `https://localhost:8443`. `timeout` is seconds for one request in all. `session` may be your own
    `httpx2.AsyncClient`; it is not closed. `ca_pem` is PEM text of certificates to trust for this server,
    beside the usual ones.

    Every call raises ThalovantAPIError (or one of its kinds) when the server refuses,
    ThalovantAPIUnreachableError when it is not reached, and ThalovantAuthError when it needs a sign-in that
    is missing or over.
    """

    def __init__(
        self,
        api_url: str | None = None,
        *,
        access_token: str | None = None,
        timeout: float = 10.0,
        user_agent: str = USER_AGENT,
        session: Any = None,
        ca_pem: str | None = None,
    ) -> None:
        super().__init__(api_url, access_token, timeout, user_agent, ca_pem)
        self.session = session
        self._http = AsyncHttpClient(self._ca_pem, timeout=timeout, advice=self._advice, session=session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; a session that was handed in stays open."""
        await self._http.close()

    async def login(
        self,
        email: str,
        password: str,
        *,
        scope: str | None = None,
        otp_code: str | None = None,
        recovery_code: str | None = None,
    ) -> dict[str, Any]:
        """Sign in with a password and keep the token (contract 3.1). Returns the answer."""
        extras = {"scope": scope, "otp_code": otp_code, "recovery_code": recovery_code}
        return await self._run(api_calls.login(self._session, email, password, extras))

    async def list_public_hubs(self, *, limit: int = 24, cursor: str | None = None) -> dict[str, Any]:
        """A page of the public, active hubs; needs no sign-in.

        `data` holds the hubs, `meta.next` is to be handed back as `cursor`.
        """
        return await self._run(api_calls.list_public_hubs(limit, cursor))

    async def get_public_hub(self, hub_ref: str) -> dict[str, Any]:
        """One public hub by slug or id. Needs no sign-in."""
        return await self._run(api_calls.get_public_hub(hub_ref))

    async def list_hubs(
        self, *, limit: int = 100, cursor: str | None = None, owner_id: str | None = None
    ) -> dict[str, Any]:
        """A page of your hubs: `data`, and `meta.next` to hand back as `cursor`."""
        return await self._run(api_calls.list_hubs(limit, cursor, owner_id))

    async def get_hub(self, hub_id: str) -> dict[str, Any]:
        """One hub by id."""
        return await self._run(api_calls.get_hub(hub_id))

    async def create_hub(self, payload: Mapping[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Make a hub (contract 4.3); the same `idempotency_key` again gives the first answer."""
        return await self._run(api_calls.create_hub(payload, idempotency_key))

    async def update_hub(self, hub_id: str, payload: Mapping[str, Any], *, etag: str) -> dict[str, Any]:
        """Change a hub (contract 4.3); this is how MQTT is switched on.

        Raises ThalovantAPIError with status 412 when the hub is no longer as `etag` says.
        """
        return await self._run(api_calls.update_hub(hub_id, payload, etag))

    async def delete_hub(self, hub_id: str, *, etag: str) -> None:
        """Delete a hub with all its clients, which cuts their sessions off (contract 4.3).

        Raises ThalovantAPIError with status 412 when the hub is no longer as `etag` says.
        """
        await self._run(api_calls.delete_hub(hub_id, etag))

    async def create_client(self, payload: Mapping[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Make a client from a body of your own (contract 4.1)."""
        return await self._run(api_calls.create_client(payload, idempotency_key))

    async def create_client_identity(
        self,
        hub: str | Mapping[str, Any],
        *,
        name: str,
        site_id: str | None = None,
        spec: Mapping[str, Any] | None = None,
        owner_id: str | None = None,
        active: bool = True,
        preferred_protocols: Iterable[HubProtocol] = DEFAULT_PROTOCOL_PREFERENCE,
        idempotency_key: str | None = None,
        connection_type: str | None = None,
    ) -> BootstrapIdentityResult:
        """Make a client of a hub and the identity it connects with (contract 3.4).

        `hub` is an id or a hub resource; `preferred_protocols` picks `result.endpoint` and is never sent.
        Raises ThalovantIdentityError when the server's answer lacks a field of the identity; the client
        exists by then.
        """
        return await self._run(
            api_calls.create_client_identity(
                hub,
                name=name,
                site_id=site_id,
                spec=spec,
                owner_id=owner_id,
                active=active,
                preferred=preferred_protocols,
                idempotency_key=idempotency_key,
                connection_type=connection_type,
            )
        )

    async def list_clients(
        self,
        *,
        hub_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        owner_id: str | None = None,
        include_spec: bool = True,
    ) -> dict[str, Any]:
        """A page of clients: `data`, and `meta.next` to hand back as `cursor`."""
        return await self._run(api_calls.list_clients(hub_id, limit, cursor, owner_id, include_spec))

    async def get_client(self, client_id: str) -> dict[str, Any]:
        """One client by id."""
        return await self._run(api_calls.get_client(client_id))

    async def delete_client(self, client_id: str, *, etag: str | None = None) -> None:
        """Delete a client, which cuts its sessions off (contract 4.1). One that is gone already is no error."""
        await self._run(api_calls.delete_client(client_id, etag))

    async def reset_client_key(self, client_id: str, number: int = 1) -> None:
        """Let a client in with a new Noise key: the next one that it shows is pinned (docs/operations.md).

        `number` is that of its credential. Raises ThalovantAPIError with status 404 for one that is not there.
        """
        await self._run(api_calls.reset_client_key(client_id, number))

    async def get_profile(self) -> dict[str, Any]:
        """Who is signed in: `id`, `email`, `display_name`, `role`."""
        return await self._run(api_calls.get_profile())

    async def revoke_api_token(self, token_id: str | None = None) -> None:
        """Revoke a token, by default the one in use: that is the sign-out (contract 3.7)."""
        await self._run(api_calls.revoke_api_token(self._session, token_id))

    async def get_operation(self, operation_id: str) -> OperationResource:
        """One operation by id."""
        return await self._run(api_calls.get_operation(operation_id))

    async def wait_for_operation(
        self, operation: OperationReference, *, timeout: float = 120.0, poll_interval: float = 2.0
    ) -> OperationResource:
        """Poll an operation until it is ready (contract 4.2); times are seconds.

        Raises ThalovantTimeoutError at the deadline and ThalovantAPIError with the operation's code when it
        failed.
        """
        return await self._run(
            api_calls.wait_for_operation(self.api_url, operation, timeout, poll_interval, time.monotonic)
        )

    async def wait_for_admission(
        self,
        connection: BootstrapIdentityResult | OperationReference | None,
        *,
        timeout: float = 180.0,
        poll_interval: float = 2.0,
    ) -> None:
        """Wait until the hub takes a new client (contract 4.2); times are seconds.

        Raises ThalovantAdmissionTimeoutError at the deadline and ThalovantAdmissionFailedError when the hub
        will not.
        """
        await self._run(api_calls.wait_for_admission(self.api_url, connection, timeout, poll_interval, time.monotonic))


class ThalovantControlPlane(ControlClients, ControlAccounts):
    """The control plane for code that blocks: calls, parameters and errors of AsyncThalovantControlPlane.

    `session` may be your own `httpx2.Client`.
    """

    def __init__(
        self,
        api_url: str | None = None,
        *,
        access_token: str | None = None,
        timeout: float = 10.0,
        user_agent: str = USER_AGENT,
        session: Any = None,
        ca_pem: str | None = None,
    ) -> None:
        super().__init__(api_url, access_token, timeout, user_agent, ca_pem)
        self.session = session
        self._http = HttpClient(self._ca_pem, timeout=timeout, advice=self._advice, session=session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a session that was handed in stays open."""
        self._http.close()

    def login(
        self,
        email: str,
        password: str,
        *,
        scope: str | None = None,
        otp_code: str | None = None,
        recovery_code: str | None = None,
    ) -> dict[str, Any]:
        """Sign in with a password and keep the token (contract 3.1). Returns the answer."""
        extras = {"scope": scope, "otp_code": otp_code, "recovery_code": recovery_code}
        return self._run(api_calls.login(self._session, email, password, extras))

    def list_public_hubs(self, *, limit: int = 24, cursor: str | None = None) -> dict[str, Any]:
        """A page of the public, active hubs; needs no sign-in.

        `data` holds the hubs, `meta.next` is to be handed back as `cursor`.
        """
        return self._run(api_calls.list_public_hubs(limit, cursor))

    def get_public_hub(self, hub_ref: str) -> dict[str, Any]:
        """One public hub by slug or id. Needs no sign-in."""
        return self._run(api_calls.get_public_hub(hub_ref))

    def list_hubs(self, *, limit: int = 100, cursor: str | None = None, owner_id: str | None = None) -> dict[str, Any]:
        """A page of your hubs: `data`, and `meta.next` to hand back as `cursor`."""
        return self._run(api_calls.list_hubs(limit, cursor, owner_id))

    def get_hub(self, hub_id: str) -> dict[str, Any]:
        """One hub by id."""
        return self._run(api_calls.get_hub(hub_id))

    def create_hub(self, payload: Mapping[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Make a hub (contract 4.3); the same `idempotency_key` again gives the first answer."""
        return self._run(api_calls.create_hub(payload, idempotency_key))

    def update_hub(self, hub_id: str, payload: Mapping[str, Any], *, etag: str) -> dict[str, Any]:
        """Change a hub (contract 4.3); this is how MQTT is switched on.

        Raises ThalovantAPIError with status 412 when the hub is no longer as `etag` says.
        """
        return self._run(api_calls.update_hub(hub_id, payload, etag))

    def delete_hub(self, hub_id: str, *, etag: str) -> None:
        """Delete a hub with all its clients, which cuts their sessions off (contract 4.3).

        Raises ThalovantAPIError with status 412 when the hub is no longer as `etag` says.
        """
        self._run(api_calls.delete_hub(hub_id, etag))

    def create_client(self, payload: Mapping[str, Any], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Make a client from a body of your own (contract 4.1)."""
        return self._run(api_calls.create_client(payload, idempotency_key))

    def create_client_identity(
        self,
        hub: str | Mapping[str, Any],
        *,
        name: str,
        site_id: str | None = None,
        spec: Mapping[str, Any] | None = None,
        owner_id: str | None = None,
        active: bool = True,
        preferred_protocols: Iterable[HubProtocol] = DEFAULT_PROTOCOL_PREFERENCE,
        idempotency_key: str | None = None,
        connection_type: str | None = None,
    ) -> BootstrapIdentityResult:
        """Make a client of a hub and the identity it connects with (contract 3.4).

        `hub` is an id or a hub resource; `preferred_protocols` picks `result.endpoint` and is never sent.
        Raises ThalovantIdentityError when the server's answer lacks a field of the identity; the client
        exists by then.
        """
        return self._run(
            api_calls.create_client_identity(
                hub,
                name=name,
                site_id=site_id,
                spec=spec,
                owner_id=owner_id,
                active=active,
                preferred=preferred_protocols,
                idempotency_key=idempotency_key,
                connection_type=connection_type,
            )
        )

    def list_clients(
        self,
        *,
        hub_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        owner_id: str | None = None,
        include_spec: bool = True,
    ) -> dict[str, Any]:
        """A page of clients: `data`, and `meta.next` to hand back as `cursor`."""
        return self._run(api_calls.list_clients(hub_id, limit, cursor, owner_id, include_spec))

    def get_client(self, client_id: str) -> dict[str, Any]:
        """One client by id."""
        return self._run(api_calls.get_client(client_id))

    def delete_client(self, client_id: str, *, etag: str | None = None) -> None:
        """Delete a client, which cuts its sessions off (contract 4.1). One that is gone already is no error."""
        self._run(api_calls.delete_client(client_id, etag))

    def reset_client_key(self, client_id: str, number: int = 1) -> None:
        """Let a client in with a new Noise key: the next one that it shows is pinned (docs/operations.md).

        `number` is that of its credential. Raises ThalovantAPIError with status 404 for one that is not there.
        """
        self._run(api_calls.reset_client_key(client_id, number))

    def get_profile(self) -> dict[str, Any]:
        """Who is signed in: `id`, `email`, `display_name`, `role`."""
        return self._run(api_calls.get_profile())

    def revoke_api_token(self, token_id: str | None = None) -> None:
        """Revoke a token, by default the one in use: that is the sign-out (contract 3.7)."""
        self._run(api_calls.revoke_api_token(self._session, token_id))

    def get_operation(self, operation_id: str) -> OperationResource:
        """One operation by id."""
        return self._run(api_calls.get_operation(operation_id))

    def wait_for_operation(
        self, operation: OperationReference, *, timeout: float = 120.0, poll_interval: float = 2.0
    ) -> OperationResource:
        """Poll an operation until it is ready (contract 4.2); times are seconds.

        Raises ThalovantTimeoutError at the deadline and ThalovantAPIError with the operation's code when it
        failed.
        """
        return self._run(api_calls.wait_for_operation(self.api_url, operation, timeout, poll_interval, time.monotonic))

    def wait_for_admission(
        self,
        connection: BootstrapIdentityResult | OperationReference | None,
        *,
        timeout: float = 180.0,
        poll_interval: float = 2.0,
    ) -> None:
        """Wait until the hub takes a new client (contract 4.2); times are seconds.

        Raises ThalovantAdmissionTimeoutError at the deadline and ThalovantAdmissionFailedError when the hub
        will not.
        """
        self._run(api_calls.wait_for_admission(self.api_url, connection, timeout, poll_interval, time.monotonic))
