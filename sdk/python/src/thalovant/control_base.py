# SPDX-License-Identifier: Apache-2.0
"""What the control plane's two clients are made of: an address, a token, and how a call's steps are run.

A group of calls (clients, accounts) is a pair of classes on top of `AsyncCalls` and `BlockingCalls`; control_plane
joins the groups. Nothing is retried here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar, cast

from thalovant import bootstrap
from thalovant.api_discovery import find_api, unreachable_advice
from thalovant.api_session import ApiRequest, ApiSession, Call, HttpAnswer, Pause
from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.errors import ThalovantAPIError
from thalovant.http_client import AsyncHttpClient, HttpClient, Opened
from thalovant.hub_endpoints import HubProtocol, SelectedHubEndpoint

__all__ = ["AsyncCalls", "BlockingCalls"]

SILENCE = 45.0
"""Seconds without a byte after which a stream counts as lost; a server says something every 15."""

T = TypeVar("T")


class _ControlPlane:
    """What both twins are: an address, a token, a timeout."""

    def __init__(
        self, api_url: str | None, access_token: str | None, timeout: float, user_agent: str, ca_pem: str | None
    ) -> None:
        target = find_api(api_url)
        token_id = target.token_id if access_token is None else None
        token = target.access_token if access_token is None else access_token
        self._session = ApiSession(target.api_url, access_token=token, token_id=token_id, user_agent=user_agent)
        self._ca_pem = "\n".join(filter(None, (target.ca_pem, ca_pem))) or None
        self._advice = unreachable_advice(target)
        self._timeout = timeout

    @property
    def timeout(self) -> float:
        """Seconds for one request in all."""
        return self._timeout

    @property
    def api_url(self) -> str:
        """The API root, without `/v1`."""
        return self._session.root

    @property
    def access_token(self) -> str | None:
        """The token in use; a secret."""
        return self._session.access_token

    @access_token.setter
    def access_token(self, value: str | None) -> None:
        self._session.access_token = value
        self._session.token_id = None

    @property
    def token_id(self) -> str | None:
        """The id of the token in use, where the sign-in told one."""
        return self._session.token_id

    @property
    def user_agent(self) -> str:
        """The name sent with every request."""
        return self._session.user_agent

    def require_runtime_protocol(
        self, result: BootstrapIdentityResult, *, protocol: HubProtocol | None = None
    ) -> SelectedHubEndpoint:
        """The address of a carrier that the new identity can really use (contract 3.4.4).

        `protocol` None means the one selected at creation. Raises ThalovantUnsupportedProtocolError with
        advice.
        """
        return bootstrap.require_runtime_protocol(result, protocol)

    def _readable(self, request: ApiRequest, opened: Callable[[HttpAnswer], None]) -> Opened:
        """What looks at an answer whose body is read part by part: errors are raised, the rest is shown to `opened`."""

        def look(answer: HttpAnswer) -> None:
            self._session.read(request, answer)
            opened(answer)

        return look

    def __repr__(self) -> str:
        signed = "signed in" if self.access_token else "not signed in"
        return f"<{type(self).__name__} {self.api_url} ({signed})>"


class AsyncCalls(_ControlPlane):
    """Runs the steps of a call on the event loop."""

    _http: AsyncHttpClient

    async def _run(self, call: Call[T]) -> T:
        try:
            step = next(call)
            while True:
                try:
                    answer = await self._perform(step)
                except ThalovantAPIError as error:
                    step = call.throw(error)
                else:
                    step = call.send(answer)
        except StopIteration as done:
            return cast("T", done.value)

    async def _perform(self, step: ApiRequest | Pause) -> dict[str, Any]:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return {}
        return self._session.read(step, await self._http.send(self._session.write(step)))

    def _parts(self, request: ApiRequest, opened: Callable[[HttpAnswer], None]) -> AsyncGenerator[bytes]:
        return self._http.parts(self._session.write(request), self._readable(request, opened), silence=SILENCE)


class BlockingCalls(_ControlPlane):
    """Runs the steps of a call and blocks meanwhile."""

    _http: HttpClient

    def _run(self, call: Call[T]) -> T:
        try:
            step = next(call)
            while True:
                try:
                    answer = self._perform(step)
                except ThalovantAPIError as error:
                    step = call.throw(error)
                else:
                    step = call.send(answer)
        except StopIteration as done:
            return cast("T", done.value)

    def _perform(self, step: ApiRequest | Pause) -> dict[str, Any]:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return {}
        return self._session.read(step, self._http.send(self._session.write(step)))

    def _parts(self, request: ApiRequest, opened: Callable[[HttpAnswer], None]) -> Generator[bytes]:
        return self._http.parts(self._session.write(request), self._readable(request, opened), silence=SILENCE)
