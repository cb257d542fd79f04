# SPDX-License-Identifier: Apache-2.0
"""Spans of time as people type and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from thalovant.cli.times import ago, clock, local_time, now, seconds_left, seconds_of, span

PARTS = st.lists(st.tuples(st.integers(0, 10**9 - 1), st.sampled_from("smhd")), min_size=1, max_size=4)
SIZES = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@given(PARTS)
def test_what_is_typed_is_added_up(parts: list[tuple[int, str]]) -> None:
    typed = "".join(f"{number}{unit}" for number, unit in parts)
    assert (
        seconds_of(typed, "--grace")
        == seconds_of(f" {typed.upper()} ", "--grace")
        == sum(number * SIZES[unit] for number, unit in parts)
    )


@given(st.text(max_size=12))
def test_anything_else_is_refused_as_typed_wrongly(text: str) -> None:
    try:
        assert seconds_of(text, "--grace") >= 0
    except typer.BadParameter as error:
        assert "type it like 24h" in str(error)


@pytest.mark.parametrize("text", ["", "24", "-1h", "1.5h", "h", "1w", "1h 30m", "00", "²h", "1" * 10 + "s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        seconds_of(text, "--grace")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (86_400, "24 h"), (200_000, "2 d")],
)
def test_a_span_has_one_unit_and_says_enough(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_times_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 11, 22, 10, tzinfo=UTC)
    monkeypatch.setattr("thalovant.cli.times.now", lambda: now)
    assert ago((now - timedelta(minutes=3, seconds=59)).isoformat().replace("+00:00", "Z")) == "3 min ago"
    assert seconds_left((now + timedelta(hours=2)).isoformat()) == 7_200
    assert local_time(now.isoformat()) == f"{now.astimezone():%Y-%m-%d %H:%M:%S}"
    assert clock() == f"{now.astimezone():%H:%M:%S}"


def test_the_time_is_now() -> None:
    assert abs(datetime.now(UTC) - now()) < timedelta(seconds=60)


@pytest.mark.parametrize("value", [None, "", "soon", 7])
def test_what_is_no_time_of_a_server_is_shown_as_it_is(value: object) -> None:
    assert (ago(value), seconds_left(value), local_time(value)) == ("", None, str(value or ""))
