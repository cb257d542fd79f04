# SPDX-License-Identifier: Apache-2.0
"""The polling road over real sockets with TLS: the table of contract 10.2, and who may act on a session."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import httpx2
import pytest
import structlog

from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.noise import generate_private_key
from thalovant_server.errors import Overloaded
from thalovant_server.gateways import https
from thalovant_server.hub import refusal
from thalovant_server.hub.limits import Limits
from thalovant_server.hub.refusal import Refused

VECTORS = Path(__file__).parents[3] / "contract" / "vectors"
RECORDED = {case["case"]: case["got"] for case in json.loads((VECTORS / "refusals.json").read_text())["http"]}


COOKIE = https.COOKIE.decode()


class Https:
    """A device that polls."""

    def __init__(self, port, device, *, path=""):
        self.port, self.device, self.path = port, device, path
        self.http = httpx2.AsyncClient(
            base_url=f"https://localhost:{port.api.port}", verify=port.client_tls, trust_env=False
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.http.aclose()

    async def call(self, method, name, *, number=None, query=None, **fields):
        query = self.port.authorization(number or self.device.number) if query is None else query
        return await self.http.request(method, f"{self.path}/{name}?{query}", **fields)

    async def connect(self):
        response = await self.call("POST", "connect")
        assert response.status_code == 200, response.text
        return response

    async def send(self, sealed, data):
        form = {"message": base64.b64encode(data).decode(), "binary": "1"} if sealed else {"message": data.decode()}
        return await self.call("POST", "send_message", data=form)

    async def flush(self):
        out, self.device.out = self.device.out, []
        return [await self.send(sealed, data) for sealed, data in out]

    async def poll(self):
        clear = await self.call("GET", "get_messages")
        sealed = await self.call("GET", "get_binary_messages")
        for frame in clear.json().get("messages", []):
            self.device.take(False, frame.encode())
        for frame in sealed.json().get("b64_messages", []):
            self.device.take(True, base64.b64decode(frame))
        return clear, sealed

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition(self.device):
                for response in await self.poll():
                    assert response.status_code == 200, response.text
                    assert "error" not in response.json()
                await self.flush()
        return self

    async def ready(self):
        await self.connect()
        return await self.until(lambda device: device.ready)

    async def hears(self, count):
        await self.flush()
        await self.until(lambda device: len(device.heard) >= count)
        return self.device.heard


def same(response, case):
    got = RECORDED[case]
    assert response.status_code == got["status"], case
    assert response.json() == json.loads(got["body"]), case
    if got["body"]:
        assert response.headers["content-type"] == got["headers"]["Content-Type"]


@pytest.mark.parametrize("path", ["", "/hubs/h1"])
def test_an_ask_by_polling(run_port, path):
    async def main(port):
        async with Https(port, port.device(), path=path) as client:
            await client.ready()
            client.device.ask("hello")
            await client.hears(2)
            assert client.device.said == ["hello"]
            assert (await client.call("POST", "disconnect")).json() == {"status": "Disconnected"}
            assert port.hub.connections == 0

    run_port(main)


def test_kk_and_a_chunked_message(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            device = client.device
        again = port.device(key=device.key, pinned=device.session.remote_static)
        async with Https(port, again) as client:
            await client.ready()
            assert again.session.pattern == "KKpsk0"
            again.ask("x" * 200_000)
            answers = [response.json()["status"] for response in await client.flush()]
            assert answers[:-1] == ["buffered"] * (len(answers) - 1)
            assert answers[-1] == "message sent"
            await client.hears(2)
            assert again.said == ["x" * 200_000]

    run_port(main)


def test_the_recorded_answers(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            unknown = "authorization=" + base64.b64encode(b"ua:nobody").decode().replace("=", "%3D")
            same(await client.call("POST", "connect", query=""), "http /connect, no authorization")
            same(await client.call("POST", "connect", query="authorization=%25"), "http /connect, not base64")
            same(await client.call("POST", "connect", query=unknown), "http /connect, unknown key")
            same(await client.call("GET", "get_messages"), "http /get_messages before connect")
            same(await client.call("POST", "send_message", data={"message": "x"}), "http /send_message before connect")
            same(await client.call("POST", "disconnect"), "http /disconnect before connect")
            same(await client.connect(), "http /connect")
            first = await client.call("GET", "get_messages")
            assert [json.loads(text)["msg_type"] for text in first.json()["messages"]] == ["hello", "shake"]
            same(await client.call("GET", "get_messages"), "http /get_messages drained")
            same(await client.call("GET", "get_binary_messages"), "http /get_binary_messages empty")
            same(await client.call("POST", "send_message"), "http /send_message empty")
            sealed = {"message": "AAAA", "binary": "1"}
            same(await client.call("POST", "send_message", data=sealed), "http /send_message binary without a session")
            same(await client.send(False, bus("x").encode()), "http /send_message cleartext bus")
            same(await client.call("GET", "get_messages"), "http after that: /get_messages")

    run_port(main)


def test_the_rest_of_the_table(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            response = await client.connect()
            cookie = response.headers["set-cookie"]
            assert len(client.http.cookies[COOKIE]) == 32
            assert set(cookie.split("; ")[1:]) == {"HttpOnly", "Path=/", "SameSite=Lax", "Secure"}
            wrong = await client.call("GET", "connect")
            assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
            assert (await client.call("POST", "get_messages")).status_code == 405
            big = await client.call("POST", "send_message", content=b"message=" + b"x" * (1 << 20))
            assert (big.status_code, big.content) == (400, b"")

    run_port(main)


def test_a_frame_that_is_not_base64_changes_nothing(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            response = await client.call("POST", "send_message", data={"message": "%%%", "binary": "1"})
            assert response.status_code == 400
            client.device.ask("still here")
            await client.hears(2)

    run_port(main)


def test_whoever_lacks_the_cookie_cannot_touch_the_session(run_port):
    async def main(port):
        async with Https(port, port.device()) as owner, Https(port, port.device()) as thief:
            await owner.ready()
            owner.device.ask("mine")
            await owner.flush()
            for cookie in ("", "0" * 32, owner.http.cookies[COOKIE] + "x", "a; b", "=;="):
                thief.http.cookies.clear()
                if cookie:
                    thief.http.headers["cookie"] = f"{COOKIE}={cookie}"
                assert (await thief.call("GET", "get_messages")).json() == {"error": "Client is not connected"}
                assert (await thief.call("GET", "get_binary_messages")).json() == {"error": "Client is not connected"}
                assert (await thief.send(True, b"x")).status_code == 409
                assert (await thief.call("POST", "disconnect")).json() == {"error": "Already Disconnected"}
            await owner.hears(2)
            assert owner.device.said == ["mine"]

    run_port(main)


def test_a_cookie_is_of_no_use_with_another_key(run_port):
    async def main(port):
        port.credential(2)
        async with Https(port, port.device(1)) as owner:
            await owner.ready()
            response = await owner.call("GET", "get_messages", number=2)
            assert response.json() == {"error": "Client is not connected"}

    run_port(main)


def test_connecting_starts_a_new_session_each_time(run_port):
    async def main(port):
        key = generate_private_key()
        async with Https(port, port.device(key=key)) as one, Https(port, port.device(key=key)) as two:
            await one.ready()
            await two.ready()
            assert one.http.cookies[COOKIE] != two.http.cookies[COOKIE]
            one.device.ask("one")
            two.device.ask("two")
            await one.hears(2)
            await two.hears(2)
            assert (one.device.said, two.device.said) == (["one"], ["two"])
            await one.connect()  # with its cookie: in place of its old session, whose client is this one
            assert port.hub.connections == 2

    run_port(main)


def test_unfinished_sessions_displace_only_each_other(run_port):
    async def main(port):
        async with Https(port, port.device()) as owner:
            await owner.ready()
            clients = [Https(port, port.device()) for _ in range(6)]
            for client in clients:
                await client.connect()
            assert port.hub.connections == 1 + 4
            polls = [(await client.call("GET", "get_messages")).json() for client in clients]
            assert ["error" in poll for poll in polls] == [True, True, False, False, False, False]
            owner.device.ask("still here")
            await owner.hears(2)
            for client in clients:
                await client.http.aclose()

    run_port(main)


def test_a_stranger_with_the_access_key_displaces_its_own_unfinished_sessions(run_port):
    async def main(port):
        credential = port.credential()
        displace = port.https._make_room

        def begun(remote):
            displace(credential.access_key, remote)
            session = port.https._new_session(credential, remote)
            assert port.https._begin(session, credential, "test") is None
            port.https._keep(session)
            return session

        stranger = [begun("192.0.2.66") for _ in range(4)]
        owner = begun("192.0.2.1")
        assert stranger[0].ended and not owner.ended
        for _ in range(20):
            begun("192.0.2.66")
        assert not owner.ended
        again = begun("192.0.2.1")
        assert not owner.ended and not again.ended
        assert port.hub.connections == 4

    run_port(main)


def test_of_an_address_those_that_said_nothing_are_displaced_first(run_port):
    async def main(port):
        async with Https(port, port.device()) as busy:
            await busy.connect()
            port.hub.connections_of("client-1")[0]._session.state = "waiting"  # its first Noise message is in
            silent = [Https(port, port.device()) for _ in range(6)]
            for client in silent:
                await client.connect()
            polls = [(await client.call("GET", "get_messages")).json() for client in [busy, *silent]]
            assert ["error" in poll for poll in polls] == [False, True, True, True, False, False, False]
            for client in silent:
                await client.http.aclose()

    run_port(main)


def test_too_many_connects_of_a_key_from_an_address_are_503_for_a_while(run_port):
    async def main(port):
        port.credential(1)
        port.credential(2)
        async with Https(port, port.device()) as client:
            answers = [await client.call("POST", "connect") for _ in range(12)]
            assert [each.status_code for each in answers] == [200] * 10 + [503] * 2
            assert int(answers[-1].headers["retry-after"]) > 0
            assert (await client.call("POST", "connect", number=2)).status_code == 200
            assert (await client.call("GET", "get_messages")).status_code == 200
            port.clock.advance(10)
            await client.connect()

    run_port(main, standing=True)


def test_whoever_proves_the_password_may_connect_as_often_as_it_likes(run_port):
    async def main(port):
        key = generate_private_key()
        for _ in range(12):
            async with Https(port, port.device(key=key)) as client:
                await client.ready()
                assert (await client.call("POST", "disconnect")).status_code == 200
        assert not port.https._connects
        async with Https(port, port.device()) as stranger:
            answers = [(await stranger.call("POST", "connect")).status_code for _ in range(11)]
            assert answers == [200] * 10 + [503]

    run_port(main, standing=True)


def test_presence_follows_the_requests_of_a_poller(run_port):
    async def main(port):
        def state():
            found = port.hub.presence.of("client-1")
            return found.state, found.why

        async with Https(port, port.device()) as client:
            await client.ready()
            port.clock.advance(34)
            assert state() == ("online", None)
            port.clock.advance(2)
            assert state() == ("stale", None)
            await client.poll()
            port.clock.advance(1)
            assert state() == ("online", None)
            await client.call("POST", "disconnect")
            assert state() == ("offline", "disconnected")
            client.device = port.device(key=client.device.key)
            await client.ready()
            port.clock.advance(299)
            assert state() == ("stale", None)
            port.clock.advance(2)
            assert state() == ("offline", "no_sign_of_life")
            client.device = port.device(key=client.device.key)
            await client.ready()
            await client.connect()  # with its cookie: the new session takes the old one's place
            assert state() == ("offline", "taken_over")

    run_port(main, standing=True)


def test_a_handshake_of_an_earlier_window_takes_nothing_off(run_port):
    async def main(port):
        async with Https(port, port.device()) as client, Https(port, port.device(2)) as other:
            await client.connect()
            port.clock.advance(10)
            await other.connect()  # begins the next window
            await client.until(lambda device: device.ready)
            assert port.https._connects == {("key-2", "127.0.0.1"): 1}

    run_port(main, standing=True)


def test_a_connect_that_comes_too_soon_costs_no_session(run_port):
    async def main(port):
        async with Https(port, port.device()) as owner, Https(port, port.device()) as stranger:
            await owner.ready()
            for _ in range(10):
                await stranger.connect()
            assert (await stranger.call("POST", "connect")).status_code == 503
            owner.device.ask("still here")
            await owner.hears(2)

    run_port(main, standing=True)


def test_who_proved_the_password_comes_back_with_its_cookie_whatever_strangers_did_at_its_address(run_port):
    async def main(port):
        key = generate_private_key()
        async with Https(port, port.device(key=key)) as owner, Https(port, port.device()) as stranger:
            await owner.ready()
            assert (await owner.call("POST", "disconnect")).status_code == 200
            for _ in range(11):
                last = await stranger.call("POST", "connect")
            assert last.status_code == 503
            owner.device = port.device(key=key)
            await owner.ready()
            assert (await stranger.call("POST", "connect")).status_code == 503

    run_port(main, standing=True)


def test_ready_sessions_are_bounded_and_the_least_recently_polled_goes(run_port):
    async def main(port):
        key = generate_private_key()
        clients = [Https(port, port.device(key=key)) for _ in range(3)]
        await clients[0].ready()
        await clients[1].ready()
        await clients[0].poll()
        await clients[2].ready()
        polls = [(await client.call("GET", "get_messages")).json() for client in clients]
        assert ["error" in poll for poll in polls] == [False, True, False]
        for client in clients:
            await client.http.aclose()

    run_port(main, limits=Limits(sessions_per_credential=2))


def test_whoever_was_cut_can_still_close_its_session(run_port):
    async def main(port):
        async with Https(port, port.device(1)) as client:
            await client.ready()
            port.directory.remove_client("client-1")
            for _ in range(2):
                gone = await client.call("POST", "disconnect")
                assert (gone.status_code, gone.json()) == (200, {"error": "Already Disconnected"})
            assert (await client.call("POST", "connect")).status_code == 403

    run_port(main)


def test_revoked_wrong_hub_and_carrier_off_are_403(run_port):
    async def main(port):
        port.credential(2, hub_id="h2")
        async with Https(port, port.device(1)) as client, Https(port, port.device(2)) as other:
            await client.ready()
            refused = await other.call("POST", "connect")
            assert (refused.status_code, refused.json()) == (403, {"error": "Invalid authorization"})
            port.put_hub("h1", protocols=frozenset({"wss"}))
            refused = await client.call("GET", "get_messages")
            assert (refused.status_code, refused.json()) == (403, {"error": "this protocol is turned off for this hub"})
            port.put_hub("h1", protocols=frozenset({"https"}))
            port.directory.remove_client("client-1")
            refused = await client.call("GET", "get_messages")
            assert (refused.status_code, refused.json()) == (403, {"error": "this client was removed"})
            assert port.hub.connections == 0

    run_port(main)


def test_another_client_key_is_told_on_the_next_request(run_port):
    async def main(port):
        async with Https(port, port.device()) as first, Https(port, port.device()) as second:
            await first.ready()
            await second.connect()
            await second.poll()
            await second.flush()
            await second.poll()
            answers = await second.flush()
            assert [answer.status_code for answer in answers] == [403, 409]
            assert "another client key" in answers[0].json()["error"]

    run_port(main)


def test_a_wrong_password_in_kk_is_a_refusal(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            device = client.device
        bad = port.device(key=device.key, pinned=device.session.remote_static, password="wrong")
        async with Https(port, bad) as client:
            await client.connect()
            await client.poll()
            [answer] = await client.flush()
            assert answer.status_code == 403

    run_port(main)


def test_denials_and_a_forbidden_kind(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            client.device.send(bus("not.allowed", {}, {"request_id": "r9"}))
            [denied] = await client.hears(1)
            assert denied.payload["context"]["request_id"] == "r9"
            client.device.send(HiveMessage("broadcast", bus("x").as_dict()))
            [answer] = await client.flush()
            assert answer.status_code == 500
            assert (await client.call("GET", "get_messages")).json() == {"error": "Client is not connected"}

    run_port(main)


@pytest.mark.parametrize("rubbish", [b"message", b"\xff\xfe", b"message=%ff%fe&binary=1", b"&" * 100, b"a=1&" * 50])
def test_rubbish_forms_are_refused_and_change_nothing(run_port, rubbish):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            response = await client.call("POST", "send_message", content=rubbish)
            assert response.status_code == 400
            client.device.ask("still here")
            await client.hears(2)

    run_port(main)


def test_a_truncated_or_altered_sealed_frame_ends_only_its_session(run_port):
    async def main(port):
        async with Https(port, port.device(1)) as client, Https(port, port.device(2)) as other:
            await client.ready()
            await other.ready()
            client.device.ask("hi")
            [(_, frame)] = client.device.out
            assert (await client.send(True, frame[:-1])).status_code == 500
            other.device.ask("hi")
            await other.hears(2)

    run_port(main)


def test_a_session_nobody_polls_is_dropped(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            port.clock.advance(299)
            assert port.https.open == 1
            port.clock.advance(1)
            assert port.https.open == 0
            assert (await client.call("GET", "get_messages")).json() == {"error": "Client is not connected"}

    run_port(main, standing=True)


def test_an_unfinished_handshake_is_dropped(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.connect()
            port.clock.advance(20)
            assert port.hub.connections == 0
            await client.call("GET", "get_messages")
            assert (await client.call("GET", "get_messages")).json() == {"error": "Client is not connected"}

    run_port(main, standing=True)


def test_answers_that_are_not_fetched_end_the_session(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            connection = port.hub.connections_of("client-1")[0]
            for _ in range(10):
                connection.send([bus("x", {"text": "y" * 50_000})])
            assert connection.refusal.code == "slow_reader"

    run_port(main, limits=Limits(out_bytes=200_000))


def test_a_full_server_is_503_and_no_refusal(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            assert (await client.call("POST", "connect")).status_code == 503
            armed = port.clock.armed
            for _ in range(3):
                response = await client.call("POST", "connect")
                assert response.status_code == 503
                assert int(response.headers["retry-after"]) > 0
                assert "server is busy" in response.json()["error"]
            assert port.hub.connections == port.https.open == port.hub.budget.used == 0
            assert port.clock.armed == armed  # nothing is kept of it
            await asyncio.wait_for(port.https.drain(60), 5)  # and nobody waits for it

    run_port(main, limits=Limits(process_bytes=300), standing=True)


def test_a_hub_that_begins_no_session_any_more_is_503(run_port):
    async def main(port):
        def stopping(*_):
            raise Refused(refusal.RESTARTING)

        port.hub.connect = stopping
        async with Https(port, port.device()) as client:
            response = await client.call("POST", "connect")
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            assert port.https.open == 0

    run_port(main)


def test_too_many_waiting_for_their_key_is_503_for_every_queue_and_passes(run_port):
    async def main(port):
        async def overloaded(credential):
            raise Overloaded("Too many are waiting.")

        port.directory.psk = overloaded
        port.credential(1, psk=None)
        async with Https(port, port.device()) as client:
            await client.connect()
            await client.poll()
            await client.flush()
            await port.connections(0)
            answers = [*await client.poll(), *await client.poll(), await client.send(True, b"x")]
            assert [answer.status_code for answer in answers] == [503] * 5
            assert {answer.headers["retry-after"] for answer in answers} == {"5"}
            assert "server is busy" in answers[0].json()["error"]
            port.credential(1)  # its key is there now
            client.device = port.device()
            await client.ready()
            assert port.https.open == 1

    run_port(main)


def test_a_temporary_refusal_is_forgotten_after_a_while(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.connect()
            port.hub.connections_of("client-1")[0].end(refusal.BUSY)
            await client.call("GET", "get_messages")
            assert (await client.call("GET", "get_messages")).status_code == 503
            port.clock.advance(30)
            assert port.https.open == 0
            assert (await client.call("GET", "get_messages")).json() == {"error": "Client is not connected"}

    run_port(main, standing=True)


def test_a_poller_whose_key_is_refused_is_one_warning(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            port.directory.remove_client("client-1")
            for _ in range(10):
                assert (await client.call("GET", "get_messages")).status_code == 403

    with structlog.testing.capture_logs() as logs:
        run_port(main)
    [warned] = [each for each in logs if each["event"] == "refused" and each["log_level"] == "warning"]
    assert (warned["code"], warned["carrier"], warned["remote"]) == ("removed", "https", "127.0.0.1")


def test_the_last_answer_can_still_be_fetched_when_the_server_goes_down(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            await client.ready()
            client.device.ask("last")
            await client.flush()
            await port.hub.stop(1)
            closing = asyncio.create_task(port.api.close(5))
            await client.hears(2)
            assert client.device.said == ["last"]
            await closing

    run_port(main)


def test_what_is_polled_is_never_cached(run_port):
    async def main(port):
        async with Https(port, port.device()) as client:
            assert (await client.connect()).headers["cache-control"] == "no-store"

    run_port(main)
