# SPDX-License-Identifier: Apache-2.0
"""Every error the server raises towards the one who runs or calls it, in one tree. Does nothing.

    ThalovantServerError
    ├── SettingsError               what was typed or configured cannot be used
    ├── CertificateError            a certificate or key that the operator brought cannot be used (`.path`)
    ├── NotHealthyError             the server of this machine does not answer as it should (`.where`)
    ├── BrokerError                 an outside broker cannot be used (`.where`, `.fault`)
    │   ├── BrokerAwayError         it cannot be reached, or does not answer; it may later
    │   ├── BrokerRefusedError      it does not let us in, or lacks what we need
    │   │   ├── BrokerLoginError    it does not accept the user or its password
    │   │   └── AccountRefusedError it does not take one account, and may well take others
    │   └── BrokerTakenError        another server serves the same topics there
    ├── ProofError                  the isolation could not be proven, nor was it found broken
    ├── DataDirectoryError          the data directory cannot be used (`.path`)
    │   ├── DataDirectoryInUseError another process owns it (`.owner`: its pid)
    │   └── DataDamagedError        a file in it is damaged or missing (`.path`, `.fault`)
    ├── WrongServerKeyError         the sealing key is not the one this database was sealed with (`.path`)
    ├── DatabaseTooNewError         a newer version of the server wrote this database (`.path`, `.revision`)
    ├── StorageError                the database could not be read or written just now
    ├── Overloaded                  more is waiting than is worth waiting for (`.retry_after_seconds`)
    ├── CredentialGone              the credential was removed while somebody waited for it
    ├── ForbiddenTextError          an identifier or a name holds what it may not (`.field`)
    │   └── ForbiddenAgentError     a spec names code, a command or an address as the hub's agent
    ├── AuditExportError            a file is not the export of an audit log as a server wrote it (`.fault`)
    └── ApiError                    a request to the control plane is refused (`.status`, `.detail`)

Each class has a stable `code` for programs; its text is a sentence for people: what happened, what to do.
No text is made from a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "AccountRefusedError",
    "ApiError",
    "AuditExportError",
    "BrokerAwayError",
    "BrokerError",
    "BrokerLoginError",
    "BrokerRefusedError",
    "BrokerTakenError",
    "CertificateError",
    "CredentialGone",
    "DataDamagedError",
    "DataDirectoryError",
    "DataDirectoryInUseError",
    "DatabaseTooNewError",
    "ForbiddenAgentError",
    "ForbiddenTextError",
    "NotHealthyError",
    "Overloaded",
    "ProofError",
    "SettingsError",
    "StorageError",
    "ThalovantServerError",
    "WrongServerKeyError",
]


class ThalovantServerError(Exception):
    """The root: `code` is for programs, `sentence` for people."""

    code: str = "server_error"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class SettingsError(ThalovantServerError):
    """What was typed or configured cannot be used; the sentence says what to type instead."""

    code = "settings_invalid"


class CertificateError(ThalovantServerError):
    """A certificate, key or authority that the operator brought cannot be used.

    Args:
        path: the file.
        fault: what is wrong and what to do, as the rest of a sentence that begins with the file.
    """

    code = "certificate_unusable"

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path} {fault}.")
        self.path = path
        self.fault = fault


class NotHealthyError(ThalovantServerError):
    """The server of this machine does not answer as it should.

    Args:
        where: it was asked.
        fault: what happened.
    """

    code = "not_healthy"

    def __init__(self, where: str, fault: str) -> None:
        super().__init__(f"No server in order at {where}: {fault}. Is it up, with the same settings? Its log says more")
        self.where = where
        self.fault = fault


class BrokerError(ThalovantServerError):
    """An outside broker cannot be used.

    Args:
        where: the broker, as `host:port`.
        fault: what is wrong and what to do, as the rest of a sentence about it.
    """

    code = "broker_unusable"

    def __init__(self, where: str, fault: str) -> None:
        super().__init__(f"The broker at {where} {fault}.")
        self.where = where
        self.fault = fault


class BrokerAwayError(BrokerError):
    """The broker cannot be reached, hung up, or did not answer in time: trying again later may help."""

    code = "broker_away"


class BrokerRefusedError(BrokerError):
    """The broker does not let us in, or lacks what we need: trying again helps only once somebody has mended that."""

    code = "broker_refused"


class BrokerLoginError(BrokerRefusedError):
    """The broker does not accept the user or its password."""

    code = "broker_login_refused"


class AccountRefusedError(BrokerRefusedError):
    """The broker does not take one account, and may well take others."""

    code = "broker_account_refused"


class BrokerTakenError(BrokerError):
    """Another server serves the same topic root of the broker: two would evict each other and each other's clients."""

    code = "broker_taken"


