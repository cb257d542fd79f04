# SPDX-License-Identifier: Apache-2.0
"""The container file names what there is, runs as nobody in particular, and takes no secret in.

It is built by whoever runs it; its grammar is hadolint's to check (`make check`).
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from thalovant_server.settings import API_PORT, MQTT_PORT, Settings, variable_name

ROOT = Path(__file__).parents[2]
KNOWN = {variable_name(name) for name in Settings.model_fields}


def instructions() -> list[tuple[str, str]]:
    """The container file: each instruction with what follows it."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", " ", text)
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def all_of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def goes_in(path: str) -> bool:
    """Whether .dockerignore lets a file into the build: the last line that names it or a folder above it decides."""
    taken = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        named = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{named}(?:/.*)?", path):
            taken = line.startswith("!")
    return taken


def test_it_runs_as_an_ordinary_user_with_its_data_in_a_volume() -> None:
    [user] = all_of("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number, so that it can be seen to be no root"
    assert all_of("VOLUME") == ["/data"]
    assert "THALOVANT_SERVER_DATA=/data" in " ".join(all_of("ENV"))
    assert not all_of("ADD")


def test_its_settings_are_settings_and_its_ports_the_servers() -> None:
    named = set(re.findall(r"THALOVANT_SERVER_\w+(?==)", " ".join(all_of("ENV"))))
    assert named and named <= KNOWN
    assert all_of("EXPOSE") == [f"{API_PORT} {MQTT_PORT}"]


def test_its_commands_are_there() -> None:
    [entry], [check] = all_of("ENTRYPOINT"), all_of("HEALTHCHECK")
    assert yaml.safe_load(entry) == ["thalovant-server"]
    health = yaml.safe_load(check.partition("CMD ")[2])
    for words in (health, ["thalovant-server", *yaml.safe_load(all_of("CMD")[0])]):
        assert words[0] == "thalovant-server"
        run = subprocess.run([sys.executable, "-m", "thalovant_server", *words[1:], "--help"], capture_output=True)
        assert run.returncode == 0


def test_what_it_copies_is_there_and_let_in() -> None:
    sources = [words[:-1] for words in map(shlex.split, all_of("COPY")) if not words[0].startswith("--from")]
    assert sources
    for source in (each for words in sources for each in words):
        path = ROOT / source
        inside = path if path.is_file() else next(path.rglob("*.py"))
        assert goes_in(str(inside.relative_to(ROOT))), source
    for name in ("sdk/python", "server"):
        for needed in ("pyproject.toml", "README.md"):
            assert goes_in(f"{name}/{needed}")


@pytest.mark.parametrize(
    "path",
    [
        "data/ca.key",
        "data/admin-password",
        "kitchen-light.identity.json",
        "server/src/kitchen-light.identity.json",
        ".cache/uv-path",
        ".git/config",
        "server/src/.env",
        "server/src/thalovant_server/__pycache__/app.pyc",
        "server/tests/test_container.py",
        "sdk/python/tests/conftest.py",
        "requirements/dev.txt",
        "thalovant-noise/pin",
    ],
)
def test_what_has_no_place_in_it_stays_out(path: str) -> None:
    assert not goes_in(path)


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))


def test_its_pins_are_hashed_ours_and_enough() -> None:
    image, ours = pins("image.txt"), pins("dev.txt")
    assert image.items() <= ours.items(), "the versions that are tested"
    text = (ROOT / "requirements/image.txt").read_text()
    assert text.count("--hash=sha256:") >= len(image)
    for project in ("sdk/python", "server"):
        wanted = tomllib.loads((ROOT / project / "pyproject.toml").read_text())
        for each in (*wanted["project"]["dependencies"], *wanted["build-system"]["requires"]):
            name = re.split(r"[\[<>=; ]", each)[0]
            assert name in image or name == "open-thalovant", name
    assert "--require-hashes" in " ".join(all_of("RUN"))


def test_it_names_no_host_of_packages_or_images() -> None:
    for name in ("Containerfile", "compose.yaml", "requirements/image.txt"):
        assert "://" not in (ROOT / name).read_text()
    base = next(rest for instruction, rest in instructions() if instruction == "ARG")
    assert re.fullmatch(r"BASE=python:\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)


def test_the_example_of_a_composition_is_shut_in_and_waits_for_the_drain() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["thalovant"]
    assert set(service["environment"]) <= KNOWN
    assert service["build"]["dockerfile"] == "Containerfile"
    assert service["ports"] == [f"{port}:{port}" for port in (API_PORT, MQTT_PORT)]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert int(service["stop_grace_period"].removesuffix("s")) > Settings(data=Path("d")).drain_seconds + 5
    assert any(volume.endswith(":/data") for volume in service["volumes"])
