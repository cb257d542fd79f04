# SPDX-License-Identifier: Apache-2.0
"""What can be wrong between a client and its hub: one catalogue, for the SDK's errors and for `thalovant doctor`.

Each entry has a stable code, a sentence that says what happened and one that says what to do. It looks at nothing and
opens nothing: whoever sees what is wrong names the code and the facts. No fact is a secret, nor made from one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

__all__ = ["STEPS", "Diagnosis", "Step", "codes", "diagnose", "diagnosed", "most_fundamental", "of_refusal"]

Step = Literal["identity", "address", "name", "tcp", "tls", "credential", "topics", "handshake", "ask"]
STEPS: Final[tuple[Step, ...]] = (
    "identity",
    "address",
    "name",
    "tcp",
    "tls",
    "credential",
    "topics",
    "handshake",
    "ask",
)
"""The road to a hub, in the order it is walked: what is wrong with an earlier step explains the later ones."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that is wrong. `code` is stable, `step` where on the road it shows, the rest is for people."""

    code: str
    step: Step
    happened: str
    advice: str

    def __str__(self) -> str:
        return f"{self.happened} {self.advice}".strip()

    def as_dict(self) -> dict[str, str]:
        """All of it, ready for JSON."""
        return {"code": self.code, "step": self.step, "happened": self.happened, "advice": self.advice}


_FRESH = "create a fresh identity"
_ANOTHER_FILE = "Correct the file, name another one with --identity, or create a fresh identity."
_AGAIN = "Create a fresh identity: `thalovant identity create {hub} --name {typed}`."
_KEY_ADVICE = (
    "The Noise folder of this identity was lost, or another program uses the same identity with another folder. "
    "Restore the folder (noise_state_dir=), or ask the hub's operator to reset the key (`thalovant identity reset-key "
    "CLIENT_ID`), or create a new identity."
)
_ROTATE = "Type `thalovant clients rotate {typed}`, and give the device the new file."
_NEWEST = "Use the newest identity file of {client}; if it is lost: `thalovant clients rotate {typed}`."
_TRUST = (
    "For a private authority use an identity with ca_pem, or {bundle}. One that is made after `thalovant login URL "
    "--ca FILE` has it; FILE is the server's ca.pem."
)
_OTHER_NAMES = (
    "The server is known by other names: use one of those, or start it with `thalovant-server up --public-host NAME` "
    "for this one, too."
)

