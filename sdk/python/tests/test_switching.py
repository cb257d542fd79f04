# SPDX-License-Identifier: Apache-2.0
"""Several roads: walking them, changing over, coming back, with scripted dialers in a time that jumps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from jumping_time import JumpingLoop

from thalovant import keeping, roads, switching
from thalovant.errors import (
    ThalovantClientKeyRejectedError,
    ThalovantConnectionError,
    ThalovantHubKeyChangedError,
    ThalovantHubRefusedError,
    ThalovantIdentityError,
    ThalovantTimeoutError,
)
from thalovant.keeping import LinkKeeper
from thalovant.link import HandshakeTimeoutError
from thalovant.switching import RoadDialer

AWAY = ThalovantConnectionError("Nobody listens.")
REFUSED = ThalovantHubRefusedError("No.")
LATE = HandshakeTimeoutError("Too late.")
LOST = ThalovantConnectionError("The link dropped.")
OTHER_HUB = ThalovantHubKeyChangedError("Another hub.")
OTHER_CLIENT = ThalovantClientKeyRejectedError("Another key.")
FOR_EVER = 1e6


class FakeLink:
    def __init__(self, road: str) -> None:
        self.error: Exception | None = None
        self.transport = SimpleNamespace(socket_opened_at=None, protocol=road, checks=[])
        self.transport.check = self.transport.checks.append
        self.opened_at = self.ready_at = None
        self.closed = 0
        self.users = 0
        self._free = asyncio.Event()
        self.looks = 0

    def hold(self) -> None:
        self.users += 1

    def release(self) -> None:
        self.users -= 1
        self._free.set()

    async def unused(self) -> None:
        while self.users:
            self._free.clear()
            await self._free.wait()

    def look_after(self, seconds: float) -> None:
        self.looks += 1

    async def close(self) -> None:
        self.error = self.error or ThalovantConnectionError("The connection was closed.")
        self.closed += 1


class Road:
    """One road's dialer. Each dial ends as the script says: a number passes as seconds, an error is raised."""

    phase = "connecting"

    def __init__(self, name: str, *script: Any, then: Any = None) -> None:
        self.protocol: Any = name
        self.script, self.then = list(script), then
        self.dials: list[float] = []
        self.links: list[FakeLink] = []
        self.under_way = 0
        self.expecting = False

    @property
    def dialling(self) -> bool:
        return self.under_way > 0

    def expect(self, answers: bool) -> None:
        self.expecting = answers

    async def dial(self, on_message: Any, on_lost: Any) -> Any:
        self.on_lost = on_lost
        self.dials.append(asyncio.get_running_loop().time())
        assert self.under_way == 0, "one dial at a time on a carrier"
        self.under_way += 1
        try:
            outcome = self.script.pop(0) if self.script else self.then
            for step in outcome if isinstance(outcome, tuple) else (outcome,):
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
            await asyncio.sleep(0)
            self.links.append(FakeLink(self.protocol))
            return self.links[-1]
        finally:
            self.under_way -= 1

    async def meaning_of_loss(self, link: Any, error: Any) -> Any:
        return error

    def lose(self, error: Exception = LOST, number: int = -1) -> None:
        """A link ends by itself, the newest one."""
        self.links[number].error = error
        self.on_lost(self.links[number], error)


class Memory:
    def __init__(self, **held: Any) -> None:
        self.held: Any = held
        self.saved: list[Any] = []

    def load(self) -> Any:
        return self.held

    def save(self, aside: Any) -> None:
        self.saved.append({road: times for road, (_, times) in aside.items()})


Scene = Callable[[LinkKeeper, RoadDialer], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (keeping, switching):
        monkeypatch.setattr(module.random, "uniform", lambda low, high: 1.0)


def play(scene: Scene, *dialers: Road, auto_reconnect: bool = True, **options: Any) -> list[tuple[Any, str]]:
    """Run a scene; nothing may be left of it, and every link is closed once. Returns what was said of lost links."""
    said: list[tuple[Any, str]] = []

    async def main() -> None:
        dialer = RoadDialer(dialers, **options)  # type: ignore[arg-type]
        keeper = LinkKeeper(
            dialer,
            auto_reconnect=auto_reconnect,
            on_message=lambda link, message: None,
            on_lost=lambda link, reason: said.append((link, reason)),
        )
        await scene(keeper, dialer)
        await keeper.end("over", for_good=True)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        assert asyncio.get_running_loop().timers == []  # type: ignore[attr-defined]
        for road in dialers:
            assert [link.closed for link in road.links] == [1] * len(road.links), road.protocol
            assert not road.dialling

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main())
    assert said.pop() == (None, "over")
    return said


