# SPDX-License-Identifier: Apache-2.0
"""What a broker's last word means to the user: the error to raise, and what to do about it.

From MQTT's codes to sentences, for both versions; the codes' meanings are those of MQTT 3.1.1, table 3.1, and MQTT 5,
2.4. A broker's own words are shown as they came, on one line, without what is ours to keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from thalovant.diagnoses import Diagnosis, diagnose, diagnosed, of_refusal
from thalovant.errors import (
    ThalovantConnectionError,
    ThalovantHubRefusedError,
    ThalovantPublishDeniedError,
    ThalovantPublishTooLargeError,
)
from thalovant.protocol.mqtt.client_events import (
    BrokerLeft,
    Ending,
    LoginRefused,
    NobodyListens,
    PacketTooLarge,
    PublishRefused,
    SubscriptionRefused,
    Unanswered,
    Violated,
)
from thalovant.protocol.mqtt.packets import BAD_CREDENTIALS, NOT_AUTHORIZED, SERVER_UNAVAILABLE
from thalovant.protocol.mqtt.reason_codes import ReasonCode
from thalovant.transports.base import Loss

__all__ = ["Answers", "at_login"]

_WORDS = 200  # of a broker's own that are shown

_REFUSING = {ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.NOT_AUTHORIZED, ReasonCode.BANNED}
_PASSING = {
    ReasonCode.SERVER_UNAVAILABLE,
    ReasonCode.SERVER_BUSY,
    ReasonCode.SERVER_SHUTTING_DOWN,
    ReasonCode.KEEP_ALIVE_TIMEOUT,
    ReasonCode.MESSAGE_RATE_TOO_HIGH,
    ReasonCode.QUOTA_EXCEEDED,
    ReasonCode.ADMINISTRATIVE_ACTION,
    ReasonCode.CONNECTION_RATE_EXCEEDED,
    ReasonCode.MAXIMUM_CONNECT_TIME,
}
_ELSEWHERE = {ReasonCode.USE_ANOTHER_SERVER, ReasonCode.SERVER_MOVED}
_PASSING_PUBACKS = {ReasonCode.PACKET_IDENTIFIER_IN_USE, ReasonCode.QUOTA_EXCEEDED}
_OTHER_TOPICS = "Its topics and its credentials do not belong together: create a fresh identity."
_BY_CODE = {
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: "It must allow client ids of `thalovant-` and 32 hexadecimal digits.",
    ReasonCode.TOPIC_NAME_INVALID: _OTHER_TOPICS,
    ReasonCode.RETAIN_NOT_SUPPORTED: "A client's presence is a retained message: allow them on the broker, or use WSS.",
    ReasonCode.QOS_NOT_SUPPORTED: "A client's last will has QoS 1: allow it on the broker, or use WSS.",
    ReasonCode.UNSPECIFIED_ERROR: "The broker's log may say more.",
    ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR: "The broker's log may say more.",
    ReasonCode.SESSION_TAKEN_OVER: "Another connection has come with the same client id: another program uses the same "
    "identity, and this broker keeps one connection of each.",
}


class Answers:
    """Reads the endings of one connection in MQTT `level`; `private` is text that no error may show.

    `overridden` names fields of the identity whose topics were put there by hand (`mqtt_topics.overridden_topics`).
    """

    def __init__(self, level: int, private: Iterable[str], overridden: Sequence[str] = ()) -> None:
        self._overridden = overridden
        self._is_5 = level == 5
        self._version = "MQTT 5" if self._is_5 else "MQTT 3.1.1"
        self._private = sorted(filter(None, private), key=len, reverse=True)

    def refusal(self, ending: Ending) -> ThalovantConnectionError:
        """The error for a connection that ended before frames could go."""
        if isinstance(ending, LoginRefused):
            return self._login_refused(ending)
        if isinstance(ending, SubscriptionRefused):
            return self._subscription_refused(ending)
        return at_login(self.loss(ending))

    def loss(self, ending: Ending) -> Loss:
        """Why an open connection ended."""
        if isinstance(ending, BrokerLeft):
            return self._left(ending)
        if isinstance(ending, PublishRefused):
            return self._publish_refused(ending)
        if isinstance(ending, NobodyListens):
            return _loss(diagnosed(ThalovantConnectionError, diagnose("hub_away")))
        if isinstance(ending, PacketTooLarge):
            return _loss(_too_large(ending.size, ending.limit))
        if isinstance(ending, Violated):
            return Loss(self._violation(ending))
        if isinstance(ending, Unanswered):
            return Loss(_silence(ending))
        return Loss(f"The broker does not speak {self._version}.")

    def _login_refused(self, ending: LoginRefused) -> ThalovantConnectionError:
        code, told = ending.code, self._told("CONNACK", ending.code, ending.said)
        if code in (_REFUSING if self._is_5 else (BAD_CREDENTIALS, NOT_AUTHORIZED)):
            return diagnosed(ThalovantHubRefusedError, self._bad_login(code, ending.said, told))
        if code in (_PASSING if self._is_5 else (SERVER_UNAVAILABLE,)):
            busy = f"The broker is not available just now {told}"
            return diagnosed(ThalovantConnectionError, diagnose(of_refusal(ending.said) or "server_busy", told=busy))
        if self._is_5 and code in _ELSEWHERE:
            return ThalovantConnectionError(
                f"The broker sends its clients away {told} {self._elsewhere(ending.instead)}"
            )
        if self._is_5 and code in _BY_CODE:
            return ThalovantConnectionError(f"The broker refused the connection {told} {_BY_CODE[ReasonCode(code)]}")
        return ThalovantConnectionError(
            f"The broker refused the connection {told} It does not speak {self._version} as we do."
        )

    def _bad_login(self, code: int, said: str, told: str) -> Diagnosis:
        """Why a login was refused. A will on a topic of somebody else is refused with it."""
        refused = f"The broker does not accept these credentials {told}"
        wrong_will = code == (ReasonCode.NOT_AUTHORIZED if self._is_5 else NOT_AUTHORIZED)
        if wrong_will and "status_topic" in self._overridden:
            return diagnose("topics_overridden", told=refused)
        return diagnose(of_refusal(said) or "broker_login_refused", told=refused, protocol="MQTT")

    def _subscription_refused(self, ending: SubscriptionRefused) -> ThalovantConnectionError:
        told = self._told("SUBACK", ending.code, ending.said)
        if self._is_5 and ending.code in _PASSING:
            busy = f"The broker has no room for a subscription {told}"
            return diagnosed(ThalovantConnectionError, diagnose("server_busy", told=busy))
        refused = f"The broker refused the subscription to this client's own topic {told}"
        return diagnosed(ThalovantHubRefusedError, diagnose("topics_overridden", told=refused))

    def _publish_refused(self, ending: PublishRefused) -> Loss:
        told = self._told("PUBACK", ending.code, ending.said)
        if ending.code in _PASSING_PUBACKS:
            return Loss(f"The broker could not take a message {told} Try again in a moment.")
        refused = f"The broker denied a publish on this client's own {ending.kind}_topic {told}"
        denied = diagnosed(
            ThalovantPublishDeniedError,
            diagnose("topics_overridden", told=refused),
            topic_kind=ending.kind,
            reason=self._clean(ending.said),
            reason_code=ending.code,
        )
        return _loss(denied)

    def _left(self, ending: BrokerLeft) -> Loss:
        code = ending.code
        text = f"The broker ended the connection {self._told('DISCONNECT', code, ending.said)}"
        if code == ReasonCode.NOT_AUTHORIZED:
            return Loss(text, refused=True)
        if code == ReasonCode.PACKET_TOO_LARGE:
            return _loss(_too_large(None, None, self._told("DISCONNECT", code, ending.said)))
        if code in _ELSEWHERE:
            return Loss(f"{text} {self._elsewhere(ending.instead)}")
        advice = "Try again in a moment." if code in _PASSING else _BY_CODE.get(ReasonCode(code), "")
        hung_up, taken_over = code == ReasonCode.NORMAL_DISCONNECTION, code == ReasonCode.SESSION_TAKEN_OVER
        return Loss(f"{text} {advice}".rstrip(), hung_up=hung_up, has_words=True, taken_over=taken_over)

    def _violation(self, ending: Violated) -> str:
        if ending.code == ReasonCode.MALFORMED_PACKET:
            return f"The broker sent something that is not {self._version}: {ending.reason}"
        return f"The broker broke a rule of {self._version}: {ending.reason}"

    def _elsewhere(self, instead: str) -> str:
        named = f"to {self._clean(instead)}" if instead else "without saying where to"
        return (
            f"It refers {named}; that is not followed, for the credentials are this broker's. Create a fresh identity."
        )

    def _told(self, packet: str, code: int, said: str) -> str:
        """`(CONNACK 0x87, not authorized).`, and the broker's own words behind it, if any."""
        number = f"0x{code:02x}, {_name(packet, code)}" if self._is_5 else str(code)
        words = self._clean(said)
        return f"({packet} {number})." + (f' It said: "{words.rstrip(". ")}".' if words else "")

    def _clean(self, said: str) -> str:
        """A broker's words, folded to one printable line; what is private hidden first."""
        for secret in self._private:
            said = said.replace(secret, "...")
        printable = "".join(char if char.isprintable() else " " for char in said)
        return " ".join(printable.split())[:_WORDS]


def at_login(loss: Loss) -> ThalovantConnectionError:
    """The error for a carrier that was lost before it was up."""
    return loss.error or ThalovantConnectionError(f"{loss.text} It happened while logging in to the broker.")


def _loss(error: ThalovantConnectionError) -> Loss:
    return Loss(str(error), error=error)


def _too_large(size: int | None, limit: int | None, told: str = "") -> ThalovantPublishTooLargeError:
    much = f"A message of {size} bytes is more than the {limit} that the broker takes."
    text = much if size is not None else f"A message was longer than the broker takes {told}"
    return ThalovantPublishTooLargeError(
        f"{text} Send less at once, raise the broker's limit, or use WSS.", topic_kind="c2s", size=size, limit=limit
    )


def _silence(ending: Unanswered) -> str:
    if ending.what == "publish":
        return f"The broker did not acknowledge a message within {ending.seconds:g} s."
    return f"The broker did not answer a ping within {ending.seconds:g} s."


def _name(packet: str, code: int) -> str:
    """The code's name as MQTT 5 has it; the codec lets no other code pass."""
    if packet == "DISCONNECT" and not code:
        return "normal disconnection"  # one number, several names
    return ReasonCode(code).name.lower().replace("_", " ")
