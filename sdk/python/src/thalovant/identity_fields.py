# SPDX-License-Identifier: Apache-2.0
"""The fields of an identity's mapping: their names (contract 3.4.3, 3.6), and how the text of one is read."""

from __future__ import annotations

import unicodedata

from thalovant.errors import ThalovantIdentityError

__all__ = ["ALIASES", "ENDPOINT_GROUPS", "NAMES", "PROTOCOL_GROUPS", "checked", "text_of"]

ALIASES = {
    "access_key": ("access_key", "key", "api_key", "apiKey"),
    "password": ("password",),
    "site_id": ("site_id", "siteId", "site", "client_id", "clientId"),
    "default_master": ("default_master", "defaultMaster", "host", "hub_http_host", "hubHttpHost", "master"),
    "default_port": ("default_port", "port", "hub_http_port"),
    "default_path": ("default_path", "defaultPath", "hub_http_path", "path", "uri_path"),
}
ENDPOINT_GROUPS = ("data_plane_endpoints", "dataPlaneEndpoints", "endpoints")
PROTOCOL_GROUPS = ("spec", "protocols", "network")
_OTHERS = ("mqtt", "metadata", "ca_pem", "https", "http", "wss", "ws", "mqtts")

NAMES = frozenset(
    [*(name for names in ALIASES.values() for name in names), *ENDPOINT_GROUPS, *PROTOCOL_GROUPS, *_OTHERS]
)
"""Every name that `ThalovantIdentity.from_mapping` reads."""


def text_of(value: object) -> str:
    """The text of a string or an integer, without blanks around it; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    try:
        return str(value).strip()
    except ValueError:  # an integer of thousands of digits
        return ""


def checked(text: str, name: str) -> str:
    """Return `text`; raises ThalovantIdentityError, naming the field, when it holds what no address or name does."""
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text):
        raise ThalovantIdentityError(f"The identity field {name} holds control characters.")
    return text