def now() -> float:
    return asyncio.get_running_loop().time()


async def pass_(seconds: float) -> None:
    await asyncio.sleep(seconds)


# Reaching the hub


@pytest.mark.parametrize("error", [AWAY, REFUSED, LATE])
def test_a_road_that_fails_gives_way_to_the_next(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "thalovant.roads")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        link = await keeper.dialled()
        assert link.transport.protocol == "wss" and keeper.link is link
        info = keeper.info
        assert (info.phase, info.protocol, info.last_error) == ("ready", "wss", None)
        assert info.attempts == (("mqtt", str(error)),) and info.moved_because == f"mqtt: {error}"
        assert keeper.road == "wss of mqtt/wss/https"

    play(scene, Road("mqtt", then=error), Road("wss"), Road("https"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"moved to wss: mqtt: {error}")
    ]


def test_the_preferred_road_is_the_only_one_dialled_when_it_works(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "thalovant.roads")
    mqtt, wss = Road("mqtt"), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        await pass_(3600.0)
        assert keeper.info.attempts == () and keeper.info.moved_because is None

    play(scene, mqtt, wss)
    assert (len(mqtt.dials), len(wss.dials), caplog.records) == (1, 0, [])


def test_a_hanging_road_costs_its_head_start_only() -> None:
    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        began = now()
        link = await keeper.dialled()
        assert link.transport.protocol == "wss" and now() - began == roads.HEAD_START + 0.5
        assert keeper.info.attempts == (("mqtt", "There was no connection within 2.5 s."),)

    play(scene, Road("mqtt", then=FOR_EVER), Road("wss", 0.5), Road("https"))


def test_a_slow_road_that_gets_there_first_all_the_same_is_the_one() -> None:
    wss = Road("wss", then=FOR_EVER)

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        link = await keeper.dialled()
        assert link.transport.protocol == "mqtt"
        assert keeper.info.attempts == () and keeper.info.moved_because is None
        assert dialer.next_probe() is None

    play(scene, Road("mqtt", 3.0), wss)
    assert len(wss.dials) == 1


def test_two_that_get_there_in_the_same_moment_leave_one_link() -> None:
    mqtt, wss = Road("mqtt", 2.0), Road("wss", 0.0)

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        link = await keeper.dialled()
        await pass_(1.0)
        others = [each for road in (mqtt, wss) for each in road.links if each is not link]
        assert link.error is None and all(each.closed == 1 for each in others)

    play(scene, mqtt, wss)


def test_a_short_deadline_leaves_time_for_every_road() -> None:
    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        link = await keeper.dialled(now() + 1.0)
        assert link.transport.protocol == "https"

    play(scene, Road("mqtt", then=FOR_EVER), Road("wss", then=FOR_EVER), Road("https", 0.1))


def test_a_link_that_is_lost_before_anybody_has_it_is_no_link() -> None:
    mqtt = Road("mqtt")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        dialling = asyncio.create_task(keeper.dialled())
        while not mqtt.links:
            await asyncio.sleep(0)
        mqtt.lose(REFUSED)
        assert (await dialling).transport.protocol == "wss"
        assert keeper.info.attempts == (("mqtt", "No."),)

    play(scene, mqtt, Road("wss"))


# When no road leads there


@pytest.mark.parametrize(
    ("outcomes", "kind"),
    [
        ((AWAY, AWAY, AWAY), ThalovantConnectionError),
        ((REFUSED, REFUSED, REFUSED), ThalovantHubRefusedError),
        ((REFUSED, AWAY, REFUSED), ThalovantConnectionError),
        ((LATE, LATE, LATE), HandshakeTimeoutError),
        ((LATE, AWAY, LATE), ThalovantConnectionError),
    ],
)
def test_all_failures_are_one_error_that_names_each_road(outcomes: Any, kind: type[Exception]) -> None:
    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        with pytest.raises(ThalovantConnectionError) as caught:
            await keeper.dialled()
        assert type(caught.value) is kind
        expected = tuple(zip(("mqtt", "wss", "https"), map(str, outcomes), strict=True))
        assert caught.value.attempts == expected == keeper.info.attempts
        text = " ".join(f"{road}: {reason}" for road, reason in expected)
        assert str(caught.value) == f"No road leads to the hub. {text}" == keeper.info.last_error

    play(scene, *(Road(name, then=each) for name, each in zip(("mqtt", "wss", "https"), outcomes, strict=True)))


