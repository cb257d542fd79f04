# SPDX-License-Identifier: Apache-2.0
"""`POST /exchange` over real sockets with TLS: numbers, held requests, and how they end."""

from __future__ import annotations

import asyncio
import base64

import httpx2
import pytest

from thalovant.protocol.exchange import MAX_FRAMES, MAX_WAIT, Exchange, read_answer, write_answer
from thalovant.protocol.messages import HiveMessage, bus
from thalovant_server.gateways import https
from thalovant_server.gateways.share import strangers_of
from thalovant_server.hub.limits import Limits

COOKIE = https.COOKIE.decode()
LONG = 60_000  # milliseconds; longer than a test may take, and than the server holds anything


class Client:
    """A device that exchanges frames, as docs/wire.md says."""

    def __init__(self, port, device):
        self.port, self.device = port, device
        self.next = self.first = 0
        self.http = httpx2.AsyncClient(
            base_url=f"https://localhost:{port.api.port}", verify=port.client_tls, trust_env=False, timeout=20
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.http.aclose()

    async def call(self, method, name, *, number=None, **fields):
        return await self.http.request(
            method, f"/{name}?{self.port.authorization(number or self.device.number)}", **fields
        )

    async def post(self, exchange, **fields):
        """Send a request as it is."""
        content = exchange if isinstance(exchange, bytes) else exchange.encode()
        return await self.call("POST", "exchange", content=content, **fields)

    def request(self, wait=0, *, again=False):
        """The next request: all that the device has to say."""
        frames, self.device.out = tuple(self.device.out), []
        exchange = Exchange(self.next, self.first, wait, again, frames)
        self.first += len(frames)
        return exchange

    def take(self, response):
        """The frames of an answer that are new, taken in by the device."""
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/octet-stream"
        answer = read_answer(response.content)
        assert answer.first <= self.next
        new = answer.frames[self.next - answer.first :]
        self.next += len(new)
        for sealed, data in new:
            self.device.take(sealed, data)
        return new

    async def exchange(self, wait=0, **fields):
        return self.take(await self.post(self.request(wait, **fields)))

    async def ready(self):
        assert (await self.call("POST", "connect")).status_code == 200
        for text in (await self.call("GET", "get_messages")).json()["messages"]:
            self.device.take(False, text.encode())
        while not self.device.ready or self.device.out:
            await self.exchange(1000 if not self.device.ready else 0)
        return self

    @property
    def session(self):
        return self.port.https._find(f"key-{self.device.number}", self.http.cookies[COOKIE].encode())

    @property
    def connection(self):
        return self.session.connection

    async def hold(self, wait=LONG, *, held=1):
        """A request that the server holds."""
        task = asyncio.create_task(self.post(self.request(wait)))
        async with asyncio.timeout(10):
            while self.session is None or self.session.held < held:
                assert not task.done(), task.result().text
                await asyncio.sleep(0.001)
        return task


def problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


def play(run_port, scene, *agents, **options):
    """Run `scene(port, client)` with a client whose session is up."""

    async def main(port):
        async with Client(port, port.device()) as client:
            await scene(port, await client.ready())

    run_port(main, *agents, **options)


class Part:
    """An agent that says parts when it is told to."""

    name = "part"

    def __init__(self):
        self.asked = 0
        self.parts = asyncio.Queue()

    async def answer(self, request):
        self.asked += 1
        while (part := await self.parts.get()) is not None:
            yield part

    async def close(self):
        pass


# -- what it is for


def test_an_ask_is_one_request(run_port):
    async def scene(port, client):
        client.device.ask("hello")
        assert len(await client.exchange(LONG)) == 2
        assert client.device.said == ["hello"]
        assert client.device.types == ["speak", "ovos.utterance.handled"]

    play(run_port, scene)


def test_the_hub_announces_it(run_port):
    async def scene(port, client):
        assert "poll" in client.device.session.hub_capabilities

    play(run_port, scene)


def test_a_held_request_is_answered_as_soon_as_there_is_something(run_port):
    agent = Part()

    async def scene(port, client):
        held = await client.hold()
        client.device.ask("begin")
        assert await client.exchange() == []
        agent.parts.put_nowait("one")
        agent.parts.put_nowait("two")  # in the same turn of the loop, so in the same answer
        assert len(client.take(await held)) == 2
        held = await client.hold()
        agent.parts.put_nowait(None)
        client.take(await held)
        assert client.device.said == ["one", "two"]
        assert client.device.types[-1] == "ovos.utterance.handled"

    play(run_port, scene, agent, agent="part")


def test_a_held_request_ends_with_its_time(run_port):
    async def scene(port, client):
        held = await client.hold(2000)
        armed = port.clock.armed
        port.clock.advance(1.9)
        assert client.session.held == 1
        port.clock.advance(0.1)
        assert client.take(await held) == []
        assert (client.session.held, port.clock.armed) == (0, armed - 1)
        client.device.ask("still here")
        await client.exchange(LONG)
        assert client.device.said == ["still here"]

    play(run_port, scene, standing=True)


@pytest.mark.parametrize("wait", [25_001, MAX_WAIT])
def test_nothing_is_held_longer_than_the_server_wants(run_port, wait):
    async def scene(port, client):
        held = await client.hold(wait)
        port.clock.advance(25)
        assert client.take(await held) == []

    play(run_port, scene, standing=True)


def test_a_request_that_does_not_wait_is_answered_at_once(run_port):
    async def scene(port, client):
        assert await client.exchange(0) == []
        assert client.session.held == 0

    play(run_port, scene)


# -- nothing lost, nothing twice


def test_frames_that_come_twice_are_taken_in_once(run_port):
    agent = Part()

    async def scene(port, client):
        client.device.ask("once")
        request = client.request()
        for _ in range(3):
            client.take(await client.post(request))
        assert (agent.asked, client.session.taken) == (1, client.first)
        client.device.ask("more", "r2")
        more = client.request().frames
        longer = Exchange(client.next, request.first, 0, True, request.frames + more)
        client.take(await client.post(longer))
        assert agent.asked == 2

    play(run_port, scene, agent, agent="part")


def test_an_answer_that_was_lost_is_given_again(run_port):
    async def scene(port, client):
        client.device.ask("hello")
        lost = await client.post(client.request(LONG))
        assert len(read_answer(lost.content).frames) == 2
        spared = read_answer((await client.post(client.request())).content)
        assert (spared.first, spared.frames) == (client.next + 2, [])  # it may be on its way: nobody said it is not
        assert len(await client.exchange(LONG, again=True)) == 2
        assert client.device.said == ["hello"]
        await client.exchange()
        assert client.session._outbox.kept == 0

    play(run_port, scene)


def test_what_was_not_acknowledged_counts_as_unread(run_port):
    async def scene(port, client):
        for _ in range(10):
            client.connection.send([bus("x", {"text": "y" * 50_000})])
            if client.connection is None or client.connection.closed:
                break
            await client.post(Exchange(0, 0, 0))  # acknowledges nothing
        assert client.connection.refusal.code == "slow_reader"

    play(run_port, scene, limits=Limits(out_bytes=200_000))


def test_a_long_answer_comes_in_pieces(run_port):
    async def scene(port, client):
        text = "x" * 3_000_000
        client.connection.send([bus("long", {"text": text})])
        pieces = 0
        while not client.device.heard:
            assert await client.exchange()
            pieces += 1
        assert client.device.heard[0].payload["data"]["text"] == text and pieces == 3

    play(run_port, scene)


# -- requests that are held


def test_the_newest_request_gets_the_frames(run_port):
    """The older one may be of a connection that broke without the server's knowing."""

    async def scene(port, client):
        old = await client.hold()
        new = await client.hold(held=2)
        client.connection.send([bus("x")])
        assert len(client.take(await new)) == 1
        assert not old.done() and client.session.held == 1
        client.connection.send([bus("x")])
        assert len(client.take(await old)) == 1

    play(run_port, scene)


def test_a_third_request_ends_the_oldest(run_port):
    async def scene(port, client):
        first, second = await client.hold(), await client.hold(held=2)
        third = asyncio.create_task(client.post(client.request(LONG)))
        assert client.take(await first) == []
        assert client.session.held == 2 and not second.done() and not third.done()
        client.connection.send([bus("x")])
        assert len(client.take(await third)) == 1
        second.cancel()

    play(run_port, scene)


def test_a_client_that_goes_away_is_not_waited_for(run_port):
    async def scene(port, client):
        held = await client.hold()
        armed = port.clock.armed
        held.cancel()
        async with asyncio.timeout(10):
            while client.session.held:
                await asyncio.sleep(0.001)
        assert port.clock.armed == armed - 1
        client.connection.send([bus("x")])
        assert len(await client.exchange()) == 1

    play(run_port, scene, standing=True)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda port: port.directory.remove_client("client-1"), "this credential was revoked"),
        (lambda port: port.put_hub("h1", protocols=frozenset({"wss"})), "this protocol is turned off for this hub"),
        (lambda port: port.put_hub("h1", active=False), "this hub is turned off"),
    ],
)
def test_who_is_cut_hears_it_at_once(run_port, end, said):
    async def scene(port, client):
        held = [await client.hold(), await client.hold(held=2)]
        end(port)
        for each in held:
            answer = await each
            assert (answer.status_code, answer.json()) in [
                (403, {"error": said}), (409, {"error": "Client is not connected"})
            ]  # fmt: skip
        assert (await held[0]).status_code == 403
        assert port.hub.connections == 0

    play(run_port, scene)


