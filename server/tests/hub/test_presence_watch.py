# SPDX-License-Identifier: Apache-2.0
"""Presence as the hub's own connections feed it, and what it tells whoever listens."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from thalovant_server.hub import watchers
from thalovant_server.hub.refusal import UNRESPONSIVE


def listening(rig):
    """What is told from now on, in order: client, state, why, sessions."""
    told = []
    rig.hub.presence.listen(lambda each: told.append((each.client_id, each.state, each.why, each.sessions)))
    return told


async def turn():
    """What one turn of the loop changes is told in the next."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_a_client_is_online_once_its_handshake_is_over_and_until_its_session_ends(run_rig):
    async def main(rig):
        device = rig.device(carrier="mqtt")
        told = listening(rig)
        await device.open().ready()
        found = rig.hub.presence.of("client-1")
        assert (found.state, found.carrier, found.address, found.name) == ("online", "mqtt", "192.0.2.1", "name-1")
        device.connection.lost("disconnected")
        await turn()
        assert told == [
            ("client-1", "never_seen", None, 0),  # it was made just now
            ("client-1", "online", None, 1),
            ("client-1", "offline", "disconnected", 0),
        ]

    run_rig(main)


def test_a_session_that_never_became_ready_is_no_presence(run_rig):
    async def main(rig):
        device = rig.device()
        device.quiet = True
        told = listening(rig)
        device.open()
        rig.clock.advance(21)
        assert device.connection.closed
        await turn()
        assert [state for _, state, _, _ in told] == ["never_seen"]

    run_rig(main)


def test_silence_makes_it_stale_and_the_next_sign_of_life_online_again(run_rig):
    async def main(rig):
        device = rig.device()
        device.patience = 35.0
        await device.open().ready()
        await turn()
        told = listening(rig)
        rig.clock.advance(34.5)
        await turn()
        assert rig.hub.presence.of("client-1").state == "online"
        rig.clock.advance(1)
        await turn()
        assert rig.hub.presence.of("client-1").state == "stale"
        device.connection.touch()
        rig.clock.advance(1)
        await turn()
        assert rig.hub.presence.of("client-1").state == "online"
        rig.clock.advance(40)
        await turn()
        device.connection.end(UNRESPONSIVE)
        await turn()
        assert [(state, why) for _, state, why, _ in told] == [
            ("stale", None),
            ("online", None),
            ("stale", None),
            ("offline", "no_sign_of_life"),
        ]
        rig.clock.advance(40)
        assert rig.clock.armed == 0

    run_rig(main)


def test_one_timer_serves_all_sessions(run_rig):
    async def main(rig):
        for number in range(1, 6):
            device = rig.device(number)
            device.patience = 30.0
            await device.open().ready()
            device.connection.touch()
        assert rig.clock.armed == 1

    run_rig(main)


def test_a_paused_client_is_told_of_once_and_is_offline_as_resumed_when_it_is_resumed(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        await turn()
        told = listening(rig)
        rig.directory.put_credential(replace(device.credential, active=False))
        assert device.connection.closed
        await turn()
        rig.directory.put_credential(device.credential)
        await turn()
        assert told == [("client-1", "revoked", "paused", 0), ("client-1", "offline", "resumed", 0)]

    run_rig(main)


def test_a_removed_client_is_told_of_once_and_forgotten(run_rig):
    async def main(rig):
        await rig.device().open().ready()
        await turn()
        told = listening(rig)
        rig.directory.remove_client("client-1")
        await turn()
        assert told == [("client-1", "revoked", "removed", 0)]
        assert rig.hub.presence.of("client-1") is None

    run_rig(main)


def test_a_client_whose_credential_is_replaced_is_not_removed(run_rig):
    async def main(rig):
        device = await rig.device().open().ready()
        await turn()
        told = listening(rig)
        rig.directory.remove_credential(1)
        rig.directory.put_credential(replace(device.credential, id=2, access_key="key-2"))
        await turn()
        assert told == [("client-1", "offline", "credential_ended", 0)]

    run_rig(main)


def test_turning_the_carrier_or_the_hub_off_is_said(run_rig):
    async def main(rig):
        wss, mqtt = rig.device(1), rig.device(2, carrier="mqtt")
        for device in (wss, mqtt):
            await device.open().ready()
        rig.put_hub("h1", protocols=("wss",))
        assert rig.hub.presence.of("client-2").why == "protocol_off"
        assert rig.hub.presence.of("client-1").state == "online"
        rig.put_hub("h1", active=False)
        assert rig.hub.presence.of("client-1").why == "hub_off"

    run_rig(main)


def test_what_the_end_of_the_server_changes_is_told_before_it_is_over(run_rig):
    async def main(rig):
        await rig.device().open().ready()
        watcher = rig.hub.presence.watch("h1", "user-1")
        told = listening(rig)
        await rig.hub.stop(0)
        assert told[-1] == ("client-1", "offline", "server_stopped", 0)
        assert watcher.over and watcher.take() == []  # they leave when the server begins to end
        assert rig.clock.armed == 0

    run_rig(main)


def test_a_watcher_hears_of_its_hub_only_and_in_order(run_rig):
    async def main(rig):
        rig.put_hub("h2")
        one, two = rig.hub.presence.watch("h1", "user-1"), rig.hub.presence.watch("h2", "user-1")
        device = rig.device()
        await turn()
        await device.open().ready()
        await turn()
        device.connection.lost()
        await turn()
        assert [each.state for each in one.take()] == ["never_seen", "online", "offline"]
        assert two.take() == [] and not two.over
        assert rig.hub.presence.watchers.of_account("user-1") == 2
        rig.directory.remove_hub("h2")
        assert two.over and not one.over
        two.close()
        assert len(rig.hub.presence.watchers) == 1

    run_rig(main)


def test_a_full_queue_is_the_end_and_holds_nothing(run_rig, monkeypatch):
    monkeypatch.setattr(watchers, "QUEUE", 3)

    async def main(rig):
        slow = rig.hub.presence.watch("h1", "user-1")
        for number in range(1, 4):
            rig.credential(number)
        await turn()
        assert not slow.over
        rig.credential(4)
        await turn()
        assert slow.over and slow.overflowed and slow.take() == []

    run_rig(main)
