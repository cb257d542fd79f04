# SPDX-License-Identifier: Apache-2.0
"""The one module that speaks HTTP for the control plane: one request, one answer, no redirect, no retry.

It keeps no cookie and logs nothing. What a failure means is said here, in words that tell the user what to
type.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, NoReturn

import httpx2

from thalovant.api_session import MAX_ANSWER, HttpAnswer, HttpRequest
from thalovant.diagnoses import Diagnosis
from thalovant.errors import ThalovantAPIError, ThalovantAPIUnreachableError
from thalovant.transports.base import why_unreachable
from thalovant.transports.tls import (
    NAME_ADVICE,
    bundle_advice,
    client_context,
    is_expired,
    is_not_yet_valid,
    is_other_authority,
    is_other_name,
)

Opened = Callable[[HttpAnswer], None]


class HttpClient:
    """Blocking client for one API root.

    `session` is a caller's own `httpx2.Client`; it is used as it is, never closed.
    """

    def __init__(self, ca_pem: str | None, *, timeout: float, advice: str, session: Any = None) -> None:
        self._ca_pem = ca_pem
        self._timeout = timeout
        self._advice = advice
        self._given = session
        self._own: httpx2.Client | None = None

    def send(self, request: HttpRequest) -> HttpAnswer:
        """Send a request and read its answer, both within the timeout.

        Raises ThalovantAPIUnreachableError: name, network, certificate or time. Nothing is tried twice.
        """
        deadline = time.monotonic() + self._timeout
        try:
            with self._client().stream(**_arguments(request, self._timeout)) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    _take(body, part)
                    if time.monotonic() > deadline:
                        raise TimeoutError
                return HttpAnswer(response.status_code, _headers(response), bytes(body))
        except (httpx2.RequestError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            _explain(error, request, self._timeout, self._advice, own_authority=self._ca_pem is not None)
        finally:
            if self._own is not None:
                self._own.cookies.clear()

    def parts(self, request: HttpRequest, opened: Opened, *, silence: float) -> Generator[bytes]:
        """Send a request and yield the body of its answer as it comes, for as long as it comes; close when done.

        `opened` sees the answer first, with its body only when it is an error; what it raises is raised. Raises
        ThalovantAPIUnreachableError also when the body breaks off, or nothing comes for `silence` seconds.
        """
        try:
            with self._client().stream(**_arguments(request, _patient(self._timeout, silence))) as response:
                body = bytearray()
                for part in () if response.is_success else response.iter_bytes():
                    _take(body, part)
                opened(HttpAnswer(response.status_code, _headers(response), bytes(body)))
                yield from response.iter_bytes()
        except (httpx2.RequestError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            patience = self._timeout if isinstance(error, httpx2.ConnectTimeout) else silence
            _explain(error, request, patience, self._advice, own_authority=self._ca_pem is not None)
        finally:
            if self._own is not None:
                self._own.cookies.clear()

    def close(self) -> None:
        """Close what this client opened itself; it may be used again afterwards."""
        if self._own is not None:
            self._own.close()
            self._own = None

    def _client(self) -> httpx2.Client:
        if self._given is not None:
            given: httpx2.Client = self._given
            return given
        if self._own is None:
            self._own = httpx2.Client(verify=client_context(self._ca_pem), follow_redirects=False)
            weakref.finalize(self, self._own.close)  # the seed's sample never closes
        return self._own


class AsyncHttpClient:
    """The same for asyncio; `session` is a caller's own `httpx2.AsyncClient`."""

    def __init__(self, ca_pem: str | None, *, timeout: float, advice: str, session: Any = None) -> None:
        self._ca_pem = ca_pem
        self._timeout = timeout
        self._advice = advice
        self._given = session
        self._own: httpx2.AsyncClient | None = None

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """Send a request and read its answer, both within the timeout; errors as in HttpClient."""
        try:
            async with asyncio.timeout(self._timeout):
                client = await self._client()
                async with client.stream(**_arguments(request, self._timeout)) as response:
                    body = bytearray()
                    async for part in response.aiter_bytes():
                        _take(body, part)
                    return HttpAnswer(response.status_code, _headers(response), bytes(body))
        except (httpx2.RequestError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            _explain(error, request, self._timeout, self._advice, own_authority=self._ca_pem is not None)
        finally:
            if self._own is not None:
                self._own.cookies.clear()

    async def parts(self, request: HttpRequest, opened: Opened, *, silence: float) -> AsyncGenerator[bytes]:
        """As `HttpClient.parts`."""
        try:
            client = await self._client()
            async with client.stream(**_arguments(request, _patient(self._timeout, silence))) as response:
                body = bytearray()
                if not response.is_success:
                    async for part in response.aiter_bytes():
                        _take(body, part)
                opened(HttpAnswer(response.status_code, _headers(response), bytes(body)))
                async for part in response.aiter_bytes():
                    yield part
        except (httpx2.RequestError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            patience = self._timeout if isinstance(error, httpx2.ConnectTimeout) else silence
            _explain(error, request, patience, self._advice, own_authority=self._ca_pem is not None)
        finally:
            if self._own is not None:
                self._own.cookies.clear()

    async def close(self) -> None:
        """Close what this client opened itself; it may be used again afterwards."""
        own, self._own = self._own, None
        if own is not None:
            await own.aclose()

    async def _client(self) -> httpx2.AsyncClient:
        if self._given is not None:
            given: httpx2.AsyncClient = self._given
            return given
        if self._own is None:
            # Reading the system's certificates takes tens of milliseconds.
            context = await asyncio.to_thread(client_context, self._ca_pem)
            return self._opened(context)
        return self._own

    def _opened(self, context: ssl.SSLContext) -> httpx2.AsyncClient:
        """The one client, also when two requests were first at the same time."""
        if self._own is None:
            self._own = httpx2.AsyncClient(verify=context, follow_redirects=False)
        return self._own


def trusting_only(ca_pem: str | None) -> httpx2.Client:
    """A client that trusts these certificates and no other; None means the usual ones."""
    if ca_pem is None:
        return httpx2.Client(verify=client_context(), follow_redirects=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError):
        raise ThalovantAPIError("The CA certificate cannot be read.") from None
    return httpx2.Client(verify=context, follow_redirects=False)


def untrusted_get(request: HttpRequest, timeout: float) -> HttpAnswer:
    """Send a request that holds nothing secret to whoever answers there. Raises as `HttpClient.send`."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with httpx2.Client(verify=context, follow_redirects=False) as session:
        client = HttpClient(None, timeout=timeout, advice="Check the address.", session=session)
        return client.send(request)


def _patient(timeout: float, silence: float) -> httpx2.Timeout:
    return httpx2.Timeout(timeout, read=silence)


def _arguments(request: HttpRequest, timeout: float | httpx2.Timeout) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.url,
        "headers": request.headers,
        "content": request.content,
        "timeout": timeout,
        "follow_redirects": False,
    }


def _headers(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _take(body: bytearray, part: bytes) -> None:
    body += part
    if len(body) > MAX_ANSWER:
        raise ThalovantAPIError(f"The Thalovant API answered more than {MAX_ANSWER} bytes.")


def _explain(error: Exception, request: HttpRequest, timeout: float, advice: str, *, own_authority: bool) -> NoReturn:
    where = request.url.partition("/v1/")[0]
    could_not = f"Could not reach the Thalovant API at {where}"
    if isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)):
        raise ThalovantAPIError(f"The request to {where} could not be written; nothing was sent.") from None
    if isinstance(error, (httpx2.TimeoutException, TimeoutError)):
        text = f"{could_not}: no answer within {timeout:g} seconds. {advice}"
    elif (refusal := _certificate_refusal(error)) is not None:
        text = f"{could_not}: its certificate is not trusted ({refusal}). {_trust_advice(error, where, own_authority)}"
    elif where.startswith("http:") and isinstance(error, (httpx2.RemoteProtocolError, httpx2.ReadError)):
        text = f"{could_not}: it gave no HTTP answer. Use https: it seems to take encrypted connections only."
    else:
        text = f"{could_not}: {_reason(error).rstrip('. ')}. {advice}"
    unreachable = ThalovantAPIUnreachableError(text)
    unreachable.diagnosis = _diagnosis(error, where, timeout, own_authority)
    # `from None`: a hundred lines of the HTTP library would say no more than this line.
    raise unreachable from None


def _diagnosis(error: Exception, where: str, timeout: float, own_authority: bool) -> Diagnosis | None:
    """What is wrong, as `doctor` would have it of a hub there; None where the HTTP library says too little."""
    if isinstance(error, httpx2.TimeoutException):
        error = TimeoutError()
    known = ssl.SSLError, TimeoutError, socket.gaierror, ConnectionRefusedError
    cause = next((link for link in _chain(error) if isinstance(link, known)), None)
    host = where.partition("://")[2].partition("/")[0]
    return None if cause is None else why_unreachable(host, cause, timeout, own_authority=own_authority)


def _trust_advice(error: BaseException, where: str, own_authority: bool) -> str:
    refusals = [link for link in _chain(error) if isinstance(link, ssl.SSLCertVerificationError)]
    if any(map(is_other_name, refusals)):
        return NAME_ADVICE
    dated = next((one for one in refusals if is_expired(one) or is_not_yet_valid(one)), None)
    if dated is not None:
        return why_unreachable(where, dated, 0.0).advice
    login = (
        f"`thalovant login {where} --ca DIR/ca.pem` (DIR: the server's data directory), or from another machine "
        f"`thalovant login {where} --ca-fingerprint SHA256` (`thalovant-server up` prints it)"
    )
    if own_authority and any(map(is_other_authority, refusals)):
        return (
            "Your login (or THALOVANT_CA_FILE) trusts another authority than the one that signed the server's "
            f"certificate; was the server's data directory made anew? Type {login} and create new identities."
        )
    return f"Type {login}, or {bundle_advice()}."


def _certificate_refusal(error: BaseException) -> str | None:
    links = _chain(error)
    said = [link.verify_message for link in links if isinstance(link, ssl.SSLCertVerificationError)]
    if not said and not any("CERTIFICATE_VERIFY_FAILED" in str(link) for link in links):
        return None
    return next(filter(None, said), "it could not be verified").rstrip(". ")


def _reason(error: BaseException) -> str:
    if any(isinstance(link, ConnectionRefusedError) for link in _chain(error)):
        return "nothing listens there"
    system = next((link for link in _chain(error) if isinstance(link, OSError) and link.strerror), None)
    if system is not None:
        return str(system.strerror)
    return str(error).splitlines()[0][:200] if str(error).strip() else type(error).__name__


def _chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links
