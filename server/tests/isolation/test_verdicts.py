# SPDX-License-Identifier: Apache-2.0
"""What an answer means: a table of cases, those that look like a no and are none among them."""

from __future__ import annotations

import pytest

from thalovant.protocol.mqtt.packets import Connack, Disconnect, Packet, Puback, Publish, Pubrec, Suback
from thalovant_server.isolation.attacker import Seen
from thalovant_server.isolation.moves import Kind, Move
from thalovant_server.isolation.verdicts import Outcome, Verdict, judge, judge_cut

IN = Connack(False, 0)
LISTEN = Move("listen", Kind.SUBSCRIBE, "", "t")
SPEAK = Move("speak", Kind.PUBLISH, "", "t")
ENTER = Move("enter", Kind.CONNECT, "")
SHOUT = Move("shout", Kind.PUBLISH, "", "t", qos=0)
EITHER = Move("either", Kind.CONNECT, "", harmless=True)

CASES = {
    "a filter that is refused": (LISTEN, 4, [IN, Suback(1, (0x80,))], False, "SUBACK 0x80", Verdict.DENIED),
    "a filter that is granted and silent": (LISTEN, 5, [IN, Suback(1, (0,))], False, "SUBACK 0x00", Verdict.NO_EFFECT),
    "something overheard": (
        LISTEN, 4, [IN, Suback(1, (0x80,)), Publish(b"foreign", b"")], False, "SUBACK 0x80, PUBLISH", Verdict.WORKED,
    ),
    "an own message": (
        LISTEN, 4, [IN, Suback(1, (0,)), Publish(b"own", b"")], False, "SUBACK 0x00, PUBLISH", Verdict.NO_EFFECT,
    ),
    "the end": (SPEAK, 4, [IN], True, "closed", Verdict.DENIED),
    "the end with a reason": (SPEAK, 5, [IN, Disconnect(0x87)], True, "DISCONNECT 0x87, closed", Verdict.DENIED),
    "a reason": (SPEAK, 5, [IN, Puback(1, 0x87)], False, "PUBACK 0x87", Verdict.DENIED),
    "a reason with QoS 2": (SPEAK, 5, [IN, Pubrec(1, 0x87)], False, "PUBREC 0x87", Verdict.DENIED),
    "taken in MQTT 5": (SPEAK, 5, [IN, Puback(1, 0)], False, "PUBACK 0x00", Verdict.WORKED),
    "taken by nobody in MQTT 5": (SPEAK, 5, [IN, Puback(1, 0x10)], False, "PUBACK 0x10", Verdict.WORKED),
    "taken or thrown away in 3.1.1": (SPEAK, 4, [IN, Puback(1)], False, "PUBACK 0x00", Verdict.NO_EFFECT),
    "QoS 0": (SHOUT, 5, [IN], False, "nothing", Verdict.NO_EFFECT),
    "let in": (ENTER, 4, [IN], False, "CONNACK 0", Verdict.WORKED),
    "let in where that is harmless": (EITHER, 5, [IN], False, "CONNACK 0", Verdict.NO_EFFECT),
    "a login that is refused": (ENTER, 4, [Connack(False, 5)], True, "CONNACK 5, closed", Verdict.DENIED),
    "a login that is refused in 5": (ENTER, 5, [Connack(False, 0x86)], True, "CONNACK 0x86, closed", Verdict.DENIED),
    "no answer but the end": (ENTER, 5, [], True, "closed", Verdict.DENIED),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_answer_is_judged(case: str) -> None:
    move, level, packets, closed, answer, verdict = CASES[case]
    outcome = judged(move, level, packets, closed)
    assert (outcome.answer, outcome.verdict) == (answer, verdict)


@pytest.mark.parametrize("case", CASES)
def test_whatever_was_answered_it_worked_when_somebody_noticed(case: str) -> None:
    move, level, packets, closed, _, _ = CASES[case]
    outcome = judged(move, level, packets, closed, "the neighbour was disconnected")
    assert outcome.verdict is Verdict.WORKED and outcome.noticed == ("the neighbour was disconnected",)


def test_one_filter_of_several_that_is_granted_is_no_denial() -> None:
    assert judged(LISTEN, 5, [IN, Suback(1, (0x87, 0))], False).verdict is Verdict.NO_EFFECT


@pytest.mark.parametrize(
    ("was_cut", "noticed", "verdict"),
    [(True, (), Verdict.DENIED), (False, (), Verdict.WORKED), (True, ("somebody else was cut",), Verdict.WORKED)],
)
def test_a_connection_has_to_end_with_its_credential(was_cut: bool, noticed: tuple[str, ...], verdict: Verdict) -> None:
    assert judge_cut("a revoked credential", 5, was_cut, noticed).verdict is verdict


def judged(move: Move, level: int, packets: list[Packet], closed: bool, *noticed: str) -> Outcome:
    return judge(move, level, Seen(list(packets), closed), noticed, own={b"own"})
