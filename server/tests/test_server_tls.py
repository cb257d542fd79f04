# SPDX-License-Identifier: Apache-2.0
"""The certificate shown is that of the name said, else of the address dialled; a new table changes nobody's session."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from thalovant_server.certificate_files import CertificateFiles
from thalovant_server.certificate_keeper import utc_now
from thalovant_server.server_tls import Leaf, ServerTls, Table, canonical
from thalovant_server.tls_rehearsal import refusal


class World:
    """An authority that grew twice: `ca` are its certificates, the earliest first."""

    def __init__(self, folder: Path) -> None:
        hosts: tuple[str, ...] = ()
        for new in (("hub.example", "192.0.2.7"), ("new.example", "2001:db8::1"), ("192.0.2.8",)):
            hosts = (*hosts, *new)
            files = CertificateFiles(folder)
            authority = files.authority(hosts, utc_now())
        self.ca = authority.all_certificates
        self.leaves = files.leaves(authority, hosts, utc_now())
        self.table = Table(self.leaves, "192.0.2.7")

    def refused(self, dialled: str, *, ca: int, arrived_at: str | None = None) -> str:
        """Why a client refuses that trusts generation `ca`; it arrives where it dialled unless a NAT is between."""
        return refusal(self.table.context_for(arrived_at or dialled), dialled, self.ca[ca - 1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("ca", [1, 2, 3])
@pytest.mark.parametrize("host", ["localhost", "hub.example", "HUB.example", "127.0.0.1", "::1", "192.0.2.7"])
def test_whoever_trusts_any_generation_reaches_the_first_names(host: str, ca: int, world: World) -> None:
    assert world.refused(host, ca=ca) == ""


@pytest.mark.parametrize(("host", "since"), [("new.example", 2), ("2001:db8::1", 2), ("192.0.2.8", 3)])
def test_a_later_name_is_for_those_who_hold_a_later_authority(host: str, since: int, world: World) -> None:
    for ca in (1, 2, 3):
        assert bool(world.refused(host, ca=ca)) == (ca < since), ca


def test_a_name_said_counts_more_than_the_address_dialled(world: World) -> None:
    assert world.refused("new.example", ca=2, arrived_at="192.0.2.7") == ""
    assert world.refused("hub.example", ca=1, arrived_at="2001:db8::1") == ""


def test_an_address_that_is_none_of_ours_gets_the_fallback(world: World) -> None:
    assert world.refused("192.0.2.7", ca=1, arrived_at="172.17.0.2") == ""
    assert "mismatch" in world.refused("192.0.2.8", ca=3, arrived_at="172.17.0.2")


def test_an_unknown_name_gets_what_the_address_gets(world: World) -> None:
    assert "mismatch" in world.refused("unknown.example", ca=3, arrived_at="192.0.2.7")


def test_a_later_leaf_takes_a_host_over(world: World) -> None:
    table = Table([world.leaves[0], Leaf(("localhost",), world.leaves[2].certificate, world.leaves[2].key)], "::1")
    assert "permitted subtree" in refusal(table.context_for("::1"), "localhost", world.ca[0])
    assert refusal(table.context_for("::1"), "::1", world.ca[0]) == ""


def test_an_old_tls_version_is_refused(world: World) -> None:
    assert world.table.context_for("::1").minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_table_is_swapped_whole(world: World) -> None:
    tls = ServerTls(world.table)
    assert tls.context_for("127.0.0.1") is world.table.context_for("127.0.0.1")
    other = Table(world.leaves[:1], "localhost")
    tls.replace(other)
    assert tls.context_for("127.0.0.1") is other.context_for("127.0.0.1")


def test_files_that_are_no_pair_are_no_table(world: World, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("rubbish")
    for key in (tmp_path / "key", tmp_path / "missing"):
        with pytest.raises(OSError):
            Table([Leaf(("localhost",), world.leaves[0].certificate, key)], "localhost")


@pytest.mark.parametrize(
    ("host", "compared"),
    [
        ("Hub.Example.", "hub.example"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_hosts_are_compared_in_one_form(host: str, compared: str) -> None:
    assert canonical(host) == compared