def test_held_requests_end_when_the_server_goes_down(run_port):
    async def scene(port, client):
        held = await client.hold()
        await port.hub.stop(1)
        answer = await held
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        await asyncio.wait_for(port.api.close(10), 5)
        assert port.api.sockets == 0

    play(run_port, scene)


def test_the_last_answer_is_given_when_the_server_goes_down(run_port):
    agent = Part()

    async def scene(port, client):
        held = await client.hold()
        client.device.ask("last")
        await client.exchange()
        stopping = asyncio.create_task(port.hub.stop(10))
        agent.parts.put_nowait("the last word")
        agent.parts.put_nowait(None)
        client.take(await held)
        await stopping
        await asyncio.wait_for(port.api.close(10), 5)
        while client.device.types[-1:] != ["ovos.utterance.handled"]:
            await client.exchange(LONG)
        assert client.device.said == ["the last word"]

    play(run_port, scene, agent, agent="part")


def test_what_nobody_waited_for_can_be_fetched_until_the_ports_close(run_port):
    async def scene(port, client):
        client.device.ask("last")
        await client.exchange()
        await port.hub.stop(1)
        closing = asyncio.create_task(port.api.close(5))
        assert len(await client.exchange()) == 2
        assert client.device.said == ["last"]
        await asyncio.wait_for(closing, 2)

    play(run_port, scene)


