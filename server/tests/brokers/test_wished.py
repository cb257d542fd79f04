# SPDX-License-Identifier: Apache-2.0
"""Which accounts are wished, and that the steps to them lead there from anywhere and touch nothing foreign."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant_server.brokers.base import Grants, ListedUser, Listing
from thalovant_server.brokers.names import Namespace
from thalovant_server.brokers.wished import (
    Step,
    Wish,
    Wishes,
    account_of,
    client_grants,
    compare,
    server_grants,
    server_wish,
    strangers,
    wish_of,
)
from thalovant_server.testing.brokers import ScriptedUser, broker_credential, link_hub
from thalovant_server.testing.directory import directory_of

NAMESPACE = Namespace("home")
ODD = Grants(frozenset({"#"}), frozenset(), frozenset())


# -- what is wished


def test_a_credential_of_a_link_hub_is_wished_with_its_own_topics() -> None:
    directory = directory_of([link_hub()], [broker_credential(1, NAMESPACE)])
    wish = wish_of(directory, NAMESPACE, 1)
    assert wish is not None
    prefix = "home/hubs/hub-1/clients/client-1"
    assert account_of(wish, NAMESPACE).grants == Grants(
        frozenset({f"{prefix}/in", f"{prefix}/c2s", f"{prefix}/status"}),
        frozenset({f"{prefix}/out", f"{prefix}/s2c", f"{prefix}/status"}),
        frozenset({f"{prefix}/out", f"{prefix}/s2c", f"{prefix}/status"}),
    )
    assert (wish.user, wish.role) == (broker_credential(1, NAMESPACE).access_key, "thalovant.home:client-1.1")


@pytest.mark.parametrize(
    ("hub", "credential"),
    [
        ({"mqtt_via": "embedded"}, {}),
        ({"active": False}, {}),
        ({"protocols": frozenset({"wss"})}, {}),
        ({}, {"active": False}),
        ({}, {"has_broker_password": False}),
        ({}, {"topic_prefix": "hubs/hub-1/clients/client-1"}),  # of another root
        ({}, {"topic_prefix": "home/server/status"}),
        ({}, {"expires_at": 1}),
        ({}, {"hub_id": "no-such-hub"}),
    ],
)
def test_a_credential_that_may_not_come_is_not_wished(hub: dict[str, Any], credential: dict[str, Any]) -> None:
    directory = directory_of([link_hub(**hub)], [broker_credential(1, NAMESPACE, **credential)])
    assert wish_of(directory, NAMESPACE, 1) is None


def test_two_credentials_of_a_client_are_two_accounts() -> None:
    both = [
        broker_credential(1, NAMESPACE),
        broker_credential(
            2, NAMESPACE, client_id="client-1", number=2, topic_prefix="home/hubs/hub-1/clients/client-1.2"
        ),
    ]
    directory = directory_of([link_hub()], both)
    old, new = (wish_of(directory, NAMESPACE, each) for each in (1, 2))
    assert old is not None and new is not None
    assert (old.role, new.role) == ("thalovant.home:client-1.1", "thalovant.home:client-1.2")
    assert not client_grants(old.prefix).publish & client_grants(new.prefix).publish


@pytest.mark.parametrize("root", ["", "home", "a/b"])
def test_the_hubs_hear_what_clients_say_and_say_what_they_hear(root: str) -> None:
    namespace = Namespace(root)
    grants, clients = server_grants(namespace), namespace.topic("hubs/+/clients/+")
    assert grants.subscribe == grants.receive == {f"{clients}/in", f"{clients}/c2s", f"{clients}/status"}
    assert grants.publish == {f"{clients}/out", f"{clients}/s2c", namespace.presence}
    assert grants.patterns


# -- the steps


def wishes_of(*numbers: int) -> Wishes:
    wishes = Wishes()
    wishes.put(server_wish(NAMESPACE))
    for number in numbers:
        credential = broker_credential(number, NAMESPACE)
        role = NAMESPACE.role(credential.client_id, 1)
        wishes.put(Wish(number, credential.access_key, role, credential.topic_prefix))
    return wishes


def steps(wishes: Wishes, listing: Listing) -> list[Step]:
    return [each for each in compare(wishes, NAMESPACE, listing) if isinstance(each, Step)]


def listing_of(wishes: Wishes) -> Listing:
    """A broker that has just what is wished."""
    users = [ListedUser(each.user, each.role, frozenset({each.role})) for each in wishes.all()]
    return Listing(users, {each.role: account_of(each, NAMESPACE).grants for each in wishes.all()})


def test_where_all_is_right_there_is_nothing_to_do_and_each_wish_is_named() -> None:
    wishes = wishes_of(1, 2)
    assert list(compare(wishes, NAMESPACE, listing_of(wishes))) == wishes.all()


def test_an_empty_broker_gets_everything() -> None:
    wishes = wishes_of(1, 2)
    assert steps(wishes, Listing()) == [Step("make", each.user, each.role) for each in wishes.all()]


DRIFTS: dict[str, dict[str, Any]] = {
    "disabled": {"enabled": False},
    "in a group": {"plain": False},
    "without its role": {"roles": frozenset()},
    "with two roles of ours": {"roles": frozenset({"thalovant.home:client-1.1", "thalovant.home:client-2.1"})},
    "without its mark": {"mark": None},
    "with another mark": {"mark": "thalovant.home:client-9.1"},
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_user_that_is_not_as_we_make_it_is_mended_and_nothing_else(drift: str) -> None:
    wishes = wishes_of(1, 2)
    listing = listing_of(wishes)
    users = [replace(each, **DRIFTS[drift]) if "-1x" in each.name else each for each in listing.users]
    assert users != listing.users
    wish = wishes.by_credential(1)
    assert wish is not None
    assert steps(wishes, replace(listing, users=users)) == [Step("mend", wish.user, wish.role)]


@pytest.mark.parametrize("grants", [None, ODD])
def test_a_role_that_is_not_as_we_write_it_is_mended(grants: Grants | None) -> None:
    wishes = wishes_of(1)
    listing = listing_of(wishes)
    role = "thalovant.home:client-1.1"
    found = steps(wishes, replace(listing, roles={**listing.roles, role: grants}))
    assert [(each.kind, each.role) for each in found] == [("mend", role)]


def test_a_user_of_ours_that_is_not_wished_goes_first_and_its_role_when_nobody_has_it() -> None:
    wishes, before = wishes_of(1), wishes_of(1, 2)
    gone = before.by_credential(2)
    assert gone is not None
    listing = listing_of(before)
    assert steps(wishes, listing) == [Step("remove", gone.user, gone.role)]
    left = replace(listing, users=[each for each in listing.users if each.name != gone.user])
    assert steps(wishes, left) == [Step("orphan", None, gone.role)]


def test_somebody_elses_user_with_a_role_of_ours_is_named_and_left() -> None:
    wishes = wishes_of(1)
    listing = listing_of(wishes)
    bob = ListedUser("bob", None, frozenset({"thalovant.home:client-7.1"}), plain=False)
    odd = Listing([*listing.users, bob], {**listing.roles, "thalovant.home:client-7.1": ODD})
    assert steps(wishes, odd) == []
    assert strangers(wishes, odd) == ["bob"]
    assert strangers(wishes, listing) == []


# -- from anywhere

_NAMES = [broker_credential(number, NAMESPACE).access_key for number in range(1, 5)] + [NAMESPACE.server, "bob", "eve"]
_OURS = [NAMESPACE.role(f"client-{number}", 1) for number in range(1, 5)] + [NAMESPACE.server, "thalovant.home:odd"]
_ROLES = [*_OURS, "lights", "thalovant.homes:client-1.1"]

USERS = st.dictionaries(
    st.sampled_from(_NAMES),
    st.builds(
        ScriptedUser,
        st.just("theirs"),
        st.none() | st.sampled_from(_OURS),
        st.frozensets(st.sampled_from(_ROLES)),
        st.booleans(),
        st.booleans(),
    ),
)
ROLES = st.dictionaries(
    st.sampled_from(_ROLES), st.none() | st.just(ODD) | st.just(client_grants("home/hubs/hub-1/clients/client-1"))
)


class Model:
    """A broker as `base.Broker` says that it is."""

    def __init__(self, users: dict[str, ScriptedUser], roles: dict[str, Grants | None]) -> None:
        self.users, self.roles = copy.deepcopy(users), dict(roles)
        for name in {role for user in users.values() for role in user.roles}:
            self.roles.setdefault(name, None)

    def list(self) -> Listing:
        users = [
            ListedUser(name, user.mark, ours, user.plain and ours == user.roles, user.enabled)
            for name, user in self.users.items()
            if (ours := frozenset(filter(NAMESPACE.owns, user.roles))) or user.mark is not None
        ]
        return Listing(users, {name: grants for name, grants in self.roles.items() if NAMESPACE.owns(name)})

    def apply(self, step: Step, wishes: Wishes) -> None:
        if step.user is None:
            assert not any(step.role in user.roles for user in self.users.values())
            del self.roles[step.role]
            return
        found = self.users.get(step.user)
        if found is not None and not self.is_ours(found, step.role):
            return  # refused, or left
        if step.kind == "remove":
            del self.users[step.user]
            return
        wish = wishes.by_role(step.role)
        assert wish is not None and wish.user == step.user
        self.users[step.user] = ScriptedUser("ours", wish.role, frozenset({wish.role}))
        self.roles[wish.role] = account_of(wish, NAMESPACE).grants

    @staticmethod
    def is_ours(user: ScriptedUser, role: str) -> bool:
        return user.mark is not None or role in user.roles


@settings(max_examples=300)
@given(USERS, ROLES, st.sets(st.sampled_from([1, 2, 3])))
def test_the_steps_lead_from_anywhere_to_what_is_wished_and_touch_nothing_foreign(
    users: dict[str, ScriptedUser], roles: dict[str, Grants | None], numbers: set[int]
) -> None:
    wishes, model = wishes_of(*sorted(numbers)), Model(users, roles)
    before = copy.deepcopy(model)
    for _ in range(3):
        for step in steps(wishes, model.list()):
            model.apply(step, wishes)
    foreign = {
        name: user
        for name, user in before.users.items()
        if user.mark is None and ((wish := wishes.by_user(name)) is None or wish.role not in user.roles)
    }
    assert {name: model.users.get(name) for name in foreign} == foreign
    wished = {each.user: each for each in wishes.all() if each.user not in foreign}
    assert set(model.users) == set(foreign) | set(wished)
    for user, wish in wished.items():
        assert model.users[user] == ScriptedUser(model.users[user].password, wish.role, frozenset({wish.role}))
        assert model.roles[wish.role] == account_of(wish, NAMESPACE).grants
    theirs = {name: grants for name, grants in before.roles.items() if not NAMESPACE.owns(name)}
    had = {role for user in foreign.values() for role in user.roles}
    assert {name: model.roles.get(name) for name in theirs} == theirs
    assert set(model.roles) <= set(theirs) | had | {each.role for each in wishes.all()}


@given(USERS, ROLES, st.sets(st.sampled_from([1, 2, 3])))
def test_what_is_right_is_never_touched(
    users: dict[str, ScriptedUser], roles: dict[str, Grants | None], numbers: set[int]
) -> None:
    wishes, model = wishes_of(*sorted(numbers)), Model(users, roles)
    right = {each for each in compare(wishes, NAMESPACE, model.list()) if isinstance(each, Wish)}
    for wish in right:
        assert model.users[wish.user].roles == {wish.role} and model.users[wish.user].enabled
        assert model.roles[wish.role] == account_of(wish, NAMESPACE).grants
    touched = {step.user for step in steps(wishes, model.list())}
    assert not touched & {each.user for each in right}
