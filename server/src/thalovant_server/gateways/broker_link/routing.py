# SPDX-License-Identifier: Apache-2.0
"""Whose a topic is: a dictionary from prefix to credential, so that a message costs the same however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalovant_server.brokers.names import Namespace
    from thalovant_server.directory import CredentialEntry


class Routing:
    """The prefixes of the credentials whose clients come over the link."""

    __slots__ = ("_by_id", "_by_prefix", "_namespace")

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._by_prefix: dict[bytes, int] = {}
        self._by_id: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, credential: CredentialEntry) -> None:
        """Take in a credential; one whose prefix does not lie below our root is nobody's here."""
        prefix = credential.topic_prefix.encode()
        self.remove(credential.id)
        if self._namespace.has(credential.topic_prefix):
            self._by_prefix[prefix] = credential.id
            self._by_id[credential.id] = prefix

    def remove(self, credential_id: int) -> bytes | None:
        """Forget a credential; the prefix that it had."""
        prefix = self._by_id.pop(credential_id, None)
        if prefix is not None:
            del self._by_prefix[prefix]
        return prefix

    def find(self, prefix: bytes) -> int | None:
        """The id of the credential with that prefix."""
        return self._by_prefix.get(prefix)