# code: (step, what happened, what to do); in braces the facts that whoever sees it names. What is behind a slash is no
# part of the code: another sentence for the same thing.
_CATALOGUE: Final[dict[str, tuple[Step, str, str]]] = {
    # The identity file
    "identity_unreadable": ("identity", "{said}", _ANOTHER_FILE),
    "identity_open_to_others": (
        "identity",
        "{file} holds secrets but others may open it (mode {mode}).",
        "Type: chmod 600 {file}",
    ),
    # What it names
    "mqtt_not_enabled": (
        "address",
        "This identity has no MQTT credentials: MQTT was not on at its hub when it was made.",
        "Enable MQTT on the hub and create a fresh identity: credentials are made with the identity, an older one does "
        "not get them later.",
    ),
    "mqtt_not_enabled/known": (
        "address",
        "This identity has no MQTT credentials: MQTT is off at its hub.",
        "Type `thalovant hubs set {hub} --mqtt`, then `thalovant clients rotate {typed}`, and give the device the new "
        "file: enabling MQTT on the hub alone gives an older identity no credentials.",
    ),
    "protocol_not_enabled": (
        "address",
        "This hub does not expose {protocol} for the SDK runtime.",
        "Enable {protocol} on the hub and create a fresh identity.",
    ),
    "no_mqtt_block": (
        "address",
        "This identity has no MQTT credentials (no mqtt block), although its hub has MQTT.",
        "Enable MQTT on the hub and create a fresh identity: it was made before MQTT was enabled, or its file was "
        "shortened.",
    ),
    "no_mqtt_block/known": (
        "address",
        "This identity has no mqtt block, although it was made with MQTT credentials: its file was shortened.",
        "Take the file as the server gave it; if that is lost, type `thalovant clients rotate {typed}` and give the "
        "device the new file.",
    ),
    "plain_mqtt_endpoint": (
        "address",
        "The identity's MQTT endpoint is not TLS.",
        "The broker password would travel in the clear: use an mqtts:// endpoint, or set tls to true.",
    ),
    "plain_endpoint": (
        "address",
        "{scheme}://{host} is not encrypted, and its authorization would travel in the clear.",
        "Use {secure}:// (plain {scheme}:// is for this machine only).",
    ),
    "no_address": ("address", "{said}", "Create a fresh identity with {protocol} on, or use another protocol."),
    "topics_unusable": (
        "address",
        "The identity's MQTT topics cannot be used: {said}",
        "Create a fresh identity, and do not override its topics.",
    ),
    # The way there
    "name_unresolved": (
        "name",
        "The name in {where} could not be resolved: {said}.",
        "Check the spelling and this machine's DNS, or use the address of the server.",
    ),
    "port_refused": ("tcp", "Nothing listens at {where}.", "Is the hub running? Check the port, too."),
    "port_wrong": (
        "tcp",
        "{said} The control plane at {api} answers, so the server is up.",
        "The port in the identity is wrong, or a firewall is in the way, or the server was started with another port "
        "since: take the file as the server gave it, or type `thalovant clients rotate {typed}` for a new one.",
    ),
    "broker_not_there": (
        "tcp",
        "{said} That is the broker at which the hub meets its MQTT clients; the server itself, at {api}, answers.",
        "Start the broker, or look at its machine and the network between; `thalovant-server health` says whether the "
        "server reaches it. If the broker moved: `thalovant clients rotate {typed}` gives an identity for there.",
    ),
    "server_down": (
        "tcp",
        "{said} Nor does the control plane at {api} answer.",
        "The server is down, or cannot be reached from here: start it with `thalovant-server up`, or look at its "
        "machine and this one's network.",
    ),
    "port_silent": (
        "tcp",
        "{where} did not answer within {seconds} s.",
        "Is the hub running? A firewall may swallow what is sent there.",
    ),
    "unreachable": ("tcp", "{where} could not be reached: {said}.", "Check this machine's network, and the address."),
    "proxy_in_the_way": (
        "tcp",
        "{said}",
        "Correct HTTPS_PROXY (or ALL_PROXY), or name the hub in NO_PROXY.",
    ),
    # TLS
    "not_tls": (
        "tls",
        "What listens at {where} does not speak TLS ({said}).",
        "Use the port of the hub's encrypted endpoint: a broker's is mostly 8883, not 1883.",
    ),
    "tls_failed": ("tls", "The TLS handshake with {where} failed: {said}.", "The server's log may say more."),
    "bundle_unreadable": (
        "tls",
        "The environment variable {variable} names {path}, which is not a readable PEM file of certificate "
        "authorities.",
        "Correct it or unset it.",
    ),
    "ca_unknown": ("tls", "The certificate of {where} is not trusted: {said}.", _TRUST),
    "ca_unknown/own": (
        "tls",
        "The certificate of {where} is not trusted: {said}. This identity trusts another authority (ca_pem) than the "
        "one that signed the server's certificate; was the server's data directory made anew?",
        "Log in again with the server's own one (`thalovant login URL --ca FILE`; FILE is ca.pem in its data "
        "directory) and create a new identity.",
    ),
    "certificate_expired": (
        "tls",
        "The certificate of {where} is not trusted: it has expired.",
        "Renew it on the server; if it is new, set this machine's clock, which says {now}.",
    ),
    "certificate_not_yet_valid": (
        "tls",
        "The certificate of {where} is not trusted: it is not yet valid.",
        "Set this machine's clock, which says {now}; if that is right, the server's certificate was made with a wrong "
        "one.",
    ),
    "certificate_misnamed": ("tls", "The certificate of {where} is not trusted: {said}.", _OTHER_NAMES),
    "certificate_rejected": ("tls", "The certificate of {where} is not trusted: {said}.", _TRUST),
    "clock_wrong": (
        "tls",
        "This machine's clock says {now}, and {other}; the certificate of {where} is therefore refused.",
        "Set the clock (`timedatectl set-ntp true`, or the like) and try again.",
    ),
    # The credential
    "broker_login_refused": (
        "credential",
        "{told}",
        "MQTT may be turned off on the hub, or the client was paused or removed, or its credential replaced, or it is "
        "so new that the hub's broker has not been told of it yet: signed in (`thalovant login`), `thalovant doctor` "
        "says which. Check that this app uses the newest file, or create a fresh identity.",
    ),
    "credential_refused": (
        "credential",
        "{told}",
        "The client was paused or removed, or its credential was replaced: signed in (`thalovant login`), `thalovant "
        "doctor` says which. Create a fresh identity, or use the newest file.",
    ),
    "credential_withdrawn": (
        "credential",
        "{told} The session was up: its credential was removed or rotated since.",
        "Create a fresh identity, or use the newest file of this one.",
    ),
    "client_paused/told": (
        "credential",
        "{told}",
        "The client is paused. Its owner can resume it: `thalovant clients resume NAME`.",
    ),
    "credential_rotated/told": (
        "credential",
        "{told} This credential was replaced by a newer one.",
        "Use the newest identity file of this client; if it is lost: `thalovant clients rotate NAME`.",
    ),
    "client_removed/told": (
        "credential",
        "{told} The client was removed.",
        "Create a fresh identity: `thalovant identity create HUB --name NAME`.",
    ),
    "protocol_off": (
        "credential",
        "{told} {protocol}, or the whole hub, is turned off.",
        "Have it turned on, or use another protocol.",
    ),
    "protocol_off/known": (
        "credential",
        "{protocol} is turned off at the hub.",
        "Turn it on (`thalovant hubs set {hub} {options}`), or use another protocol.",
    ),
    "mqtt_elsewhere": (
        "credential",
        "{told} The hub's MQTT was moved since this identity was made.",
        "Give the client a new identity, which names the broker: `thalovant clients rotate NAME`.",
    ),
    "hub_off": ("credential", "{told} The hub is turned off.", "Its owner can turn it on."),
    "identity_in_use": (
        "credential",
        "{said} So it did {times} times in a row, each time soon after the client was connected: most likely another "
        "program uses the same identity, and the broker keeps only the newest connection of each.",
        "Give each program an identity of its own: `thalovant identity create HUB --name NAME`. Until then this one "
        "connects again about once a minute.",
    ),
    "server_busy": ("credential", "{told}", "Try again in a moment."),
    "throttled": (
        "credential",
        "{told} Too many attempts from here have failed.",
        "Wait a minute, then look what was wrong with them: most likely the credential, `thalovant doctor` says what.",
    ),
    "wrong_service": ("credential", "{told}", "Check the address of the identity."),
    "hub_refused_request": ("handshake", "{told}", "Connect again; if it stays so, the hub's log says why."),
    # The topics
    "topics_overridden": (
        "topics",
        "{told} The topics of this identity and its credential do not belong together.",
        "Do not override topics: take c2s_topic, s2c_topic, status_topic and topic_prefix as the server gave them, or "
        "create a fresh identity.",
    ),
    # The handshake
    "hub_silent": (
        "handshake",
        "The hub did not answer within {seconds} s.",
        "Over MQTT a hub is silent to an identity it does not know: check that the identity is current, and its topics "
        "are as the server gave them. If the broker is not the hub's own, the hub may not be connected to it: its "
        "server's log and `thalovant-server health` say so.",
    ),
    "hub_away": (
        "handshake",
        "The broker is there, and the hub is not connected to it.",
        "Is the hub's server running, and does it reach the broker? Its log and `thalovant-server health` say so. Once "
        "it is back, connecting again is enough.",
    ),
    "hub_away/known": (
        "handshake",
        "{said} Its server is up: the control plane at {api} answers.",
        "The server does not reach the broker, or the broker does not let it in: `thalovant-server health` says which. "
        "Once that is mended it is back by itself.",
    ),
    "handshake_slow": (
        "handshake",
        "The handshake with the hub took longer than {seconds} s.",
        "Try again; a slow machine may need more time (handshake_timeout=).",
    ),
    "wrong_password": (
        "handshake",
        "{said}",
        "The identity's password is not the one the hub knows: create a fresh identity.",
    ),
    "wrong_password/known": (
        "handshake",
        "{said} The server knows this credential, and its password is another one than in this file.",
        "Use the file as the server gave it; if that is lost, type `thalovant clients rotate {typed}` and give the "
        "device the new file.",
    ),
    "hub_key_changed": (
        "handshake",
        "The hub at {where} shows another key than the one this client trusted before.",
        "Either somebody stands in between, or the hub was set up anew. If you know it was set up anew, remove the "
        'entry "{where}" from {file} and connect again; otherwise do not.',
    ),
    "client_key_rejected": (
        "handshake",
        "The hub knows this client by another key than the one in {folder}.{hint}",
        _KEY_ADVICE,
    ),
    "handshake_failed": ("handshake", "The handshake with the hub failed: {said}", "The hub's log may say more."),
    "noise_state_unusable": ("handshake", "{said}", ""),
    # The ask
    "ask_unanswered": (
        "ask",
        "The hub took the question, and no answer came in time ({said}).",
        "The agent behind the hub is slow or hangs: look into the server's log.",
    ),
    "agent_failed": (
        "ask",
        "The hub was reached, and its agent failed: {said}",
        "Look into the server's log, or ask the hub's operator to.",
    ),
    "policy_denied": ("ask", "{said}", "If it is to be allowed, change the policy: `thalovant clients policy NAME`."),
    "policy_denied/known": (
        "ask",
        "{said}",
        "Look at what {client} may do, and how much: `thalovant clients policy {typed}`; its options change it.",
    ),
    "connection_lost": (
        "ask",
        "The connection was lost: {said}",
        "Try again; if it stays so, the server's log says more.",
    ),
    # What only the control plane knows
    "mqtt_enabled_since": (
        "address",
        "MQTT was enabled after this identity was made.",
        "Rotate it (`thalovant clients rotate {typed}`) or create a fresh identity: credentials are made with the "
        "identity, an older one does not get them later.",
    ),
    "credential_rotated": (
        "credential",
        "This credential was rotated; its grace ended on {when}.",
        _NEWEST,
    ),
    "credential_rotated/replaced": (
        "credential",
        "This credential was rotated on {when}: a new one took its place at once.",
        _NEWEST,
    ),
    "credential_ended": (
        "credential",
        "This credential ended on {when} ({why}).",
        _ROTATE,
    ),
    "credential_in_grace": (
        "credential",
        "This credential was rotated and works until {when} only.",
        "Use the newest identity file of {client}.",
    ),
    "client_paused": (
        "credential",
        "The client {client} is paused.",
        "Its owner can resume it: `thalovant clients resume {typed}`.",
    ),
    "client_removed": ("credential", "The client was removed on {when}.", _AGAIN),
    "hub_removed": (
        "credential",
        "The hub of this identity was removed on {when}.",
        "Create an identity of another hub: `thalovant identity create HUB --name {typed}`.",
    ),
    "broker_login_of_another": (
        "credential",
        "The server knows this credential, and its broker login is another one than in this file.",
        "Use the file as the server gave it. If that is lost, or the hub's MQTT was moved since: `thalovant clients "
        "rotate {typed}`.",
    ),
    "broker_login_of_another/link": (
        "credential",
        "The hub's broker was told of this credential, and does not accept this login.",
        "The login in this file is another one: use the file as the server gave it, or type `thalovant clients rotate "
        "{typed}`. Or the broker lost what it was told: the server looks for that now and then, and tells it again.",
    ),
    "not_admitted_yet": (
        "credential",
        "The hub's broker has not been told of this credential yet: it was made on {when}.",
        "Try again in a moment: it is let in by itself. If it stays so, the hub's server does not reach its broker: "
        "`thalovant-server health` says so.",
    ),
    "admission_failed": (
        "credential",
        "The hub's broker has not taken this credential up: {said}",
        "When that is mended at the server, it tells the broker again by itself: `thalovant-server health` says how it "
        "is.",
    ),
    "broker_lost_credential": (
        "credential",
        "The hub's broker does not have this credential, although the server does: it was set up anew, or somebody "
        "changed its users.",
        "The server tells it again by itself, within a minute or so. If it stays so, `thalovant-server health` says "
        "why.",
    ),
    "server_without_broker": (
        "credential",
        "The hub's MQTT is at an outside broker, and its server was started without one.",
        "Start it with --broker mosquitto or --broker-url mqtts://HOST:PORT as before, or type `thalovant hubs set "
        "{hub} --mqtt embedded`, then `thalovant clients rotate {typed}`.",
    ),
    "credential_unknown": (
        "credential",
        "The control plane that you are signed in to does not know this identity.",
        "It belongs to another server or account, or to a data directory made anew: sign in to that one (`thalovant "
        "login URL`), or create a fresh identity (`thalovant identity create {hub} --name {typed}`).",
    ),
}