def test_a_road_that_was_left_out_is_named_too() -> None:
    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        with pytest.raises(ThalovantHubRefusedError, match=r"mqtt: No credentials\. wss: No\.") as caught:
            await keeper.dialled()
        assert caught.value.attempts == (("mqtt", "No credentials."), ("wss", "No."))

    play(scene, Road("wss", then=REFUSED), left_out=(("mqtt", "No credentials."),))


def test_a_single_road_fails_with_its_own_error() -> None:
    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        with pytest.raises(ThalovantConnectionError) as caught:
            await keeper.dialled()
        assert caught.value is AWAY and AWAY.attempts == (("wss", "Nobody listens."),)

    play(scene, Road("wss", then=AWAY))


@pytest.mark.parametrize("error", [OTHER_HUB, OTHER_CLIENT, ThalovantIdentityError("Damaged."), ValueError("a bug")])
def test_what_no_other_road_may_hide_ends_it_at_once(error: Any) -> None:
    wss = Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        with pytest.raises(type(error)) as caught:
            await keeper.dialled()
        assert caught.value is error and keeper.link is None

    play(scene, Road("mqtt", then=error), wss)
    assert wss.dials == []


def test_another_hub_on_a_slow_road_ends_it_even_while_the_next_is_under_way() -> None:
    wss = Road("wss", then=FOR_EVER)

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        with pytest.raises(ThalovantHubKeyChangedError):
            await keeper.insist(None, None)
        assert keeper.phase == "error"

    play(scene, Road("mqtt", then=(3.0, OTHER_HUB)), wss)
    assert len(wss.dials) == 1


def test_a_deadline_that_passes_says_how_far_each_road_came() -> None:
    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        with pytest.raises(ThalovantTimeoutError) as caught:
            await keeper.dialled(now() + 4.0)
        expected = (("mqtt", "Nobody listens."), ("wss", "There is no connection after 4 s."))
        assert caught.value.attempts == expected
        assert str(caught.value) == (
            "The hub was not reached in time. mqtt: Nobody listens. wss: There is no connection after 4 s."
        )

    play(scene, Road("mqtt", then=AWAY), Road("wss", then=FOR_EVER))


