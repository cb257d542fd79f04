# SPDX-License-Identifier: Apache-2.0
"""Where a path leads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalovant_server.gateways.paths import split_path


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/", (None, "")),
        ("", (None, "")),
        ("/connect", (None, "connect")),
        ("/connect/", (None, "connect")),
        ("/hubs", (None, "hubs")),
        ("/hubs/", ("", "")),
        ("/hubs/h1", ("h1", "")),
        ("/hubs/h1/", ("h1", "")),
        ("/hubs/h1/connect", ("h1", "connect")),
        ("/hubs/h1/a/b", ("h1", "a/b")),
    ],
)
def test_where_a_path_leads(path, where):
    assert split_path(path) == where


@given(st.text())
def test_any_path_leads_somewhere(path):
    hub_id, rest = split_path(path)
    assert hub_id is None or "/" not in hub_id
    assert not rest.startswith("/")
