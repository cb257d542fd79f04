# SPDX-License-Identifier: Apache-2.0
"""What one run leaves to the next: kept, read again, and worth nothing when it is old, damaged or another's."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalovant import road_memory
from thalovant.road_memory import RoadMemory

ORDER: Any = ("mqtt", "wss", "https")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "0123456789abcdef.roads.json"


def written(file: Path, content: str) -> RoadMemory:
    file.write_text(content)
    file.chmod(0o600)
    return RoadMemory(file, ORDER)


def entry(at: Any, times: Any = 1) -> str:
    return json.dumps({"order": list(ORDER), "set_aside": {"mqtt": {"at": at, "times": times}}})


def test_what_is_saved_is_read_again_by_another_run(file: Path) -> None:
    RoadMemory(file, ORDER).save({"mqtt": (40.0, 2), "wss": (0.0, 1)})
    found = RoadMemory(file, ORDER).load()
    assert {road: times for road, (_, times) in found.items()} == {"mqtt": 2, "wss": 1}
    assert 40.0 <= found["mqtt"][0] < 50.0 and 0.0 <= found["wss"][0] < 10.0


def test_the_file_is_private_and_holds_no_more_than_it_must(file: Path) -> None:
    RoadMemory(file, ORDER).save({"mqtt": (1.0, 1)})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert kept.keys() == {"order", "set_aside"} and kept["set_aside"]["mqtt"].keys() == {"at", "times"}
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_there_is_no_file_when_nothing_is_set_aside(file: Path) -> None:
    memory = RoadMemory(file, ORDER)
    memory.save({})
    assert not file.exists() and memory.load() == {}
    memory.save({"mqtt": (1.0, 1)})
    memory.save({})
    assert not file.exists()


def test_another_order_of_preference_begins_anew(file: Path) -> None:
    RoadMemory(file, ORDER).save({"mqtt": (1.0, 1)})
    assert RoadMemory(file, ("wss", "mqtt", "https")).load() == {}
    assert RoadMemory(file, ("mqtt", "wss")).load() == {}


def test_it_is_believed_for_about_ten_minutes(file: Path) -> None:
    now = time.time()
    for age, believed in ((0.0, True), (800.0, True), (road_memory.OLDEST + 5, False), (-60.0, False)):
        assert bool(written(file, entry(now - age)).load()) is believed, age


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"order": ["mqtt", "wss", "https"]}',
        '{"order": ["mqtt", "wss", "https"], "set_aside": []}',
        '{"order": ["mqtt", "wss", "https"], "set_aside": {"mqtt": 7, "pigeon": {"at": 1, "times": 1}}}',
        entry("soon"),
        entry(True),
        entry(None),
        entry(float("nan")),
        entry(float("inf")),
        entry(10**400),
        entry(-(10**400)),
        "[" * 100_000,
    ],
)
def test_what_is_damaged_counts_as_not_there(file: Path, content: str) -> None:
    memory = written(file, content)
    assert memory.load() == {}
    memory.save({"wss": (1.0, 1)})  # and is replaced
    assert memory.load().keys() == {"wss"}


@pytest.mark.parametrize("times", [0, -1, 1001, 10**400, True, 1.0, "1", None])
def test_a_count_that_cannot_be_is_not_believed(file: Path, times: Any) -> None:
    assert written(file, entry(time.time() - 1, times)).load() == {}


def test_bytes_that_are_no_text_count_as_not_there(file: Path) -> None:
    memory = written(file, "")
    file.write_bytes(b"\xff\xfe\x00")
    assert memory.load() == {}


def test_a_file_that_others_may_change_is_not_believed(file: Path) -> None:
    memory = written(file, entry(time.time() - 1))
    assert memory.load()
    file.chmod(0o666)
    assert memory.load() == {}


def test_a_link_is_neither_read_nor_written_through(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    RoadMemory(target, ORDER).save({"mqtt": (1.0, 1)})
    before = target.read_text()
    file.symlink_to(target)
    memory = RoadMemory(file, ORDER)
    assert memory.load() == {}
    memory.save({"wss": (1.0, 1)})
    assert target.read_text() == before and file.is_symlink()


def test_a_folder_that_cannot_be_used_hinders_nobody(tmp_path: Path) -> None:
    memory = RoadMemory(tmp_path / "a file" / "x.roads.json", ORDER)
    (tmp_path / "a file").write_text("")
    memory.save({"mqtt": (1.0, 1)})
    memory.save({})
    assert memory.load() == {}


@settings(max_examples=200)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_content_makes_it_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.roads.json"
    file.write_bytes(content)
    file.chmod(0o600)
    assert RoadMemory(file, ORDER).load() == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mqtt", "at", "times"]), inner),
    max_leaves=8,
)


@settings(max_examples=200)
@given(aside=json_values)
def test_no_entry_makes_it_raise_and_what_it_gives_is_usable(
    tmp_path_factory: pytest.TempPathFactory, aside: Any
) -> None:
    file = tmp_path_factory.getbasetemp() / "some.roads.json"
    memory = written(file, json.dumps({"order": list(ORDER), "set_aside": aside}))
    for road, (age, times) in memory.load().items():
        assert road in ORDER and 0 <= age <= road_memory.OLDEST + 1 and times >= 1
