# SPDX-License-Identifier: Apache-2.0
"""The broker credential of one client: the `mqtt` block of an identity (contract 3.5).

It reads and shows the block; it does not connect, and it does not decide which topics are used
(protocol.topics does).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from thalovant.errors import ThalovantIdentityError
from thalovant.hub_endpoints import read_flag, without_user_info
from thalovant.identity_fields import checked, text_of

_FORBIDDEN_IN_TOPICS = frozenset("+#$")
_TOPIC_ALIASES = {
    "topic_prefix": ("topic_prefix", "topicPrefix"),
    "c2s_topic": ("c2s_topic", "c2sTopic"),
    "s2c_topic": ("s2c_topic", "s2cTopic"),
    "status_topic": ("status_topic", "statusTopic"),
}


@dataclass(frozen=True, repr=False)
class MqttBrokerCredentials:
    """Broker address, broker login and topics of one client.

    `topic_prefix` is the client's own part of the broker; `c2s_topic`, `s2c_topic` and `status_topic` are set
    only where the identity names them, and then win over the prefix each on their own. `qos` is 0 or 1.
    """

    endpoint: str
    username: str
    password: str
    topic_prefix: str | None = None
    qos: int = 1
    tls: bool = True
    c2s_topic: str | None = None
    s2c_topic: str | None = None
    status_topic: str | None = None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any] | None) -> MqttBrokerCredentials | None:
        """Read the block (contract 3.5); None when endpoint, username or password is missing, as in every SDK.

        Raises ThalovantIdentityError for control characters, and for a topic that no broker would take: `+`,
        `#`, `$`, text that is not in Unicode normal form C.
        """
        if not isinstance(values, Mapping):
            return None
        endpoint = _text(values, ("endpoint", "broker_url", "brokerUrl"))
        username = _text(values, ("username", "broker_username", "brokerUsername"))
        password = _text(values, ("password", "broker_password", "brokerPassword"))
        if not (endpoint and username and password):
            return None
        topics = {field: _topic(_text(values, names), field) for field, names in _TOPIC_ALIASES.items()}
        tls = read_flag(values.get("tls"))
        secure = endpoint.lower().startswith("mqtts://") if tls is None else tls
        for name, text in (("endpoint", endpoint), ("username", username), ("password", password)):
            checked(text, f"mqtt.{name}")
        return cls(endpoint, username, password, qos=_qos(values.get("qos")), tls=secure, **topics)

    def as_dict(self, *, include_secrets: bool = False) -> dict[str, Any]:
        """Without secrets `endpoint` (no user info) and `tls`; with them all that `from_mapping` reads."""
        if not include_secrets:
            return {"endpoint": without_user_info(self.endpoint), "tls": self.tls}
        whole: dict[str, Any] = {"endpoint": self.endpoint, "tls": self.tls}
        whole |= {"username": self.username, "password": self.password}
        topics = {field: getattr(self, field) for field in _TOPIC_ALIASES}
        whole |= {field: topic for field, topic in topics.items() if topic}
        return whole if self.qos == 1 else whole | {"qos": self.qos}

    def __repr__(self) -> str:
        endpoint = without_user_info(self.endpoint)
        return f"MqttBrokerCredentials(endpoint={endpoint!r}, qos={self.qos}, tls={self.tls})"


def _text(values: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first name that is present decides, even when it holds nothing (contract 3.4.3)."""
    value = next((values[name] for name in names if name in values), None)
    return text_of(value) or None


def _qos(value: object) -> int:
    return 0 if text_of(value) == "0" else 1


def _topic(value: str | None, field: str) -> str | None:
    topic = (value or "").strip(" /")
    if not topic:
        return None
    wrong = next(
        (sign for sign in topic if sign in _FORBIDDEN_IN_TOPICS or unicodedata.category(sign) in ("Cc", "Cs")),
        "",
    )
    if wrong or not unicodedata.is_normalized("NFC", topic):
        reason = f"holds {wrong!r}" if wrong else "is not in Unicode normal form C"
        raise ThalovantIdentityError(f"The identity's mqtt.{field} {reason}; create a fresh identity.")
    return topic
