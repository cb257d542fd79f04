# SPDX-License-Identifier: Apache-2.0
"""What the link hears: the clients of the hubs that are there now, whatever happened in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.brokers.names import Namespace
from thalovant_server.gateways.broker_link.subscriptions import HUBS_AT_ONCE, Due, Subscriptions


def filters(*hubs: str, root: str = "") -> set[bytes]:
    below = f"{root}/" if root else ""
    return {f"{below}hubs/{hub}/clients/+/{each}".encode() for hub in hubs for each in ("in", "c2s", "status")}


def test_a_hubs_three_topics_are_asked_for_with_qos_1_and_nothing_retained_but_presence() -> None:
    asked = Subscriptions(Namespace("house"))
    asked.wish("h1", True)
    assert not asked.complete
    due = dict(asked.due().subscribe)
    assert set(due) == filters("h1", root="house")
    assert {topic.rpartition(b"/")[2]: options for topic, options in due.items()} == {
        b"in": 0x21, b"c2s": 0x21, b"status": 0x11,
    }  # fmt: skip
    assert not asked.due()  # one at a time
    assert asked.answered((1, 1, 1)) and asked.complete and not asked.due()


def test_no_hub_is_complete_at_once() -> None:
    asked = Subscriptions(Namespace())
    asked.begin(session_present=False)
    assert asked.complete and asked.due() == Due()


def test_a_filter_that_is_not_granted_is_noticed() -> None:
    asked = Subscriptions(Namespace())
    asked.wish("h1", True)
    asked.due()
    assert not asked.answered((1, 0x87, 1))


def test_many_hubs_are_asked_for_in_turns() -> None:
    asked = Subscriptions(Namespace())
    names = [f"h{number}" for number in range(HUBS_AT_ONCE * 2 + 1)]
    for name in names:
        asked.wish(name, True)
    heard: set[bytes] = set()
    for _ in range(3):
        due = asked.due()
        assert len(due.subscribe) <= HUBS_AT_ONCE * 3
        heard |= {topic for topic, _ in due.subscribe}
        asked.answered((1,) * len(due.subscribe))
    assert asked.complete and heard == filters(*names)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wish"), st.sampled_from("abc"), st.booleans()),
        st.tuples(st.just("begin"), st.just(""), st.booleans()),
        st.tuples(st.sampled_from(["ask", "answer"]), st.just(""), st.just(True)),
    ),
    max_size=40,
)


@given(steps)
def test_in_the_end_the_broker_has_exactly_what_is_wished(taken: list[tuple[str, str, bool]]) -> None:
    asked, wished = Subscriptions(Namespace()), set()
    broker: set[bytes] = set()
    pending: list[Due] = []

    def ask() -> None:
        due = asked.due()
        broker.difference_update(due.unsubscribe)
        if due.subscribe:
            pending.append(due)
        assert len(pending) <= 1

    def answer() -> None:
        if pending:
            due = pending.pop()
            broker.update(topic for topic, _ in due.subscribe)
            assert asked.answered((1,) * len(due.subscribe))

    for what, hub, flag in taken:
        if what == "wish":
            asked.wish(hub, flag)
            (wished.add if flag else wished.discard)(hub)
        elif what == "begin":
            if not flag:
                broker.clear()
            elif pending:  # the broker had it, or not: it is asked for again
                broker.update(topic for topic, _ in pending[0].subscribe)
            pending.clear()
            asked.begin(session_present=flag)
        else:
            (ask if what == "ask" else answer)()
    for _ in range(3):
        answer()
        ask()
    answer()
    assert asked.complete and broker == filters(*wished)