def test_a_refusal_on_every_road_is_not_insisted_against_and_one_on_some_is() -> None:
    async def everywhere(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        with pytest.raises(ThalovantHubRefusedError):
            await keeper.insist(None, None)

    play(everywhere, Road("mqtt", then=REFUSED), Road("wss", then=REFUSED))

    async def somewhere(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        assert (await keeper.insist(None, None)).transport.protocol == "wss"

    play(somewhere, Road("mqtt", then=REFUSED), Road("wss", AWAY, AWAY))


# Returning to the preferred road


def test_the_preferred_road_is_looked_at_again_with_growing_pauses_and_taken_when_it_is_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "thalovant.roads")
    mqtt, wss = Road("mqtt", *[AWAY] * 4), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        began = now()
        old = await keeper.dialled()
        while keeper.link is old:
            await pass_(1.0)
        assert [round(at - began) for at in mqtt.dials] == [0, 30, 90, 210, 450]
        assert keeper.info.protocol == "mqtt" and keeper.info.attempts == ()
        assert keeper.info.moved_because == "mqtt, which is preferred, is open again"
        await pass_(keeping.RETIREMENT + 1)
        assert wss.links[0].closed == 1
        await pass_(3600.0)

    assert play(scene, mqtt, wss) == []
    assert (len(mqtt.dials), len(wss.dials)) == (5, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "moved to wss: mqtt: Nobody listens.",
        "moved to mqtt: mqtt, which is preferred, is open again",
    ]


def test_it_climbs_back_road_by_road() -> None:
    mqtt, wss, https = Road("mqtt", AWAY, AWAY, AWAY), Road("wss", AWAY), Road("https")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        ways = [(await keeper.dialled()).transport.protocol]
        for _ in range(400):
            await pass_(1.0)
            assert keeper.link is not None
            if keeper.link.transport.protocol != ways[-1]:
                ways.append(keeper.link.transport.protocol)
        assert ways == ["https", "wss", "mqtt"]

    play(scene, mqtt, wss, https)


def test_what_was_asked_on_the_old_link_ends_there_before_it_is_closed() -> None:
    mqtt, wss = Road("mqtt", AWAY), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        old = wss.links[0]
        old.hold()
        await pass_(roads.FIRST_PROBE + 600.0)
        assert keeper.link is mqtt.links[0] and old.closed == 0
        old.release()
        await pass_(1.0)
        assert old.closed == 1

    assert play(scene, mqtt, wss) == []


def test_a_retiring_link_that_is_lost_tells_its_own_asks_only() -> None:
    mqtt, wss = Road("mqtt", AWAY), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        wss.links[0].hold()
        await pass_(roads.FIRST_PROBE + 1.0)
        wss.lose()
        await pass_(600.0)
        assert keeper.link is mqtt.links[0] and keeper.info.last_error is None
        assert keeper.info.protocol == "mqtt"

    assert play(scene, mqtt, wss) == [(wss.links[0], "The link dropped.")]
    assert (len(mqtt.dials), len(wss.dials)) == (2, 1)


def test_a_better_road_that_fails_at_once_gives_the_retiring_link_back(caplog: pytest.LogCaptureFixture) -> None:
    mqtt, wss = Road("mqtt", AWAY), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        old = await keeper.dialled()
        wss.links[0].hold()
        await pass_(roads.FIRST_PROBE + 1.0)
        assert keeper.link is mqtt.links[0]
        mqtt.lose()
        assert keeper.link is old, "nothing had to be dialled"
        await pass_(1.0)
        assert keeper.info.protocol == "wss" and keeper.info.last_error is None
        assert keeper.info.attempts == (("mqtt", "The link dropped."),)
        probe = dialer.next_probe()
        assert probe is not None and probe[0] - now() > 50.0  # its second failure: about a minute
        await pass_(10.0)
        wss.links[0].release()
        await pass_(10.0)
        assert old.error is None, "it is in use again: nobody closes it"

    assert play(scene, mqtt, wss) == [(mqtt.links[0], "The link dropped.")]
    assert len(wss.dials) == 1


def test_losing_the_link_while_a_better_road_is_looked_at_ends_the_look() -> None:
    mqtt, wss = Road("mqtt", AWAY, 20.0), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        await pass_(roads.FIRST_PROBE + 1.0)
        assert mqtt.dialling
        wss.lose()
        link = await keeper.insist(None, None)
        assert link is wss.links[1]
        assert len(mqtt.dials) == 3, "the look was ended, and is due at once on the new link"

    play(scene, mqtt, wss)


@pytest.mark.parametrize("error", [OTHER_HUB, OTHER_CLIENT])
def test_a_look_that_finds_another_key(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Another hub is never looked at again, and no later walk hides it; another client key is that road's trouble."""
    mqtt, wss = Road("mqtt", AWAY, error), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        await pass_(3600.0)
        if error is OTHER_CLIENT:
            assert keeper.link is mqtt.links[0]
            return
        assert keeper.link is wss.links[0] and len(mqtt.dials) == 2
        assert keeper.info.attempts == (("mqtt", "Another hub."),)
        wss.lose()
        with pytest.raises(ThalovantHubKeyChangedError):
            await keeper.insist(None, None)
        assert keeper.phase == "error" and len(wss.dials) == 1
        mqtt.script = [AWAY]
        keeper.forgive()  # the user asks for it
        assert (await keeper.dialled()).transport.protocol == "wss"

    play(scene, mqtt, wss)
    assert ("leads to another hub" in caplog.text) is (error is OTHER_HUB)


def test_a_bug_in_a_look_ends_the_looking_and_nothing_else() -> None:
    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        link = await keeper.dialled()
        await pass_(3600.0)
        assert keeper.link is link

    play(scene, Road("mqtt", AWAY, ValueError("a bug")), Road("wss"))


# Losing the link


def test_a_hub_that_restarts_is_met_on_the_same_road() -> None:
    mqtt, wss = Road("mqtt", None, AWAY, AWAY, None), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        await pass_(60.0)
        mqtt.lose()
        link = await keeper.insist(now() + 12.0, None)
        assert link is mqtt.links[1] and keeper.info.moved_because is None

    play(scene, mqtt, wss)
    assert wss.dials == []


def test_a_road_that_stays_away_is_left_after_a_moment() -> None:
    mqtt, wss = Road("mqtt", None, then=AWAY), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        await pass_(60.0)
        mqtt.lose()
        began = now()
        link = await keeper.insist(now() + 12.0, None)
        assert link is wss.links[0] and now() - began <= roads.FAITHFUL

    play(scene, mqtt, wss)


def test_a_lost_link_is_redialled_by_itself_sooner_when_there_are_several_roads() -> None:
    mqtt, wss = Road("mqtt", None, then=AWAY), Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        await pass_(60.0)
        lost_at = now()
        mqtt.lose()
        while keeper.link is None:
            await pass_(0.1)
        assert now() - lost_at < keeping.FIRST_REDIAL_OF_SEVERAL + roads.FAITHFUL + 0.2

    assert play(scene, mqtt, wss) == [(mqtt.links[0], "The link dropped.")]


def test_a_road_that_keeps_dropping_is_left() -> None:
    mqtt, wss = Road("mqtt"), Road("wss")
    for road in (mqtt, wss):
        road.dial = _briefly(road.dial)  # type: ignore[method-assign]

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        for _ in range(roads.BRIEF_LIVES):
            assert (await keeper.insist(None, None)).transport.protocol == "mqtt"
            mqtt.lose()
            await pass_(0.1)
        assert (await keeper.insist(None, None)).transport.protocol == "wss"

    play(scene, mqtt, wss)


def _briefly(dial: Any) -> Any:
    async def dialled(*arguments: Any) -> Any:
        link = await dial(*arguments)
        link.opened_at = link.ready_at = asyncio.get_running_loop().time() and switching.time.monotonic()
        return link

    return dialled


# Watching a silent link


def test_a_silent_link_is_looked_after_while_an_answer_is_awaited_and_no_longer() -> None:
    mqtt = Road("mqtt")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        await pass_(10.0)
        keeper.expect(True)
        assert mqtt.expecting
        await pass_(5.5)
        looks = mqtt.links[0].looks
        keeper.expect(False)
        await pass_(10.0)
        assert (looks, mqtt.links[0].looks) == (5, 5)
        keeper.expect(True)  # left on: ending must take the timer along

    play(scene, mqtt, Road("wss"))


def test_with_a_single_road_nothing_is_watched() -> None:
    wss = Road("wss")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        keeper.expect(True)
        await pass_(10.0)
        assert wss.links[0].looks == 0 and wss.expecting

    play(scene, wss)


# What runs leave each other


def test_what_another_run_found_dead_is_not_tried_first(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "thalovant.roads")
    mqtt, memory = Road("mqtt"), Memory(mqtt=(10.0, 2))

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        assert (await keeper.dialled()).transport.protocol == "wss"
        assert mqtt.dials == []
        assert keeper.info.attempts == (("mqtt", "It failed lately and is tried again later."),)
        await pass_(60.0)
        assert keeper.link is mqtt.links[0]

    play(scene, mqtt, Road("wss"), memory=memory)
    assert memory.saved == [{}]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]


def test_what_was_learned_is_kept_once_for_each_change() -> None:
    memory = Memory()

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        await pass_(31.0)

    play(scene, Road("mqtt", then=AWAY), Road("wss"), memory=memory)
    assert memory.saved == [{"mqtt": 1}, {"mqtt": 2}]


def test_nothing_is_kept_when_nothing_was_learned() -> None:
    memory = Memory()

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()

    play(scene, Road("mqtt"), Road("wss"), memory=memory)
    assert memory.saved == []


# Ending


@pytest.mark.parametrize("for_good", [True, False])
@pytest.mark.parametrize("after", [0.0, 0.5, 2.0, 3.0, 30.0, 33.0, 36.0, 40.0, 100.0])
def test_it_can_be_ended_at_any_time(after: float, for_good: bool) -> None:
    """In the midst of a walk, a look, a change; `play` sees to it that nothing is left."""
    mqtt, wss = Road("mqtt", 5.0, (4.0, AWAY), 3.0), Road("wss", (3.5, AWAY), 1.0)

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        waiting = asyncio.create_task(keeper.dialled())
        await pass_(after)
        await keeper.end("The client ended it.", for_good=for_good)
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.exception()
        assert keeper.link is None
        await pass_(100.0)
        assert keeper.link is None and not mqtt.dialling and not wss.dialling

    said = play(scene, mqtt, wss)
    assert [reason for _, reason in said] == ["The client ended it."]


def test_an_ending_that_its_caller_leaves_goes_on() -> None:
    mqtt = Road("mqtt")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        ending = asyncio.create_task(keeper.end("The client ended it.", for_good=True))
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait([ending])
        await pass_(1.0)
        assert mqtt.links[0].closed == 1

    play(scene, mqtt, Road("wss"))


def test_an_ending_that_takes_too_long_is_cut_short() -> None:
    mqtt = Road("mqtt")

    async def scene(keeper: LinkKeeper, dialer: RoadDialer) -> None:
        await keeper.dialled()
        link, ended = mqtt.links[0], []

        async def close() -> None:
            link.closed += 1
            try:
                await asyncio.sleep(FOR_EVER)
            finally:
                ended.append(now())

        link.close = close  # type: ignore[method-assign]
        began = now()
        assert await keeper.end("The client ended it.", for_good=True, seconds=0.0) is False
        assert ended == [began]

    play(scene, mqtt, Road("wss"))
