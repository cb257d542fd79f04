# SPDX-License-Identifier: Apache-2.0
"""The control plane's calls about a client's life: rotate, pause, look up, policy, presence, audit. A pair of twins.

api_clients says what a call does; control_plane joins these with the other groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from typing import Any

from thalovant import api_clients
from thalovant.api_clients import DEFAULT_GRACE
from thalovant.audit_export import AuditExport, ExportTarget, export_target
from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.control_base import AsyncCalls, BlockingCalls
from thalovant.errors import ThalovantAPIError
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE, HubProtocol
from thalovant.presence import ClientPresence, PresenceWatch

__all__ = ["AsyncControlClients", "ControlClients"]


class AsyncControlClients(AsyncCalls):
    """What is done with a client after it was made, for asyncio."""

    async def rotate_client_identity(
        self,
        client_id: str,
        *,
        grace_seconds: int = DEFAULT_GRACE,
        idempotency_key: str | None = None,
        preferred_protocols: Iterable[HubProtocol] = DEFAULT_PROTOCOL_PREFERENCE,
    ) -> BootstrapIdentityResult:
        """Give a client a new credential; the old one works for `grace_seconds` more (0 to 2592000, 30 days).

        0 replaces every credential at once. An answer that was lost is asked for once more; call again with the same
        `idempotency_key` to try for longer. Raises ThalovantAPIError with code `rotation_in_progress` (409) when two
        credentials live already: finish or cancel that rotation first.
        """
        return await self._run(
            api_clients.rotate_client_identity(client_id, grace_seconds, idempotency_key, preferred_protocols)
        )

    async def finish_rotation(self, client_id: str, *, force: bool = False) -> dict[str, Any]:
        """End the old credential's grace now; returns the client.

        Raises ThalovantAPIError with code `new_credential_unused` (409) while the new one has never connected, unless
        `force`, and with `no_rotation` (409) when there is only one.
        """
        return await self._run(api_clients.finish_rotation(client_id, force))

    async def cancel_rotation(self, client_id: str) -> dict[str, Any]:
        """Drop the new credential, so that the old one stays; returns the client.

        Raises ThalovantAPIError with code `no_rotation` (409) when there is only one.
        """
        return await self._run(api_clients.cancel_rotation(client_id))

    async def update_client(
        self, client_id: str, payload: Mapping[str, Any], *, etag: str | None = None
    ) -> dict[str, Any]:
        """Change a client's `name`, `active` or keys of its `spec`; returns the client.

        Without `etag` the client is read first, and once more when it changed meanwhile. With one, raises
        ThalovantAPIError with status 412 when the client is no longer as it says.
        """
        return await self._run(api_clients.update_client(client_id, payload, etag))

    async def pause_client(self, client_id: str) -> dict[str, Any]:
        """Cut a client off until it is resumed; it keeps its credentials and its topics. Returns the client."""
        return await self._run(api_clients.update_client(client_id, {"active": False}, None))

    async def resume_client(self, client_id: str) -> dict[str, Any]:
        """Let a paused client in again, as it was. Returns the client."""
        return await self._run(api_clients.update_client(client_id, {"active": True}, None))

    async def lookup_credential(self, access_key: str) -> dict[str, Any]:
        """What became of a credential that a device holds: `status` is `live`, `grace` or `ended`.

        `why` and `ended_at` tell of its end, `client`, `credential` and `hub` of what it belongs to. Raises
        ThalovantAPIError with code `credential_not_found` (404) for one that is not yours or was never made here.
        """
        return await self._run(api_clients.lookup_credential(access_key))

    async def get_client_policy(self, client_id: str) -> dict[str, Any]:
        """What a client may send, how much of it, and what it has used of its quota today."""
        return await self._run(api_clients.get_client_policy(client_id))

    async def update_client_policy(
        self, client_id: str, payload: Mapping[str, Any], *, etag: str | None = None
    ) -> dict[str, Any]:
        """Change a client's policy: a key that is absent stays, None goes back to the preset. Returns the policy.

        Live sessions follow within a second. `etag` as in update_client.
        """
        return await self._run(api_clients.update_client_policy(client_id, payload, etag))

    async def list_audit(
        self,
        *,
        hub_id: str | None = None,
        client_id: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of the audit log, newest first: `data`, and `meta.next` to hand back as `cursor`.

        `outcome` is `done` or `denied`. Needs the scope `audit:read`.
        """
        filters = {"hub_id": hub_id, "client_id": client_id, "action": action, "outcome": outcome}
        return await self._run(api_clients.list_audit(filters, limit, cursor))

    async def export_audit(
        self,
        target: ExportTarget,
        *,
        since: str | None = None,
        until: str | None = None,
        hub_id: str | None = None,
        client_id: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
    ) -> int:
        """Write the audit log as JSON lines, the last of them the server's signature; returns how many entries.

        `target` is the path of a new file (mode 0600), or something to write bytes to; `since` (inclusive) and `until`
        are ISO 8601 texts. Needs the scope `audit:read`. `thalovant-server verify-audit` checks it offline. Raises
        ThalovantAPIError with code `exists` or `unwritable` for a file that cannot be made, and when the export breaks
        off; then no file is left.
        """
        filters = {"hub_id": hub_id, "client_id": client_id, "action": action, "outcome": outcome}
        request = api_clients.export_audit({"since": since, "until": until, **filters})
        export = AuditExport()
        with export_target(target) as out:
            async with contextlib.aclosing(self._parts(request, lambda _: None)) as parts:
                async for part in parts:
                    export.feed(part)
                    await asyncio.to_thread(out.write, part)
            return export.entries()

    async def get_audit_key(self) -> str:
        """The public key, base64 of 32 bytes (Ed25519), that this server signs exports of its audit log with."""
        return await self._run(api_clients.get_audit_key())

    async def presence(self, hub_id: str) -> list[ClientPresence]:
        """Whether each client of a hub is online, since when, over which carrier, and why not."""
        return await self._run(api_clients.presence(hub_id))

    async def get_client_presence(self, client_id: str) -> ClientPresence:
        """Whether one client is online, since when, over which carrier, and why not."""
        return await self._run(api_clients.get_client_presence(client_id))

    async def watch_presence(self, hub_id: str) -> AsyncGenerator[ClientPresence]:
        """Each client of a hub as it is now, then every change, until you stop: leave the loop and close it.

        A lost connection is opened again with growing pauses; what changed meanwhile comes then, and nothing twice. A
        client that was removed comes as `revoked` with `why` `removed`. Raises ThalovantAPIError (or one of its kinds)
        when the server refuses, and ThalovantAPIUnreachableError when it was not there in the first place.
        """
        watch = PresenceWatch(random.uniform)
        while True:
            error: ThalovantAPIError | None = None
            try:
                async with contextlib.aclosing(self._parts(api_clients.presence_events(hub_id), watch.opened)) as parts:
                    async for part in parts:
                        for one in watch.feed(part):
                            yield one
                        if watch.over:
                            break
            except ThalovantAPIError as lost:
                error = lost
            await asyncio.sleep(watch.lost(error))


