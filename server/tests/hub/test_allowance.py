# SPDX-License-Identifier: Apache-2.0
"""Rate limit and daily quota at a hub with real sessions: over all sessions of a client, with the right request id."""

from __future__ import annotations

from dataclasses import replace

from thalovant.protocol.messages import HiveMessage, bus
from thalovant.protocol.noise import generate_private_key
from thalovant_server.directory import Permissions, RateLimit
from thalovant_server.hub.limits import Limits
from thalovant_server.wall_clock import SECOND

ASK = "recognizer_loop:utterance"


def limited(**fields):
    return Permissions(**fields)


def denials(device):
    return [message.payload for message in device.heard if message.payload.get("type") == "hive.policy.denied"]


def last_denial(device):
    payload = denials(device)[-1]
    return payload["data"], payload["context"].get("request_id")


def put_policy(rig, number=1, **fields):
    entry = rig.directory.credential(f"key-{number}")
    rig.directory.put_credential(replace(entry, permissions=limited(**fields)))


def test_over_the_quota_an_ask_is_denied_as_the_contract_says_it(run_rig):
    async def main(rig):
        rig.credential(permissions=limited(daily_quota=2))
        device = await rig.device().open().ready()
        for number in range(3):
            device.ask(f"text {number}", f"r{number}")
        await device.hears(5)
        assert device.said == ["text 0", "text 1"]
        assert last_denial(device) == (
            {
                "denied_type": ASK,
                "code": "intent_quota_exceeded",
                "reason": "the quota of 2 asks a day is used up",
                "data": {"period": "daily", "limit": 2, "used": 2, "reset_after": 43_200},
            },
            "r2",
        )
        assert rig.usage.used("client-1") == 2

    run_rig(main)


def test_the_quota_begins_anew_at_midnight_utc(run_rig):
    async def main(rig):
        rig.credential(permissions=limited(daily_quota=1))
        device = await rig.device().open().ready()
        device.ask("today", "r1")
        device.ask("once more", "r2")
        await device.hears(3)
        assert [data["data"]["code"] for data in denials(device)] == ["intent_quota_exceeded"]
        rig.time_of_day += 43_200 * SECOND
        device.ask("tomorrow", "r3")
        await device.until(lambda device: "tomorrow" in device.said)
        assert rig.usage.used("client-1") == 1

    run_rig(main)


def test_the_same_request_again_costs_nothing_and_is_answered_over_both_limits(run_rig):
    async def main(rig):
        rig.credential(permissions=limited(daily_quota=1, rate_limit=RateLimit(1, 3600)))
        device = await rig.device().open().ready()
        for _ in range(3):
            device.ask("hello", "r1")
            await device.until(lambda device: device.types[-1:] == ["ovos.utterance.handled"])
            device.heard.clear()
        assert rig.usage.used("client-1") == 1
        device.ask("another", "r2")
        await device.hears(1)
        assert last_denial(device)[0]["code"] == "rate_limited"

    run_rig(main)


def test_a_connection_that_repeats_more_than_can_have_been_under_way_is_held_to_its_rate(run_rig):
    async def main(rig):
        rig.credential(permissions=limited(daily_quota=1, rate_limit=RateLimit(2, 3600)))
        device = await rig.device(key=(key := generate_private_key())).open().ready()
        for times in range(4):
            device.ask("hello", "r1")
            await device.until(lambda device, times=times: len(device.said) > times)
        device.ask("hello", "r1")
        await device.until(denials)
        assert last_denial(device)[0]["code"] == "rate_limited"
        again = await rig.device(key=key, session_id="s2").open().ready()
        again.ask("hello", "r1")
        await again.until(lambda device: device.said == ["hello"])

    run_rig(main, limits=Limits(turns_running=1, turns_waiting=1))


def test_a_query_counts_and_is_denied_in_a_frame_that_ends_it(run_rig):
    async def main(rig):
        rig.credential(permissions=limited(daily_quota=1))
        device = await rig.device().open().ready()
        for number in (1, 2):
            inner = bus(ASK, {"utterances": ["hi"]}, {"request_id": f"r{number}"})
            device.send(HiveMessage("query", inner.as_dict(), {"query_id": f"q{number}"}))
        await device.hears(4)
        (framed,) = [message for message in device.heard if message.metadata.get("query_id") == "q2"]
        (plain,) = [message for message in device.heard if message.msg_type == "bus"]
        assert framed.msg_type == "query"
        assert framed.nested().payload["data"]["code"] == plain.payload["data"]["code"] == "intent_quota_exceeded"
        assert plain.payload["context"]["request_id"] == "r2"
        assert rig.usage.used("client-1") == 1

    run_rig(main)


def test_what_does_not_run_does_not_count(run_rig):
    """A type that is denied, an ask for which there is no room, an agent that is not there."""

    async def main(rig):
        rig.credential(permissions=limited(daily_quota=5))
        device = await rig.device().open().ready()
        device.ask("hello", "r1", bus_type="not.allowed")
        rig.put_hub("h1", agent="absent")
        device.ask("hello", "r2")
        rig.put_hub("h1")
        rig.hub.runtime.refuse_new()
        device.ask("hello", "r3")
        await device.hears(3)
        codes = [payload["data"]["code"] for payload in denials(device)]
        assert codes == ["acl_disallowed_type", "backend_unavailable", "backend_unavailable"]
        assert rig.usage.used("client-1") == 0

    run_rig(main)