def test_a_goodbye_ends_what_is_held(run_port):
    async def scene(port, client):
        held = await client.hold()
        assert (await client.call("POST", "disconnect")).json() == {"status": "Disconnected"}
        answer = await held
        assert (answer.status_code, answer.json()) == (409, {"error": "Client is not connected"})
        assert (await client.post(client.request())).status_code == 409
        assert port.https.open == 0

    play(run_port, scene)


def test_closing_the_port_ends_what_is_held(run_port):
    async def scene(port, client):
        held = await client.hold()
        port.https.close()
        assert (await held).status_code == 409

    play(run_port, scene)


def test_a_frame_that_ends_the_session_is_answered(run_port):
    async def scene(port, client):
        held = await client.hold()
        answer = await client.post(Exchange(client.next, client.first, LONG, False, ((True, b"rubbish"),)))
        assert (answer.status_code, (await held).status_code) == (409, 409)
        assert port.hub.connections == 0

    play(run_port, scene)


def test_a_session_that_only_waits_lives_and_one_that_nobody_asks_for_does_not(run_port):
    async def scene(port, client):
        for _ in range(14):
            held = await client.hold()
            port.clock.advance(25)
            assert client.take(await held) == []
        assert port.https.open == 1
        port.clock.advance(300)
        assert port.https.open == 0

    play(run_port, scene, standing=True)


# -- who may


def test_whoever_lacks_the_cookie_or_the_key_can_do_nothing(run_port):
    async def scene(port, owner):
        port.credential(2)
        held = await owner.hold()
        async with Client(port, port.device()) as thief:
            for number, cookie in ((1, ""), (1, "0" * 32), (1, "é"), (2, owner.http.cookies[COOKIE])):
                headers = [(b"cookie", f"{COOKIE}={cookie}".encode())]
                for request in (Exchange(0, 0, LONG), Exchange(owner.next, 0, 0, True), b"rubbish"):
                    answer = await thief.post(request, number=number, headers=headers)
                    assert (answer.status_code, answer.json()) == (409, {"error": "Client is not connected"})
        assert not held.done()
        owner.device.ask("mine")
        await owner.exchange(LONG)
        assert owner.device.said == ["mine"]
        held.cancel()

    play(run_port, scene)