class _Facts(dict[str, str]):
    """A fact that nobody named is left out, rather than hiding what is wrong behind a second error."""

    def __missing__(self, name: str) -> str:
        return ""


def codes() -> tuple[str, ...]:
    """Every code of the catalogue."""
    return tuple(code for code in _CATALOGUE if "/" not in code)


def diagnose(code: str, **facts: object) -> Diagnosis:
    """Make the diagnosis of that code; `facts` fill its sentences. Raises KeyError for a code that is none."""
    step, happened, advice = _CATALOGUE[code]
    code, _, _ = code.partition("/")
    told = _Facts({name: str(fact) for name, fact in facts.items()})
    return Diagnosis(code, step, _filled(happened, told), _filled(advice, told))


def most_fundamental(found: Iterable[Diagnosis | None]) -> Diagnosis | None:
    """The one that shows earliest on the road, of several the first; None when there is none."""
    return min((one for one in found if one is not None), key=lambda one: STEPS.index(one.step), default=None)


E = TypeVar("E", bound=Exception)


def diagnosed(kind: Callable[..., E], diagnosis: Diagnosis, **options: Any) -> E:
    """Make an error whose message is this diagnosis; `options` are what else its class takes."""
    error = kind(str(diagnosis), **options)
    error.diagnosis = diagnosis  # type: ignore[attr-defined]
    return error


# How hubs of ours word their refusals. They race with frames under way (contract 10.1), so that only the code means
# something to the session; here they only make a sentence more exact.
_REFUSALS: Final[tuple[tuple[str, str], ...]] = (
    ("client is paused", "client_paused/told"),
    ("credential was replaced", "credential_rotated/told"),
    ("client was removed", "client_removed/told"),
    ("this hub is turned off", "hub_off"),
    ("this protocol is turned off", "protocol_off"),
    ("MQTT for this hub, is turned off", "protocol_off"),
    ("hub meets its clients at another broker", "mqtt_elsewhere"),
    ("wrong password or altered offer", "wrong_password"),
    ("too many failed attempts", "throttled"),
    ("Too many attempts from this address have failed", "throttled"),
    ("A will says offline on the client's own status topic", "topics_overridden"),
)


def of_refusal(words: str) -> str | None:
    """The entry for what a hub says in refusing a credential; None when that says no more than that it is refused."""
    return next((code for phrase, code in _REFUSALS if phrase in words), None)


def _filled(template: str, facts: _Facts) -> str:
    return template.format_map(facts).strip()
