# SPDX-License-Identifier: Apache-2.0
"""Runs the moves against a broker while a neighbour stays connected, one after the other, and collects the outcomes.

What it needs of a broker is in the two identities: where it is and what they may log in with. It knows no server of
ours and makes or removes no identity (`throwaway` does).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Self

from thalovant_server.errors import ProofError
from thalovant_server.isolation.attacker import Attack, Dial
from thalovant_server.isolation.moves import Move, Scene, stale
from thalovant_server.isolation.packets import Wire
from thalovant_server.isolation.verdicts import Outcome, Verdict, judge, judge_cut
from thalovant_server.isolation.witness import Witness

LEVELS = (4, 5)


class Proof:
    """The neighbour and the attacker's own second connection, at one protocol level. Use it in `async with`."""

    def __init__(self, scene: Scene, level: int, dial: Dial) -> None:
        self._scene = scene
        self._wire = Wire(level)
        self._dial = dial
        self._staying: dict[str, Witness] = {}
        self._is_welcome = True  # the attacker's credential is good
        self._is_lone = False  # the broker lets a credential have one connection at a time
        self._left: set[bytes] = set()

    async def __aenter__(self) -> Self:
        """Bring both in.

        Raises:
            ProofError: they are not let in, or their hub does not answer.
        """
        try:
            await self._arrive()
            for witness in self._staying.values():
                if faults := await witness.talk():
                    raise ProofError(f"before anything was tried, {faults[0]}")
            self._is_lone = await self._find_lone()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._tidy()
        finally:
            await self._leave()

    async def attempt(self, move: Move, level: int | None = None) -> Outcome:
        """Make one move, at another protocol level if one is named, and see what came of it.

        Raises:
            ProofError: the broker does not answer at all.
        """
        await self._arrive()  # who was thrown out by the move before comes back
        wire = self._wire if level is None else Wire(level)
        attack = Attack(move, self._scene, wire)
        try:
            await attack.begin(self._dial)
            if attack.seen.let_in and (self._is_lone or move.is_private):
                await self._part()
            noticed = [*await self._notices(), *await self._talk()]  # what of this the attacker hears, it overhears
            await attack.listen()
        finally:
            await attack.end()
        if move.will and attack.seen.let_in:
            noticed += await self._talk()  # by then a hub that heard it has said what it thinks of it
        noticed += await self._notices()
        outcome = judge(move, wire.level, attack.seen, noticed, own=self._scene.heard_rightly())
        if outcome.verdict is not Verdict.DENIED:
            self._left |= move.leaves(self._scene)
        return outcome

    async def is_cut(self, credential: str) -> Outcome:
        """The attacker's credential was taken away: see that its other connection ends, and nobody else's."""
        self._is_welcome = False
        own = self._staying.pop("attacker")
        try:
            was_cut = await own.is_cut()
        finally:
            await own.close()
        return judge_cut(credential, self._wire.level, was_cut, await self._notices())

    async def _arrive(self) -> None:
        scene = self._scene
        wanted = [("neighbour", scene.neighbour, scene.neighbour_id)]
        if self._is_welcome:
            wanted.append(("attacker", scene.attacker, scene.attacker_id))
        for name, party, client_id in wanted:
            present = self._staying.get(name)
            if present is None or present.gone:
                self._staying[name] = await Witness.arrive(name, party, client_id, self._wire, self._dial)
                if present is not None:
                    await present.close()

    async def _find_lone(self) -> bool:
        """Whether another connection of the attacker's takes the place of the one that stays. If so, it comes back."""
        attacker, scene = self._scene.attacker, self._scene
        other = await Witness.arrive("attacker", attacker, f"{scene.attacker_id}-too", self._wire, self._dial)
        try:
            await self._staying["attacker"].notices()
            return self._staying["attacker"].gone
        finally:
            await other.close()
            await self._arrive()

    async def _part(self) -> None:
        """What the attacker's own move does to its connection that stays is no news to anybody else."""
        await self._staying.pop("attacker").close()

    async def _tidy(self) -> None:
        """Have the broker keep nothing of what was tried, and the hub be done with it."""
        if self._left and self._is_welcome:
            await self._arrive()
            await self._staying["attacker"].clear(self._left)
            await self._staying["neighbour"].talk()

    async def _leave(self) -> None:
        for witness in self._staying.values():
            await witness.close()

    async def _talk(self) -> list[str]:
        return [noticed for witness in self._staying.values() for noticed in await witness.talk()]

    async def _notices(self) -> list[str]:
        return [noticed for witness in self._staying.values() for noticed in await witness.notices()]


async def prove(scene: Scene, dial: Dial, moves: Iterable[Move], levels: Iterable[int] = LEVELS) -> list[Outcome]:
    """Make every move at every level; the outcomes in that order.

    Raises:
        ProofError: the broker is not reached, does not let the two identities in, or does not answer.
    """
    tried = tuple(moves)
    outcomes: list[Outcome] = []
    for level in levels:
        async with Proof(scene, level, dial) as proof:
            for move in tried:
                try:
                    outcomes.append(await proof.attempt(move))
                except ProofError as error:
                    raise ProofError(f"{move.name} (MQTT {Wire(level).name}): {error.fault}") from error
    return outcomes


async def prove_taken_away(
    scene: Scene,
    dial: Dial,
    credential: str,
    take_away: Callable[[], Awaitable[object]],
    levels: Iterable[int] = LEVELS,
) -> list[Outcome]:
    """Take the attacker's credential away while it is connected: it is cut, and does not come back.

    Args:
        credential: what it is then, as in "a revoked credential".
        take_away: does it; when it returns, it has to hold.

    Raises:
        ProofError: as `prove`.
    """
    tried = tuple(levels)
    async with Proof(scene, tried[-1], dial) as proof:
        await take_away()
        cut = await proof.is_cut(credential)
        return [cut, *[await proof.attempt(stale(credential), level) for level in tried]]