def test_an_unknown_key_is_403_and_no_authorization_is_400(run_port):
    async def scene(port, client):
        assert (await client.http.post("/exchange", content=bytes(21))).status_code == 400
        unknown = base64.b64encode(b"ua:nobody").decode()
        assert (await client.http.post(f"/exchange?authorization={unknown}", content=bytes(21))).status_code == 403

    play(run_port, scene)


# -- what is wrong with a request


def body(following=0, first=0, wait=0, again=b"\x00", rest=b""):
    numbers = [following.to_bytes(8, "big"), first.to_bytes(8, "big"), wait.to_bytes(4, "big")]
    return b"".join((*numbers, again, rest))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"wait=nan",
        b"wait=-1&wait=99999999999999999999",
        body()[:-1],
        body(again=b"\x02"),
        body(rest=b"\x00"),
        body(rest=b"\x00\x00\x00\x01\x01"),
        body(rest=b"\x00\x00\x00\x00\x07"),
        body(rest=b"\xff\xff\xff\xff\x01abc"),
        write_answer(0, [(True, b"")] * (MAX_FRAMES + 1)),
    ],
)
def test_rubbish_is_400_and_changes_nothing(run_port, content):
    async def scene(port, client):
        held = await client.hold()
        problem(await client.post(content), 400, "malformed_exchange")
        assert not held.done()
        client.device.ask("still here")
        await client.exchange(LONG)
        assert client.device.said == ["still here"]
        held.cancel()

    play(run_port, scene)


@pytest.mark.parametrize(
    ("following", "first", "frames"),
    [
        (+1, 0, ()),
        (2**63, 0, ()),
        (0, +1, ((True, b"rubbish"),)),
        (0, 2**63, ((True, b"rubbish"),)),
        (+1, 0, ((True, b"rubbish"),)),
    ],
)
def test_numbers_that_do_not_follow_are_409_and_change_nothing(run_port, following, first, frames):
    async def scene(port, client):
        answer = await client.post(Exchange(client.next + following, client.first + first, LONG, False, frames))
        problem(answer, 409, "out_of_step")
        client.device.ask("still here")
        await client.exchange(LONG)
        assert client.device.said == ["still here"]

    play(run_port, scene)


def test_a_first_exchange_begins_at_nought(run_port):
    async def main(port):
        async with Client(port, port.device()) as client:
            await client.call("POST", "connect")
            problem(await client.post(Exchange(2, 0, 0)), 409, "out_of_step")
            assert len(await client.exchange()) == 2  # what was not polled: HELLO and offer

    run_port(main)


def test_polling_and_exchange_do_not_mix(run_port):
    async def scene(port, client):
        for name in ("get_messages", "get_binary_messages"):
            assert (await client.call("GET", name)).status_code == 409
        assert (await client.call("POST", "send_message", data={"message": "x"})).status_code == 409
        client.device.ask("still here")
        await client.exchange(LONG)
        assert client.device.said == ["still here"]

    play(run_port, scene)


def test_a_body_over_the_bound_is_400(run_port):
    async def scene(port, client):
        assert (await client.post(body(rest=bytes(1 << 20)))).status_code == 400

    play(run_port, scene)


# -- many frames at once


def test_many_frames_are_read_in_slices_and_in_order(run_port):
    async def scene(port, client):
        for _ in range(3):
            for number in range(MAX_FRAMES):
                client.device.send(bus("not.allowed", {}, {"request_id": f"{number}"}))
            client.take(await client.post(client.request()))
        while len(client.device.heard) < 3 * MAX_FRAMES:
            await client.exchange(LONG)
        names = [heard.payload["context"]["request_id"] for heard in client.device.heard]
        assert names == [str(number) for number in range(MAX_FRAMES)] * 3
        assert client.session.inbox == ()

    play(run_port, scene)


