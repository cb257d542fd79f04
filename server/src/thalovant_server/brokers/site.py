# SPDX-License-Identifier: Apache-2.0
"""The outside broker of this server, joined or run: where it is, how to trust it, and who we are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thalovant_server.brokers.names import BrokerAddress, Namespace
from thalovant_server.errors import SettingsError
from thalovant_server.settings import Settings


@dataclass(frozen=True, slots=True)
class BrokerSite:
    """One outside broker.

    Args:
        address: where the server dials it.
        public_url: how clients reach it.
        namespace: what everything of this server is called there.
        user: who tells it which clients there are.
        password_file: holds that user's password.
        ca_file: the authority that signed its certificate; None for one that this machine trusts anyway.
        certificate: what to show to it; None where it wants none.
        certificate_key: the private key of that.
    """

    address: BrokerAddress
    public_url: str
    namespace: Namespace
    user: str
    password_file: Path
    ca_file: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None

    def password(self) -> str:
        """Read the password (blocking); a line end behind it is none of it.

        Raises:
            SettingsError: the file cannot be read, or there is nothing in it.
        """
        try:
            found = self.password_file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise SettingsError(
                f"--broker-password-file {self.password_file} cannot be read ({why}): name the file that holds the "
                f"password of {self.user}"
            ) from error
        if not found:
            raise SettingsError(
                f"--broker-password-file {self.password_file} is empty: it has to hold the password of {self.user}"
            )
        return found


def joined(settings: Settings) -> BrokerSite:
    """Return the broker that runs already. Only with `--broker-url`."""
    url, password_file = settings.broker_url, settings.broker_password_file
    if url is None or password_file is None:
        raise SettingsError("--broker-url and --broker-password-file belong together: add the other one")
    return BrokerSite(
        BrokerAddress.parse(url),
        settings.broker_public_url or url,
        Namespace(settings.broker_root),
        settings.broker_user,
        password_file,
        settings.broker_ca,
        settings.broker_certificate,
        settings.broker_certificate_key,
    )
