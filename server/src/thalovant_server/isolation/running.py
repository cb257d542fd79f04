# SPDX-License-Identifier: Apache-2.0
"""`thalovant-server prove-isolation`: signs in, makes two clients, has the proof run and removes them.

Everything goes over the API and the broker's own port, as it would for anybody: a proof that looked inside the server
would prove little.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

from thalovant import AsyncThalovantControlPlane, ThalovantAPIError, ThalovantError
from thalovant_server.bootstrap import ADMIN_EMAIL
from thalovant_server.certificate_files import AUTHORITY_CERTIFICATE
from thalovant_server.data_directory import ADMIN_PASSWORD
from thalovant_server.errors import ProofError
from thalovant_server.health import api_port
from thalovant_server.isolation.moves import moves
from thalovant_server.isolation.proof import prove, prove_taken_away
from thalovant_server.isolation.throwaway import Throwaway, choose_hub, is_behind_broker, scene_of, two_clients
from thalovant_server.isolation.verdicts import BROKER, Outcome
from thalovant_server.settings import Settings

API_SECONDS = 20.0

_ANYWHERE = ("127.0.0.1", "::1", "0.0.0.0", "::")  # noqa: S104 - to dial, not to listen


@dataclass(frozen=True, slots=True)
class SignIn:
    """How to sign in: with a token, else with e-mail (None is the first admin's) and password.

    `first_password` is the file of the server's first start that the password is from: it is not kept up to date.
    """

    token: str | None = field(default=None, repr=False)
    email: str | None = None
    password: str | None = field(default=None, repr=False)
    first_password: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A control plane, and certificates to trust for it beside the usual ones (PEM)."""

    api_url: str
    sign_in: SignIn
    ca_pem: str | None = None


def elsewhere(api_url: str, sign_in: SignIn) -> Target:
    """A server that is named.

    Raises:
        ProofError: nobody said how to sign in.
    """
    if sign_in.token is None and sign_in.password is None:
        raise ProofError("set THALOVANT_API_TOKEN, or give --email and --password-file, to sign in there")
    return Target(api_url, sign_in)


def this_machine(settings: Settings, sign_in: SignIn) -> Target:
    """The server that runs here with these settings (blocking): its own authority, and its first password.

    Raises:
        ProofError: its files are not to be read.
        NotHealthyError, SettingsError: where it listens is not known.
    """
    host = "localhost" if settings.listen_host in _ANYWHERE else settings.advertised_host
    if sign_in.token is None and sign_in.password is None:
        path = settings.data / ADMIN_PASSWORD
        sign_in = replace(sign_in, password=read_password(path), first_password=path)
    return Target(f"https://{host}:{api_port(settings)}", sign_in, _authorities(settings))


def read_password(path: Path) -> str:
    """The password in a file, without the line's end (blocking).

    Raises:
        ProofError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ProofError(
            f"the password in {path} cannot be read ({getattr(error, 'strerror', None) or 'it is no text'}): name "
            "another --password-file, or set THALOVANT_API_TOKEN"
        ) from error


def _authorities(settings: Settings) -> str | None:
    """The certificates that this machine's server is known by."""
    paths = (settings.data / AUTHORITY_CERTIFICATE, settings.certificate_authority)
    try:
        return "\n".join(path.read_text() for path in paths if path is not None and path.exists()) or None
    except (OSError, ValueError) as error:
        raise ProofError(f"the server's certificate authority cannot be read: {error}") from error


def run(target: Target, hub: str | None = None, websocket: str | None = None) -> list[Outcome]:
    """Prove it (blocking); the outcomes in order.

    Args:
        hub: id or slug; None is the first one that has MQTT on.
        websocket: URL at which MQTT over WebSocket is to be tried as well.

    Raises:
        ProofError: it could not be run to its end.
    """
    try:
        return asyncio.run(_run(target, hub, websocket))
    except (ThalovantError, OSError) as error:
        raise ProofError(str(error) or type(error).__name__) from error


async def _run(target: Target, hub: str | None, websocket: str | None) -> list[Outcome]:
    who = target.sign_in
    async with AsyncThalovantControlPlane(
        target.api_url, access_token=who.token, ca_pem=target.ca_pem, timeout=API_SECONDS
    ) as plane:
        if who.token is None:
            await _log_in(plane, who)
        chosen = await choose_hub(plane, hub)
        if websocket and is_behind_broker(chosen):
            raise ProofError(
                "a hub behind an outside broker is not reached over MQTT in a WebSocket: leave --websocket out"
            )
        async with two_clients(plane, chosen) as (attacker, neighbour):
            outcomes = await _prove(plane, attacker, neighbour, websocket)
        return [replace(each, road=BROKER) for each in outcomes] if is_behind_broker(chosen) else outcomes


async def _log_in(plane: AsyncThalovantControlPlane, who: SignIn) -> None:
    try:
        await plane.login(who.email or ADMIN_EMAIL, who.password or "")
    except ThalovantAPIError as error:
        if who.first_password is None or error.code != "invalid_credentials":
            raise
        raise ProofError(
            f"the password in {who.first_password} is that of the server's first start, and was changed since: give "
            "--email and --password-file, or set THALOVANT_API_TOKEN"
        ) from error


async def _prove(
    plane: AsyncThalovantControlPlane, attacker: Throwaway, neighbour: Throwaway, websocket: str | None
) -> list[Outcome]:
    scene = scene_of(attacker, neighbour)
    dial = await asyncio.to_thread(lambda: attacker.dial)  # it reads certificates
    outcomes: list[Outcome] = []
    if websocket:
        over = await asyncio.to_thread(attacker.dial_websocket, websocket)
        outcomes += [replace(each, road="WebSocket") for each in await prove(scene, over, moves())]
    outcomes += await prove(scene, dial, moves())

    newest = [attacker]

    async def rotate() -> None:
        made = await plane.rotate_client_identity(attacker.client_id, grace_seconds=0)
        newest.append(Throwaway(attacker.client_id, made.identity))

    async def revoke() -> None:
        await plane.delete_client(attacker.client_id)

    outcomes += await prove_taken_away(scene, dial, "a credential that was rotated without a grace", rotate)
    return outcomes + await prove_taken_away(scene_of(newest[-1], neighbour), dial, "a revoked credential", revoke)