def test_over_the_rate_an_ask_is_denied_until_there_is_a_token_again(run_rig):
    async def main(rig):
        rig.credential(permissions=limited(rate_limit=RateLimit(2, 10)))
        device = await rig.device().open().ready()
        for number in range(3):
            device.ask(f"text {number}", f"r{number}")
        await device.hears(5)
        assert last_denial(device) == (
            {
                "denied_type": ASK,
                "code": "rate_limited",
                "reason": "more than 2 messages in 10s",
                "data": {"period": "10s", "limit": 2, "used": 2, "reset_after": 5},
            },
            "r2",
        )
        rig.clock.advance(5)
        device.ask("in time", "r3")
        await device.until(lambda device: "in time" in device.said)

    run_rig(main)


def test_every_session_and_credential_of_a_client_draws_from_one_bucket_and_one_quota(run_rig):
    async def main(rig):
        permissions = limited(rate_limit=RateLimit(3, 10), daily_quota=2)
        keys = {number: generate_private_key() for number in (1, 2)}
        for number in keys:
            rig.credential(number, client_id="client-1", permissions=permissions)
        devices = [
            await rig.device(number, carrier=carrier, key=keys[number]).open().ready()
            for number, carrier in ((1, "wss"), (1, "mqtt"), (2, "https"), (2, "wss"))
        ]
        codes = []
        for number, device in enumerate(devices):
            device.ask("hello", f"r{number}")
            await device.until(lambda device: denials(device) or "ovos.utterance.handled" in device.types)
            codes += [payload["data"]["code"] for payload in denials(device)]
        assert codes == ["intent_quota_exceeded", "rate_limited"]
        neighbour = await rig.device(3).open().ready()
        neighbour.ask("unmoved")
        await neighbour.until(lambda device: device.said == ["unmoved"])

    run_rig(main)


def test_denied_messages_count_against_the_rate_and_cancels_and_pings_do_not(run_rig):
    async def main(rig):
        rig.credential(permissions=limited(rate_limit=RateLimit(3, 10)))
        device = await rig.device().open().ready()
        for _ in range(5):
            device.send(HiveMessage("ping", {}))
            device.send(bus("thalovant.ask.cancel", {"request_id": "nothing"}, {}))
        device.ask("hello", "r1")
        await device.hears(2)
        device.send(bus("not.allowed", {}, {}))
        device.send(bus("not.allowed", {}, {}))
        device.ask("hello", "r2")
        await device.hears(5)
        assert device.said == ["hello"]
        codes = [payload["data"]["code"] for payload in denials(device)]
        assert codes == ["acl_disallowed_type", "acl_disallowed_type", "rate_limited"]

    run_rig(main)


def test_a_changed_policy_judges_the_next_message_of_a_live_session(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        device.ask("hello", "r1")
        await device.hears(2)
        put_policy(rig, allowed_types=frozenset())
        device.ask("hello", "r2")
        await device.hears(3)
        assert last_denial(device)[0]["code"] == "acl_disallowed_type"
        put_policy(rig, daily_quota=0)
        device.ask("hello", "r3")
        await device.hears(4)
        assert last_denial(device)[0]["data"]["limit"] == 0
        put_policy(rig)
        device.ask("welcome back", "r4")
        await device.until(lambda device: "welcome back" in device.said)
        assert device.closed_with is None

    run_rig(main)


def test_a_removed_client_is_forgotten_but_not_one_whose_credential_is_replaced(run_rig):
    async def main(rig):
        permissions = limited(rate_limit=RateLimit(9, 3600), daily_quota=9)
        rig.credential(permissions=permissions)
        device = await rig.device().open().ready()
        device.ask("hello")
        await device.hears(2)
        rig.directory.remove_credential(1)
        rig.credential(2, client_id="client-1", permissions=permissions)
        rig.clock.advance(0)
        assert (rig.usage.used("client-1"), len(rig.hub._allowances._buckets)) == (1, 1)
        rig.directory.remove_client("client-1")
        rig.clock.advance(0)
        assert (rig.usage.used("client-1"), len(rig.hub._allowances._buckets)) == (0, 0)

    run_rig(main)


def test_the_lists_reach_the_agent_and_not_the_client(run_rig):
    seen = []

    class Looking:
        name = "looking"

        async def answer(self, request):
            seen.append(request)
            yield "seen"

        async def close(self):
            pass

    async def main(rig):
        rig.credential(permissions=limited(blocked_skills=frozenset({"b", "a"}), blocked_intents=frozenset({"c:d"})))
        device = await rig.device().open().ready()
        device.ask("hello", session={"session_id": "s", "blacklisted_intents": ["own:one"]})
        speak, _ = await device.hears(2)
        (request,) = seen
        assert (request.blocked_skills, request.blocked_intents) == (("a", "b"), ("c:d", "own:one"))
        assert request.context["session"]["blacklisted_skills"] == ["a", "b"]
        assert speak.payload["context"]["session"] == {"session_id": "s", "blacklisted_intents": ["own:one"]}

    run_rig(main, Looking(), agent="looking")
