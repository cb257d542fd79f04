# SPDX-License-Identifier: Apache-2.0
"""`thalovant emit` and `health` against a hub on real sockets, and what they say when it goes wrong."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from thalovant.protocol import noise
from thalovant.protocol.messages import bus
from thalovant.sync_client import ThalovantClient

if TYPE_CHECKING:
    from conftest import Typed

CARRIERS = ("wss", "https", "mqtt")


@pytest.fixture
def with_identity(hub: Any, typed: Typed) -> Typed:
    """Types where an identity of the hub is."""
    hub.identity().save("me.identity.json")
    return typed


@contextmanager
def answering(hub: Any, answer: Callable[[Any], None]) -> Iterator[None]:
    """While the block runs, `answer` is called with the one message that is not an utterance."""
    thread = threading.Thread(target=lambda: answer(hub.messages.get(timeout=30)), name="answering")
    thread.start()
    yield
    thread.join()


class TestEmit:
    @pytest.mark.parametrize("carrier", CARRIERS)
    def test_the_hub_has_it(self, with_identity: Typed, hub: Any, carrier: str) -> None:
        ran = with_identity("emit", "my.event", '{"a": [1, "é"]}', "--context", '{"b": 2}', "--protocol", carrier)
        assert ran.as_tuple() == (0, "Sent my.event.\n", "")
        name, data, context = hub.messages.get(timeout=10).bus_parts()
        assert (name, data, context["b"]) == ("my.event", {"a": [1, "é"]}, 2)
        assert context["request_id"].startswith("thalovant-request-")

    def test_without_data_and_as_json(self, with_identity: Typed, hub: Any) -> None:
        ran = with_identity("emit", "my.event", "--context", '{"request_id": "mine"}', "--json")
        sent = json.loads(ran.out)["sent"]
        assert (ran.code, sent["type"], sent["data"], sent["context"]["request_id"]) == (0, "my.event", {}, "mine")
        assert hub.messages.get(timeout=10).payload == sent

    def test_data_from_standard_input(self, with_identity: Typed, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO('{"from": "a pipe"}'))
        assert with_identity("emit", "my.event", "-").code == 0
        assert hub.messages.get(timeout=10).bus_parts()[1] == {"from": "a pipe"}

    def test_too_much_on_standard_input(self, with_identity: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO('{"a": "' + "x" * (4 << 20) + '"}'))
        assert "more than 4194304 characters. (too_large)" in with_identity("emit", "my.event", "-").err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("{",), "DATA is not JSON"),
            (("[1]",), "DATA is JSON but no object"),
            (("{}", "--context", "no"), "--context is not JSON"),
            (("{}", "--context", "null"), "--context is JSON but no object"),
        ],
    )
    def test_what_is_no_object_is_typed_wrongly(self, typed: Typed, words: tuple[str, ...], said: str) -> None:
        ran = typed("emit", "my.event", *words)
        assert (ran.code, ran.out) == (1, "")
        assert said in ran.err and ran.err.endswith("(usage); see --help\n")

    def test_a_message_without_a_type_is_typed_wrongly(self, with_identity: Typed, hub: Any) -> None:
        ran = with_identity("emit", " ")
        assert ran.as_tuple() == (1, "", "error: Invalid value: say which message: TYPE is empty (usage); see --help\n")
        assert hub.messages.empty()

    @pytest.mark.parametrize("names_request", [True, False])
    def test_a_refusal_is_an_error(self, with_identity: Typed, hub: Any, names_request: bool) -> None:
        def refuse(message: Any) -> None:
            name, _, context = message.bus_parts()
            denial = {"denied_type": name, "code": "acl_disallowed_type", "reason": "not yours"}
            hub.tell_all(bus("hive.policy.denied", denial, context if names_request else {}))

        with answering(hub, refuse):
            ran = with_identity("emit", "my.event", "--json")
        assert (ran.code, ran.out) == (1, "")
        told = json.loads(ran.err)["error"]
        assert told["code"] == "acl_disallowed_type" and "not yours" in told["message"]

    def test_the_refusal_of_something_else_is_not_ours(self, with_identity: Typed, hub: Any) -> None:
        denial = bus("hive.policy.denied", {"denied_type": "other"}, {"request_id": "other"})
        with answering(hub, lambda _: hub.tell_all(denial)):
            assert with_identity("emit", "my.event").code == 0


class TestHealth:
    @pytest.mark.parametrize("carrier", CARRIERS)
    def test_it_tells_carrier_hub_and_times(self, with_identity: Typed, hub: Any, carrier: str) -> None:
        ran = with_identity("health", "--protocol", carrier, "--json")
        assert (ran.code, ran.err) == (0, "")
        seen = json.loads(ran.out)
        assert (seen["ok"], seen["protocol"], seen["site_id"]) == (True, carrier, "kitchen")
        assert seen["hub"] == ("h1" if carrier == "mqtt" else None)
        assert str(hub.ports[carrier]) in seen["endpoint"]
        assert seen["connection"]["connect_ms"] >= seen["connection"]["handshake_ms"] > 0

    def test_in_words(self, with_identity: Typed, hub: Any) -> None:
        ran = with_identity("health", "--protocol", "mqtt")
        assert ran.out.startswith(
            f"The hub is well: mqtt to mqtts://localhost:{hub.ports['mqtt']}, hub h1, connected in "
        )
        assert "handshake" in ran.out and ran.out.endswith(" ms.\n")

    def test_the_hub_of_an_address(self, hub: Any, typed: Typed) -> None:
        endpoint = f"wss://user:secret@localhost:{hub.ports['wss']}/hubs/kitchen-hub"
        hub.identity(data_plane_endpoints={"wss": endpoint}).save("me.identity.json")
        ran = typed("health", "--json")
        assert json.loads(ran.out)["hub"] == "kitchen-hub"
        assert "secret" not in ran.out

    @pytest.mark.parametrize("carrier", CARRIERS)
    def test_a_hub_that_is_down(self, with_identity: Typed, hub: Any, carrier: str) -> None:
        hub.run(hub.stop())
        ran = with_identity("health", "--protocol", carrier)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("error: ") and ran.err.count("\n") == 1
        ran = with_identity("health", "--protocol", carrier, "--json")
        assert ran.code == 1
        seen, told = json.loads(ran.out), json.loads(ran.err)
        assert (seen["ok"], seen["error"]) == (False, told["error"])
        assert seen["connection"]["last_error"] == told["error"]["message"]
        assert told["error"]["code"] == "connection_failed"

    def test_the_first_of_several_that_gets_there(
        self, hub: Any, typed: Typed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.identity(data_plane_endpoints={"wss": "wss://localhost:1", "https": "https://localhost:2"}).save(
            "me.identity.json"
        )
        ran = typed("health", "--protocol", "wss,MQTT", "--json")
        seen = json.loads(ran.out)
        assert (ran.code, seen["ok"], seen["protocol"], seen["hub"]) == (0, True, "mqtt", "h1")
        assert [road for road, _ in seen["connection"]["attempts"]] == ["wss"]
        assert "wss" in typed("health", "--protocol", "wss,mqtt").out.rpartition(" ms. ")[2]
        assert typed("ask", "hello", "--protocol", "wss,mqtt").as_tuple() == (0, "hello\n", "")
        with monkeypatch.context() as patched:
            patched.setattr("thalovant.cli.output.is_for_people", lambda stream: True)
            assert "wss" in typed("ask", "hello", "--protocol", "wss,mqtt").err
            assert typed("ask", "hello", "--protocol", "wss,mqtt", "--json").err == ""
        ran = typed("ask", "hello", "--protocol", "wss,pigeon")
        assert "'pigeon' is no carrier; there are wss, https, mqtt" in ran.err

    def test_a_hub_that_hangs_up_after_the_handshake_is_not_well(
        self, with_identity: Typed, hub: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stay = ThalovantClient.wait_closed

        def cut_then_stay(client: ThalovantClient, timeout: float | None = None) -> None:
            hub.cut()  # the handshake is over by now
            stay(client, 10)

        monkeypatch.setattr(ThalovantClient, "wait_closed", cut_then_stay)
        ran = with_identity("health", "--protocol", "wss", "--json")
        assert (ran.code, json.loads(ran.out)["ok"]) == (1, False)
        assert json.loads(ran.err)["error"]["code"] == "connection_failed"

    def test_a_hub_that_refuses_this_key_is_not_well(self, with_identity: Typed, hub: Any) -> None:
        hub.pin, hub.script.offers_kk = noise.public_key(noise.generate_private_key()), False
        ran = with_identity("health", "--protocol", "wss")
        assert (ran.code, ran.out) == (1, "")
        assert "error: " in ran.err

    def test_a_carrier_that_the_identity_has_not(self, hub: Any, typed: Typed) -> None:
        hub.identity(mqtt=None).save("me.identity.json")
        ran = typed("health", "--protocol", "mqtt", "--json")
        assert (ran.code, ran.out) == (1, "")
        assert json.loads(ran.err)["error"]["code"] == "unsupported_protocol"


def test_no_command_leaves_a_thread(with_identity: Typed, hub: Any) -> None:
    before = set(threading.enumerate())
    for words in (("ask", "hello"), ("emit", "my.event"), ("health",)):
        assert with_identity(*words).code == 0
    assert [thread for thread in threading.enumerate() if thread not in before] == []


def test_an_identity_of_the_environment(hub: Any, typed: Typed, monkeypatch: pytest.MonkeyPatch, lonely: Path) -> None:
    for name, value in hub.identity().as_env().items():
        monkeypatch.setenv(name, value)
    assert typed("ask", "hello", "--protocol", "mqtt").as_tuple() == (0, "hello\n", "")
