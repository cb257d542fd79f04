# SPDX-License-Identifier: Apache-2.0
"""A TLS handshake within memory: would a client accept this certificate? Opens no socket."""

from __future__ import annotations

import ssl


def refusal(server: ssl.SSLContext, host: str, authorities: str | None) -> str:
    """Return why a client that dials ``host`` refuses; "" when it does not.

    Args:
        server: with its certificate loaded.
        host: the name or address that the client dials.
        authorities: PEM text of those it trusts, and no others; None trusts what this machine trusts.
    """
    client = _trusting(authorities)
    near, far = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(near, far, server_hostname=host),
        server.wrap_bio(far, near, server_side=True),
    ]
    try:
        while ends:
            ends = [end for end in ends if _wants_more(end)]
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except ssl.SSLError as error:
        return error.reason or str(error)
    return ""


def _trusting(authorities: str | None) -> ssl.SSLContext:
    if authorities is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authorities)
    return context


def _wants_more(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return True
    return False