class ControlClients(BlockingCalls):
    """What is done with a client after it was made, for code that blocks."""

    def rotate_client_identity(
        self,
        client_id: str,
        *,
        grace_seconds: int = DEFAULT_GRACE,
        idempotency_key: str | None = None,
        preferred_protocols: Iterable[HubProtocol] = DEFAULT_PROTOCOL_PREFERENCE,
    ) -> BootstrapIdentityResult:
        """Give a client a new credential; the old one works for `grace_seconds` more (0 to 2592000, 30 days).

        0 replaces every credential at once. An answer that was lost is asked for once more; call again with the same
        `idempotency_key` to try for longer. Raises ThalovantAPIError with code `rotation_in_progress` (409) when two
        credentials live already: finish or cancel that rotation first.
        """
        return self._run(
            api_clients.rotate_client_identity(client_id, grace_seconds, idempotency_key, preferred_protocols)
        )

    def finish_rotation(self, client_id: str, *, force: bool = False) -> dict[str, Any]:
        """End the old credential's grace now; returns the client.

        Raises ThalovantAPIError with code `new_credential_unused` (409) while the new one has never connected, unless
        `force`, and with `no_rotation` (409) when there is only one.
        """
        return self._run(api_clients.finish_rotation(client_id, force))

    def cancel_rotation(self, client_id: str) -> dict[str, Any]:
        """Drop the new credential, so that the old one stays; returns the client.

        Raises ThalovantAPIError with code `no_rotation` (409) when there is only one.
        """
        return self._run(api_clients.cancel_rotation(client_id))

    def update_client(self, client_id: str, payload: Mapping[str, Any], *, etag: str | None = None) -> dict[str, Any]:
        """Change a client's `name`, `active` or keys of its `spec`; returns the client.

        Without `etag` the client is read first, and once more when it changed meanwhile. With one, raises
        ThalovantAPIError with status 412 when the client is no longer as it says.
        """
        return self._run(api_clients.update_client(client_id, payload, etag))

    def pause_client(self, client_id: str) -> dict[str, Any]:
        """Cut a client off until it is resumed; it keeps its credentials and its topics. Returns the client."""
        return self._run(api_clients.update_client(client_id, {"active": False}, None))

    def resume_client(self, client_id: str) -> dict[str, Any]:
        """Let a paused client in again, as it was. Returns the client."""
        return self._run(api_clients.update_client(client_id, {"active": True}, None))

    def lookup_credential(self, access_key: str) -> dict[str, Any]:
        """What became of a credential that a device holds: `status` is `live`, `grace` or `ended`.

        `why` and `ended_at` tell of its end, `client`, `credential` and `hub` of what it belongs to. Raises
        ThalovantAPIError with code `credential_not_found` (404) for one that is not yours or was never made here.
        """
        return self._run(api_clients.lookup_credential(access_key))

    def get_client_policy(self, client_id: str) -> dict[str, Any]:
        """What a client may send, how much of it, and what it has used of its quota today."""
        return self._run(api_clients.get_client_policy(client_id))

    def update_client_policy(
        self, client_id: str, payload: Mapping[str, Any], *, etag: str | None = None
    ) -> dict[str, Any]:
        """Change a client's policy: a key that is absent stays, None goes back to the preset. Returns the policy.

        Live sessions follow within a second. `etag` as in update_client.
        """
        return self._run(api_clients.update_client_policy(client_id, payload, etag))

    def list_audit(
        self,
        *,
        hub_id: str | None = None,
        client_id: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of the audit log, newest first: `data`, and `meta.next` to hand back as `cursor`.

        `outcome` is `done` or `denied`. Needs the scope `audit:read`.
        """
        filters = {"hub_id": hub_id, "client_id": client_id, "action": action, "outcome": outcome}
        return self._run(api_clients.list_audit(filters, limit, cursor))

    def export_audit(
        self,
        target: ExportTarget,
        *,
        since: str | None = None,
        until: str | None = None,
        hub_id: str | None = None,
        client_id: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
    ) -> int:
        """Write the audit log as JSON lines, the last of them the server's signature; returns how many entries.

        `target` is the path of a new file (mode 0600), or something to write bytes to; `since` (inclusive) and `until`
        are ISO 8601 texts. Needs the scope `audit:read`. `thalovant-server verify-audit` checks it offline. Raises
        ThalovantAPIError with code `exists` or `unwritable` for a file that cannot be made, and when the export breaks
        off; then no file is left.
        """
        filters = {"hub_id": hub_id, "client_id": client_id, "action": action, "outcome": outcome}
        request = api_clients.export_audit({"since": since, "until": until, **filters})
        export = AuditExport()
        with export_target(target) as out:
            with contextlib.closing(self._parts(request, lambda _: None)) as parts:
                for part in parts:
                    export.feed(part)
                    out.write(part)
            return export.entries()

    def get_audit_key(self) -> str:
        """The public key, base64 of 32 bytes (Ed25519), that this server signs exports of its audit log with."""
        return self._run(api_clients.get_audit_key())

    def presence(self, hub_id: str) -> list[ClientPresence]:
        """Whether each client of a hub is online, since when, over which carrier, and why not."""
        return self._run(api_clients.presence(hub_id))

    def get_client_presence(self, client_id: str) -> ClientPresence:
        """Whether one client is online, since when, over which carrier, and why not."""
        return self._run(api_clients.get_client_presence(client_id))

    def watch_presence(self, hub_id: str) -> Generator[ClientPresence]:
        """Each client of a hub as it is now, then every change, until you stop: leave the loop and close it.

        A lost connection is opened again with growing pauses; what changed meanwhile comes then, and nothing twice. A
        client that was removed comes as `revoked` with `why` `removed`. Raises ThalovantAPIError (or one of its kinds)
        when the server refuses, and ThalovantAPIUnreachableError when it was not there in the first place.
        """
        watch = PresenceWatch(random.uniform)
        while True:
            error: ThalovantAPIError | None = None
            try:
                with contextlib.closing(self._parts(api_clients.presence_events(hub_id), watch.opened)) as parts:
                    for part in parts:
                        yield from watch.feed(part)
                        if watch.over:
                            break
            except ThalovantAPIError as lost:
                error = lost
            time.sleep(watch.lost(error))
