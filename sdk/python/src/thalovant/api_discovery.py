# SPDX-License-Identifier: Apache-2.0
"""Which control plane is talked to when nobody says: that of the environment, the config file, or this machine.

It reads the environment and the config file; it asks no server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thalovant.api_address import normalized_root, same_server
from thalovant.config import Login, ThalovantConfigError, read_login
from thalovant.errors import ThalovantAPIError
from thalovant.paths import default_config_path

LOCAL_URL = "https://localhost:8443"
"""Where `thalovant-server up` listens unless told otherwise."""

_MAX_CA_FILE = 1 << 20


@dataclass(frozen=True)
class ApiTarget:
    """A control plane: its root, certificates to trust for it, a token for it, and how it was found."""

    api_url: str
    ca_pem: str | None = None
    access_token: str | None = field(default=None, repr=False)
    token_id: str | None = None
    looked: tuple[str, ...] = ()


def find_api(api_url: str | None, environ: Mapping[str, str] | None = None) -> ApiTarget:
    """Find the control plane; `api_url` given means that one, whose certificates are still looked up.

    Order: `THALOVANT_API_URL` (with `THALOVANT_API_TOKEN`, `THALOVANT_CA_FILE`), the config file written by
    `thalovant login`, `https://localhost:8443`. The token of the config file goes only to the address it was
    saved with. Raises ThalovantAPIError for an unusable address or CA file, ThalovantConfigError for an
    unusable config file.
    """
    env = os.environ if environ is None else environ
    if api_url is not None:
        root = normalized_root(api_url)
        return ApiTarget(root, _certificates(root, env, _login_unless_broken()), looked=(f"{root} (as given)",))
    if named := env.get("THALOVANT_API_URL", "").strip():
        return _from_environment(normalized_root(named), env)
    return _from_config_or_local(env)


def unreachable_advice(target: ApiTarget) -> str:
    """What a user can do when nothing answers: each place that was looked at, and what to type."""
    looked = "; ".join(target.looked)
    return (
        f"Looked at: {looked}. Start a server with `thalovant-server up --data DIR`, or name another one with "
        "`thalovant login URL --ca DIR/ca.pem`."
    )


def _from_environment(root: str, env: Mapping[str, str]) -> ApiTarget:
    login = _login_unless_broken()
    mine = login if login and same_server(login.api_url, root) else None
    named = env.get("THALOVANT_API_TOKEN", "").strip()
    token = named or (mine.access_token if mine else None)
    token_id = mine.token_id if mine and not named else None
    return ApiTarget(root, _certificates(root, env, login), token, token_id, (f"{root} (THALOVANT_API_URL)",))


def _from_config_or_local(env: Mapping[str, str]) -> ApiTarget:
    looked = ["THALOVANT_API_URL (not set)"]
    login = read_login()
    named = env.get("THALOVANT_API_TOKEN", "").strip()
    if login is None:
        looked += [f"{default_config_path()} (no login)", f"{LOCAL_URL} (this machine)"]
        return ApiTarget(LOCAL_URL, _certificates(LOCAL_URL, env, None), named or None, None, tuple(looked))
    root = normalized_root(login.api_url)
    looked.append(f"{root} (from {default_config_path()})")
    token_id = None if named else login.token_id
    return ApiTarget(root, _certificates(root, env, login), named or login.access_token, token_id, tuple(looked))


def _certificates(root: str, env: Mapping[str, str], login: Login | None) -> str | None:
    path = env.get("THALOVANT_CA_FILE", "").strip()
    if path:
        return read_ca_file(path)
    return login.ca_pem if login and same_server(login.api_url, root) else None


def read_ca_file(path: str | Path) -> str:
    """The PEM text of a file of certificates; they are public, so its permissions do not matter.

    Raises ThalovantAPIError with code `unreadable`, or `no_certificate` (also for a file that is too large).
    """
    try:
        with Path(path).expanduser().open(encoding="ascii", errors="replace") as stream:
            text = stream.read(_MAX_CA_FILE + 1)
    except OSError as error:
        raise ThalovantAPIError(f"Unable to read the CA file {path}: {error.strerror}.", code="unreadable") from error
    if len(text) > _MAX_CA_FILE or "-----BEGIN CERTIFICATE-----" not in text:
        raise ThalovantAPIError(f"The CA file {path} holds no PEM certificate.", code="no_certificate")
    return text


def _login_unless_broken() -> Login | None:
    """An address that was given works without the config file, so a broken one must not get in its way."""
    try:
        return read_login()
    except ThalovantConfigError:
        return None