class ProofError(ThalovantServerError):
    """The proof of isolation could not be run to its end.

    Args:
        fault: what stood in its way, as the rest of a sentence.
    """

    code = "proof_not_run"

    def __init__(self, fault: str) -> None:
        super().__init__(f"Isolation is neither proven nor found broken: {fault}")
        self.fault = fault


class DataDirectoryError(ThalovantServerError):
    """The data directory cannot be used.

    Args:
        path: the directory, or the file in it.
        fault: what is wrong, as the second half of a sentence.
    """

    code = "data_directory_unusable"

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"The data directory {path} cannot be used: {fault}.")
        self.path = path
        self.fault = fault


class DataDirectoryInUseError(DataDirectoryError):
    """Another process owns the data directory (architecture decision 12)."""

    code = "data_directory_in_use"

    def __init__(self, path: Path, owner: str | int | None) -> None:
        who = f"process {owner}" if owner else "another process"
        super().__init__(path, f"{who} runs with it; stop that one first, or choose another --data")
        self.owner = owner


class DataDamagedError(DataDirectoryError):
    """A file of the data directory is damaged or missing; it is never made anew silently."""

    code = "data_damaged"

    def __init__(self, path: Path, fault: str) -> None:
        ThalovantServerError.__init__(
            self,
            f"The file {path} is damaged: {fault}. Restore it from a backup of the data directory; or move "
            f"the whole directory {path.parent} away to start afresh (every client then needs a new identity).",
        )
        self.path = path
        self.fault = fault


class WrongServerKeyError(ThalovantServerError):
    """The key that seals secrets at rest is not the one this database was sealed with."""

    code = "wrong_server_key"

    def __init__(self, key_file: Path | None, database: Path) -> None:
        name = str(key_file) if key_file else "given"
        super().__init__(
            f"The server key {name} does not open the secrets in {database}: the two belong to different "
            "backups, or the key was changed. Restore both from the same backup."
        )
        self.path = key_file
        self.database = database


class DatabaseTooNewError(ThalovantServerError):
    """The database was written by a newer version of the server."""

    code = "database_too_new"

    def __init__(self, path: Path, revision: str) -> None:
        super().__init__(
            f"The database {path} has schema {revision}, which this version does not know: run the version "
            "of thalovant-server that wrote it, or a newer one, or restore a backup made before the upgrade."
        )
        self.path = path
        self.revision = revision


class StorageError(ThalovantServerError):
    """The database could not be read or written just now (disk full, locked by another program, ...)."""

    code = "storage_unavailable"


class Overloaded(ThalovantServerError):
    """More work is waiting than is worth waiting for; nothing is wrong with the one who asks."""

    code = "overloaded"

    def __init__(self, sentence: str, retry_after_seconds: int = 5) -> None:
        super().__init__(sentence)
        self.retry_after_seconds = retry_after_seconds


class CredentialGone(ThalovantServerError):
    """The credential was removed while somebody waited for something of it."""

    code = "credential_gone"

    def __init__(self) -> None:
        super().__init__("The credential was removed.")


class ForbiddenTextError(ThalovantServerError, ValueError):
    """An identifier or a name holds what it may not.

    Args:
        field: which one, as the caller knows it.
        rule: what it has to be, as the second half of a sentence.
    """

    code = "forbidden_text"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}.")
        self.field = field
        self.rule = rule


class ForbiddenAgentError(ForbiddenTextError):
    """A spec names code, a command or an address as the hub's agent: only the operator declares agents."""


class AuditExportError(ThalovantServerError):
    """A file is not the export of an audit log as a server wrote it.

    Args:
        fault: what is wrong, as the rest of a sentence about it.
    """

    code = "audit_export_invalid"

    def __init__(self, fault: str) -> None:
        super().__init__(f"This export is not as the server wrote it: {fault}.")
        self.fault = fault


class ApiError(ThalovantServerError):
    """A request to the control plane is refused; becomes one problem+json body (contract 1.5).

    Args:
        status: HTTP status.
        detail: a sentence for people, without credentials.
        code: stable code for programs, `[A-Za-z0-9_.:-]{1,80}`.
        retry_after_seconds: also sent as `Retry-After`.
        headers: further response headers.
        members: further members of the body, such as `errors`.
        hides: the id of what is there, but not for this caller; for the audit log, never sent.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        code: str,
        *,
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
        hides: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.hides = hides
        self.status = status
        self.detail = detail
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.headers = dict(headers or {})
        self.members = dict(members or {})