def test_what_waits_for_its_turn_is_forgotten_with_the_session(run_port):
    async def scene(port, client):
        for _ in range(MAX_FRAMES // 2):
            client.device.send(bus("not.allowed", {"x": "y" * 1000}))
        client.device.send(HiveMessage("broadcast", bus("x").as_dict()))  # ends the session
        for _ in range(MAX_FRAMES // 2 - 1):
            client.device.send(bus("not.allowed"))
        client.take(await client.post(client.request()))
        await port.connections(0)
        assert client.session.inbox == ()

    play(run_port, scene)


def test_frames_that_there_is_no_room_for_end_their_session_only(run_port):
    async def main(port):
        port.put_hub("h1", max_message=10_000)
        async with Client(port, port.device()) as client, Client(port, port.device(2)) as other:
            await client.ready()
            await other.ready()
            for _ in range(MAX_FRAMES):  # small ones: their body has room, and they with what each costs have not
                client.device.send(bus("not.allowed"))
            client.take(await client.post(client.request(LONG)))  # what the first of them led to
            answer = await client.post(client.request(LONG))
            assert (answer.status_code, answer.json()["error"]) == (503, "the server is busy, try again later")
            assert port.hub.connections_of("client-1") == []
            other.device.ask("hello")
            await other.exchange(LONG)
            assert other.device.said == ["hello"]

    run_port(main, limits=Limits(client_bytes=50_000))


def test_a_flood_of_requests_is_slowed_down_and_served(run_port, monkeypatch):
    async def scene(port, client):
        monkeypatch.setattr(https, "REQUEST_PACKETS", 17_000)  # two of them use up all there is
        lane = client.session.lane
        asks = [asyncio.create_task(client.post(Exchange(client.next, 0, 0))) for _ in range(3)]
        async with asyncio.timeout(10):
            while not lane.busy:
                await asyncio.sleep(0.001)
        async with Client(port, port.device(2)) as other:
            monkeypatch.setattr(https, "REQUEST_PACKETS", 1)
            await other.ready()  # nobody else is slowed down
            assert lane.busy
        assert {(await ask).status_code for ask in asks} == {200}

    play(run_port, scene)


# -- a body that is on its way


async def begin_body(client, sent, length, cookie=True):
    """A connection with so many bytes of a body that long."""
    reader, writer = await client.port.raw()
    named = f"cookie: {COOKIE}={client.http.cookies[COOKIE]}\r\n" if cookie else ""
    head = f"POST /exchange?{client.port.authorization(client.device.number)} HTTP/1.1\r\nhost: localhost\r\n{named}"
    writer.write(f"{head}content-length: {length}\r\n\r\n".encode() + bytes(sent))
    return reader, writer


async def until(what):
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.001)


def test_the_bytes_of_a_body_are_counted_until_it_is_whole_or_its_connection_lost(run_port):
    async def scene(port, client):
        used = port.hub.budget.used
        exchange = client.request().encode()
        _, writer = await begin_body(client, 500_000, 900_000)
        await until(lambda: port.hub.budget.used == used + 500_000)
        writer.transport.abort()
        await until(lambda: port.hub.budget.used == used)
        reader, writer = await begin_body(client, 0, 900_000)
        writer.write(exchange + bytes(800_000))
        await until(lambda: port.hub.budget.used == used + len(exchange) + 800_000)
        writer.write(bytes(100_000 - len(exchange)))
        assert (await reader.readline()).split()[1] == b"400"
        assert port.hub.budget.used == used
        writer.transport.abort()

    play(run_port, scene)


def test_bodies_that_one_client_begins_everywhere_find_no_room_and_cost_nobody_else(run_port):
    async def main(port):
        port.put_hub("h1", max_message=10_000)
        async with Client(port, port.device()) as client, Client(port, port.device(2)) as other:
            await client.ready()
            begun = [await begin_body(client, 400_000, 900_000) for _ in range(4)]
            answers = [asyncio.create_task(reader.readline()) for reader, _ in begun]
            done, _ = await asyncio.wait(answers, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            assert {each.result().split()[1] for each in done} == {b"503"}
            (await other.ready()).device.ask("hello")
            await other.exchange(LONG)
            assert other.device.said == ["hello"]
            for _, writer in begun:
                writer.transport.abort()
            await asyncio.gather(*answers, return_exceptions=True)
            assert (await client.post(client.request())).status_code == 200

    run_port(main, limits=Limits(client_bytes=1_500_000))


def test_who_has_only_the_access_key_is_counted_among_strangers(run_port):
    async def main(port):
        async with Client(port, port.device()) as client:
            assert (await client.call("POST", "connect")).status_code == 200
            used, own = strangers_of(port.hub.budget).used, client.session.account.used
            _, writer = await begin_body(client, 300_000, 900_000)
            await until(lambda: strangers_of(port.hub.budget).used == used + 300_000)
            assert client.session.account.used == own
            writer.transport.abort()
            await until(lambda: strangers_of(port.hub.budget).used == used)
            _, writer = await begin_body(client, 300_000, 900_000, cookie=False)
            await until(lambda: strangers_of(port.hub.budget).used == used + 300_000)
            writer.transport.abort()

    run_port(main)
