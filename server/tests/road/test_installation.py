# SPDX-License-Identifier: Apache-2.0
"""Both packages in a bare environment: the import `thalovant` is ours, and the installed server starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with wheels of both packages, nothing editable."""
    named = ROOT / ".cache/uv-path"
    uv = named.read_text().strip() if named.exists() else shutil.which("uv")
    assert uv, "make writes the path of uv to .cache/uv-path"
    environment = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([uv, "venv", "-q", "--no-project", "--python", sys.executable, str(environment)], check=True)
    python = environment / "bin/python"
    subprocess.run(
        [
            uv,
            "pip",
            "install",
            "-q",
            "--no-config",
            "--no-sources",
            "--python",
            str(python),
            ROOT / "sdk/python",
            ROOT / "server",
        ],
        check=True,
        cwd=environment,
        env={**os.environ, "UV_CACHE_DIR": str(ROOT / ".cache/uv-packages")},
    )
    return python


def run(python: Path, program: str, cwd: Path) -> str:
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True, cwd=cwd).stdout.strip()


def test_the_import_thalovant_is_ours(bare: Path, tmp_path: Path) -> None:
    file = run(bare, "import thalovant; print(thalovant.__file__)", tmp_path)
    assert Path(file).is_relative_to(bare.parents[1])
    names = run(bare, "import importlib.metadata as m; print(*(d.name for d in m.distributions()))", tmp_path)
    assert {"open-thalovant", "open-thalovant-server"} <= set(names.split())
    assert "thalovant" not in names.split()


def test_the_installed_server_starts(bare: Path, tmp_path: Path) -> None:
    program = (
        "import pathlib\nfrom thalovant_server.testing import ServerProcess\n"
        "with ServerProcess(pathlib.Path('data')) as server: print(server.ready['hub_slug'])"
    )
    assert run(bare, program, tmp_path) == "demo"


@pytest.mark.parametrize("command", ["thalovant", "thalovant-server"])
def test_the_commands_are_there(command: str, bare: Path) -> None:
    said = subprocess.run([bare.parent / command, "--version"], check=True, capture_output=True, text=True).stdout
    assert "0.1.0" in said
