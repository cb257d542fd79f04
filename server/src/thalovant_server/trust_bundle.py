# SPDX-License-Identifier: Apache-2.0
"""One file with the system's certificate authorities and ours, for programs that take a single bundle.

It trusts nobody itself, and looks for the system's file only where OpenSSL or a distribution keeps it.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from thalovant_server.data_files import write_text

_SYSTEM_BUNDLES = (  # where distributions keep their certificates, should OpenSSL not know
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def write(path: Path, authorities: str) -> None:
    """Write the bundle: the system's certificates, then ``authorities`` (PEM text).

    Raises:
        DataDirectoryError: it cannot be written.
    """
    write_text(path, _system_certificates(path.name) + authorities)


def _system_certificates(own_name: str) -> str:
    """Return the certificates the system trusts; a distribution's bundle may hold comments in any script."""
    named = ssl.get_default_verify_paths()
    for name in (os.environ.get("SSL_CERT_FILE"), named.cafile, named.openssl_cafile, *_SYSTEM_BUNDLES):
        text = _bundle_at(Path(name)) if name and Path(name).name != own_name else ""
        if text:
            return text if text.endswith("\n") else text + "\n"
    return ""


def _bundle_at(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").encode("ascii", "replace").decode() if path.is_file() else ""
    except OSError:  # not for us: the next one may be
        return ""
