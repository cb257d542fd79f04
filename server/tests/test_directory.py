# SPDX-License-Identifier: Apache-2.0
"""The directory: look-ups, changes told in order, pins that hold, stretching that goes to the front."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from thalovant_server.directory import CARRIERS, Change, CredentialEntry, Directory, HubEntry, Permissions
from thalovant_server.errors import CredentialGone
from thalovant_server.testing.directory import MemoryStore, cheap_stretch, directory_of, mqtt_password_hash


def hub(number: int = 1, *, active: bool = True) -> HubEntry:
    return HubEntry(f"hub-{number}", f"slug-{number}", f"Hub {number}", "echo", frozenset(CARRIERS), active)


def credential(number: int = 1, *, client: int = 1, of_hub: int = 1, psk: bytes | None = b"k" * 32) -> CredentialEntry:
    return CredentialEntry(
        id=number,
        client_id=f"client-{client}",
        hub_id=f"hub-{of_hub}",
        access_key=f"key-{number}",
        client_name=f"Client {client}",
        site_id="kitchen",
        topic_prefix=f"hubs/hub-{of_hub}/clients/client-{client}.{number}",
        psk=psk,
    )


def told(directory: Directory) -> list[Change]:
    changes: list[Change] = []
    directory.subscribe(changes.append)
    return changes


def test_look_ups() -> None:
    directory = directory_of([hub()], [credential()])
    assert directory.credential("key-1") == credential() == directory.credential_by_id(1)
    assert directory.credential("key-2") is None
    assert directory.hub("hub-1") == hub()
    assert directory.hub("slug-1") is None


def test_the_default_hub_is_the_oldest_active_one() -> None:
    directory = directory_of([hub(1, active=False), hub(2), hub(3)], [])
    assert directory.default_hub() == hub(2)
    directory.put_hub(hub(1))
    assert directory.default_hub() == hub(1)
    assert directory_of([], []).default_hub() is None


def test_all_hubs_are_listed_oldest_first() -> None:
    directory = directory_of([hub(2), hub(1)], [])
    directory.put_hub(hub(3))
    directory.put_hub(hub(2, active=False))
    assert directory.hubs() == [hub(2, active=False), hub(1), hub(3)]
    directory.hubs().clear()
    directory.remove_hub("hub-1")
    assert [each.id for each in directory.hubs()] == ["hub-2", "hub-3"]


def test_changes_are_told_after_they_are_in_force() -> None:
    directory = directory_of([hub()], [])
    seen: list[CredentialEntry | None] = []
    directory.subscribe(lambda change: seen.append(directory.credential("key-1")))
    directory.put_credential(credential())
    directory.put_credential(replace(credential(), active=False))
    directory.remove_client("client-1")
    assert seen == [credential(), replace(credential(), active=False), None]


def test_a_change_of_a_client_is_in_force_for_all_its_credentials_before_one_is_told() -> None:
    directory = directory_of([hub()], [credential(1), credential(2), credential(3, client=2)])
    seen: list[list[CredentialEntry]] = []
    directory.subscribe(lambda change: seen.append(directory.credentials_of("client-1")))
    permissions = Permissions(can_broadcast=True)
    directory.change_client("client-1", client_name="new", site_id="hall", active=False, permissions=permissions)
    parts = {"client_name": "new", "site_id": "hall", "active": False, "permissions": permissions}
    assert seen == [[replace(credential(number), **parts) for number in (1, 2)]] * 2  # type: ignore[arg-type]
    assert directory.credentials_of("client-2") == [credential(3, client=2)]
    changes = told(directory)
    directory.change_client("client-9", client_name="x", site_id="x", active=True, permissions=permissions)
    assert not changes


def test_an_end_is_set_taken_away_and_told() -> None:
    now = 1000
    directory = directory_of([hub()], [credential()], clock=lambda: now)
    changes = told(directory)
    directory.set_end(1, 1001)
    assert directory.credential("key-1") == replace(credential(), expires_at=1001)
    now = 1001
    assert directory.credential("key-1") is None
    directory.set_end(1, None)
    assert directory.credential("key-1") == credential()
    directory.set_end(9, None)
    assert changes == [Change("credential", "changed", "hub-1", "client-1", 1)] * 2


def test_each_kind_of_change() -> None:
    directory = directory_of([], [])
    changes = told(directory)
    directory.put_hub(hub())
    directory.put_credential(credential(1))
    directory.put_credential(credential(2, client=1))
    directory.put_hub(hub(active=False))
    directory.remove_hub("hub-1")
    directory.remove_hub("hub-1")
    directory.remove_client("client-1")
    assert [(each.kind, each.action, each.credential_id) for each in changes] == [
        ("hub", "created", None),
        ("credential", "created", 1),
        ("credential", "created", 2),
        ("hub", "changed", None),
        ("credential", "removed", 1),
        ("credential", "removed", 2),
        ("hub", "removed", None),
    ]


def test_who_unsubscribed_hears_nothing_more() -> None:
    directory = directory_of([], [])
    changes: list[Change] = []
    end = directory.subscribe(changes.append)
    end()
    end()
    directory.put_hub(hub())
    assert changes == []


def test_one_subscribers_fault_does_not_keep_a_revocation_from_the_next(caplog: pytest.LogCaptureFixture) -> None:
    directory = directory_of([hub()], [credential()])

    def fails(change: Change) -> None:
        raise RuntimeError(change.action)

    directory.subscribe(fails)
    changes = told(directory)
    directory.remove_client("client-1")
    assert [each.action for each in changes] == ["removed"]
    assert "subscriber" in caplog.text


def test_broker_passwords() -> None:
    with_mqtt = replace(credential(), mqtt_password_hash=mqtt_password_hash(b"secret"))
    directory = directory_of([hub()], [with_mqtt])
    assert directory.check_mqtt_password(with_mqtt, b"secret")
    assert not directory.check_mqtt_password(with_mqtt, b"Secret")
    assert not directory.check_mqtt_password(credential(), b"secret")


def test_no_secret_shows_in_a_repr() -> None:
    shown = repr(replace(credential(), mqtt_password_hash=b"hash-of-it"))
    assert "kkkk" not in shown
    assert "hash-of-it" not in shown


def test_the_first_key_is_pinned_and_stays() -> None:
    async def main() -> None:
        store = MemoryStore()
        directory = directory_of([hub()], [credential()], store=store)
        changes = told(directory)
        assert await directory.pin_key(1, b"a" * 32)
        assert await directory.pin_key(1, b"a" * 32)
        assert not await directory.pin_key(1, b"b" * 32)
        assert store.pins == {1: b"a" * 32}
        current = directory.credential_by_id(1)
        assert current is not None
        assert current.pinned_key == b"a" * 32
        assert changes == []
        assert not await directory.pin_key(2, b"a" * 32)

    uvloop.run(main())


def test_two_keys_at_once_pin_one() -> None:
    async def main() -> None:
        directory = directory_of([hub()], [credential()])
        keys = [bytes([number]) * 32 for number in range(5)]
        assert sum(await asyncio.gather(*(directory.pin_key(1, key) for key in keys))) == 1

    uvloop.run(main())


def test_a_key_that_was_reset_gives_its_place_to_the_next() -> None:
    async def main() -> None:
        store = MemoryStore()
        directory = directory_of([hub()], [replace(credential(), pinned_key=b"a" * 32)], store=store)
        changes = told(directory)
        directory.reset_key(1)
        directory.reset_key(2)  # removed in the meantime: nothing to tell
        assert changes == [Change("credential", "changed", "hub-1", "client-1", 1)]
        assert directory.credential("key-1") == credential()
        assert await directory.pin_key(1, b"b" * 32)
        assert not await directory.pin_key(1, b"a" * 32)

    uvloop.run(main())


def test_a_reset_while_a_key_is_pinned_leaves_no_pin_that_the_store_lacks() -> None:
    async def main() -> None:
        class ResetRightAfter(MemoryStore):
            async def pin_key(self, credential_id: int, key: bytes) -> bytes | None:
                pinned = await super().pin_key(credential_id, key)
                if not resets:
                    resets.append(credential_id)
                    self.pins.clear()
                    directory.reset_key(credential_id)
                return pinned

        resets: list[int] = []
        store = ResetRightAfter()
        directory = directory_of([hub()], [credential()], store=store)
        assert await directory.pin_key(1, b"a" * 32)
        current = directory.credential_by_id(1)
        assert current is not None
        assert store.pins == {1: current.pinned_key} == {1: b"a" * 32}

    uvloop.run(main())


def test_a_credential_removed_while_it_is_pinned_is_not_accepted() -> None:
    async def main() -> None:
        class Slow(MemoryStore):
            async def pin_key(self, credential_id: int, key: bytes) -> bytes | None:
                directory.remove_client("client-1")
                return None

        directory = directory_of([hub()], [credential()], store=Slow())
        assert not await directory.pin_key(1, b"a" * 32)

    uvloop.run(main())


def test_a_password_is_stretched_once_and_forgotten_by_the_store() -> None:
    async def main() -> None:
        calls: list[str] = []

        def stretch(password: str, node_id: str) -> bytes:
            calls.append(password)
            return cheap_stretch(password, node_id)

        store = MemoryStore({1: "pw-1", 2: "pw-2"})
        plain = [credential(1, psk=None), credential(2, client=2, psk=None)]
        directory = directory_of([hub()], plain, store=store, stretch=stretch)
        directory.start()
        expected = cheap_stretch("pw-2", "test-node")
        assert await asyncio.gather(*(directory.psk(plain[1]) for _ in range(4))) == [expected] * 4
        assert store.psks[2] == expected
        await directory.psk(plain[0])
        assert sorted(calls) == ["pw-1", "pw-2"]
        current = directory.credential("key-2")
        assert current is not None
        assert current.psk == expected
        await directory.stop()

    uvloop.run(main())


def test_a_new_credential_is_stretched_without_being_asked_for() -> None:
    async def main() -> None:
        kept = asyncio.Event()

        class Watched(MemoryStore):
            async def keep_psk(self, credential_id: int, psk: bytes) -> None:
                await super().keep_psk(credential_id, psk)
                kept.set()

        directory = directory_of([hub()], [], store=Watched({1: "pw"}))
        directory.start()
        directory.put_credential(credential(1, psk=None))
        await kept.wait()
        await directory.stop()

    uvloop.run(main())


def test_a_removed_credential_has_no_key() -> None:
    async def main() -> None:
        directory = directory_of([hub()], [credential(1, psk=None)])
        directory.start()
        with pytest.raises(CredentialGone):  # its row is gone, the removal is not told yet
            await directory.psk(credential(1, psk=None))
        directory.remove_client("client-1")
        with pytest.raises(CredentialGone):
            await directory.psk(credential())
        await directory.stop()

    uvloop.run(main())


class DirectoryMachine(RuleBasedStateMachine):
    """Any order of committed changes leaves the directory equal to a plain list of what is live."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = directory_of([hub(1), hub(2)], [])
        self.live: dict[int, CredentialEntry] = {}
        self.next_id = 1

    @rule(client=st.integers(1, 3))
    def create(self, client: int) -> None:
        entry = credential(self.next_id, client=client, of_hub=1 + client % 2)
        self.next_id += 1
        self.live[entry.id] = entry
        self.directory.put_credential(entry)

    @rule(client=st.integers(1, 3), active=st.booleans())
    def change(self, client: int, active: bool) -> None:
        for entry in [each for each in self.live.values() if each.client_id == f"client-{client}"]:
            self.live[entry.id] = replace(entry, active=active)
            self.directory.put_credential(self.live[entry.id])

    @rule(client=st.integers(1, 3))
    def remove_client(self, client: int) -> None:
        self.live = {key: each for key, each in self.live.items() if each.client_id != f"client-{client}"}
        self.directory.remove_client(f"client-{client}")

    @rule(number=st.integers(1, 2))
    def remove_hub(self, number: int) -> None:
        self.live = {key: each for key, each in self.live.items() if each.hub_id != f"hub-{number}"}
        self.directory.remove_hub(f"hub-{number}")
        self.directory.put_hub(hub(number))

    @invariant()
    def equals_the_list(self) -> None:
        for number in range(1, self.next_id):
            assert self.directory.credential(f"key-{number}") == self.live.get(number)
            assert self.directory.credential_by_id(number) == self.live.get(number)


TestDirectoryMachine = DirectoryMachine.TestCase
TestDirectoryMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_a_credential_whose_grace_is_over_is_none_before_anybody_removes_it() -> None:
    clock = [1_000]
    directory = directory_of([hub()], [replace(credential(), expires_at=2_000)], clock=lambda: clock[0])
    assert directory.credential("key-1") is not None
    clock[0] = 1_999
    assert directory.credential_by_id(1) is not None
    clock[0] = 2_000
    assert directory.credential("key-1") is None
    assert directory.credential_by_id(1) is None
    assert [each.id for each in directory.credentials_of("client-1")] == [1]


def test_one_credential_of_a_client_is_removed_and_the_other_stays() -> None:
    directory = directory_of([hub()], [credential(1), credential(2)])
    changes = told(directory)
    directory.remove_credential(1)
    directory.remove_credential(1)
    assert [each.id for each in directory.credentials_of("client-1")] == [2]
    assert directory.credential("key-1") is None and directory.credential("key-2") is not None
    assert changes == [Change("credential", "removed", "hub-1", "client-1", 1)]
    assert directory.credentials_of("client-9") == []
