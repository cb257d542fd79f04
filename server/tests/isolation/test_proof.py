# SPDX-License-Identifier: Apache-2.0
"""The proof against brokers that are broken on purpose: a proof that cannot fail would prove nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
import uvloop

from thalovant_server.errors import ProofError
from thalovant_server.isolation import attacker, table
from thalovant_server.isolation.moves import moves
from thalovant_server.isolation.proof import prove, prove_taken_away
from thalovant_server.isolation.verdicts import Outcome, Verdict

# A broker without rules has nothing to say at these topics, or nobody hears it there.
NOTHING_TO_GET = {
    "subscribe to own/s2c/ (trailing slash)", "subscribe to own/s2c with a NUL",
    "subscribe to own/s2c that is not in normal form C", "subscribe to own/s2c in overlong UTF-8",
    "connect with a client id of 64 KiB", "connect with a will of 64 KiB",
    "connect with a will at neighbour/c2s",  # the payload of a will is no hello
    "publish to own/c2s, retained", "publish to own/in, retained",  # nor does a hub take what was retained
}  # fmt: skip
# MQTT 3.1.1 says the same of a message that was taken and of one that was thrown away.
SAYS_NOTHING_IN_3_1_1 = {
    "publish to $SYS/broker/clients/total", "publish to $CONTROL/dynamic-security/v1", "publish to $share/g/x",
    "publish to own topic below another hub", "publish to the empty topic", "publish to own/+", "publish to own/#",
    "publish to #", "publish to own/c2s with a NUL", "publish to own/c2s in overlong UTF-8",
}  # fmt: skip


def run(main: object) -> None:
    uvloop.run(asyncio.wait_for(main, 60))  # type: ignore[arg-type]


def test_against_a_broker_without_rules_every_move_works(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.OpenBroker() as broker:
            outcomes = await prove(rig.SCENE, broker.dial, moves())
            assert not any(each.verdict is Verdict.DENIED for each in outcomes)
            for level, more in ((4, SAYS_NOTHING_IN_3_1_1), (5, set())):
                spared = {o.move for o in outcomes if o.level == level and o.verdict is Verdict.NO_EFFECT}
                assert spared == NOTHING_TO_GET | more
            assert not table.proven(outcomes) and table.summary(outcomes).startswith("NOT ISOLATED: 140 moves")

    run(main())


def test_what_was_noticed_is_told(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async with rig.OpenBroker() as broker:
            told = {each.move: each.noticed for each in await prove(rig.SCENE, broker.dial, moves(), [4])}
        assert told["connect with a neighbour's client id"] == ("the neighbour was disconnected",)
        assert "the neighbour heard something on .../status" in told["connect with a will at neighbour/status"]
        assert "the neighbour heard something on .../out" in told["publish to neighbour/in, QoS 0"]
        assert "the attacker heard something on .../status" in told["log in with a will and a wrong password"]
        assert told["subscribe to #"] == ()

    run(main())


def test_a_broker_that_forgets_to_cut_is_found(rig: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacker, "PATIENCE_SECONDS", 0.1)  # so long to see that nothing happens

    async def main() -> None:
        async with rig.OpenBroker() as broker:

            async def nothing() -> None:
                pass

            outcomes = await prove_taken_away(rig.SCENE, broker.dial, "a revoked credential", nothing)
            assert [(each.move, each.verdict) for each in outcomes] == [
                ("stay connected with a revoked credential", Verdict.WORKED),
                ("log in with a revoked credential", Verdict.WORKED),
                ("log in with a revoked credential", Verdict.WORKED),
            ]

    run(main())


def test_a_hub_that_does_not_answer_proves_nothing(rig: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacker, "PATIENCE_SECONDS", 0.1)

    async def main() -> None:
        async with rig.OpenBroker() as broker:
            monkeypatch.setattr(broker, "_publish", lambda *_: None)
            with pytest.raises(ProofError, match="hub no longer answers"):
                await prove(rig.SCENE, broker.dial, moves())

    run(main())


def test_a_broker_that_is_not_there_proves_nothing(rig: SimpleNamespace) -> None:
    async def main() -> None:
        async def dial() -> None:
            raise ConnectionRefusedError("refused")

        with pytest.raises(ProofError, match="cannot be reached: refused"):
            await prove(rig.SCENE, dial, moves())  # type: ignore[arg-type]

    run(main())


def test_the_table_shows_each_move_and_the_sum() -> None:
    outcomes = [
        Outcome("try", "gain", 4, "closed", (), Verdict.DENIED),
        Outcome("try harder", "gain", 5, "PUBACK 0x00", ("the neighbour was cut",), Verdict.WORKED, "WebSocket"),
    ]  # fmt: skip
    assert table.as_text(outcomes).splitlines() == [
        "move        MQTT         what came back  verdict",
        "try         3.1.1        closed          denied",
        "try harder  5 WebSocket  PUBACK 0x00     WORKED",
        "    the neighbour was cut",
        "",
        "NOT ISOLATED: 2 moves, 1 denied, 1 WORKED.",
    ]
    assert table.proven(outcomes[:1]) and not table.proven([])
