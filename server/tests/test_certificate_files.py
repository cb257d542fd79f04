# SPDX-License-Identifier: Apache-2.0
"""The authority grows and is renewed without losing what it was; the server's certificates follow in time."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest

from thalovant_server import certificates
from thalovant_server.certificate_files import Authority, CertificateFiles
from thalovant_server.certificates import AUTHORITY_LIFE, LOOPBACK_HOSTS, SERVER_LIFE
from thalovant_server.errors import DataDamagedError
from thalovant_server.server_tls import Leaf

START = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


class Server:
    """One start of a server after another, over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *hosts: str, at: datetime.datetime = START) -> tuple[Authority, list[Leaf]]:
        files = CertificateFiles(self.folder)
        authority = files.authority(hosts, at)
        return authority, files.leaves(authority, hosts, at)

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_a_second_start_finds_the_same(server: Server) -> None:
    authority, leaves = server.start("hub.example")
    before = {name: server.text(name) for name in server.names}
    assert server.start("hub.example") == (authority, leaves)
    assert {name: server.text(name) for name in server.names} == before
    assert server.names == {"ca.pem", "ca.key", "tls.crt", "tls.key"}
    assert not (authority.added or authority.renewed or authority.earlier)


def test_keys_are_private_and_the_authority_follows_the_servers_certificate(server: Server) -> None:
    server.start()
    for name in ("ca.key", "tls.key"):
        assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600
    assert server.text("tls.crt").endswith(server.text("ca.pem"))
    assert server.text("tls.crt").count("BEGIN CERTIFICATE") == 2


def test_a_new_name_has_the_authority_issued_anew_and_a_certificate_of_its_own(server: Server) -> None:
    first, _ = server.start("hub.example")
    second, leaves = server.start("new.example", "hub.example")
    assert (second.added, second.earlier) == (("new.example",), (first.pair.certificate,))
    assert second.pair.private_key == first.pair.private_key
    assert [(leaf.certificate.name, leaf.hosts) for leaf in leaves] == [
        ("tls.crt", (*LOOPBACK_HOSTS, "hub.example")),
        ("tls-2.crt", ("new.example",)),
    ]
    assert certificates.serves(
        server.text("tls-2.crt"), second.pair.certificate, (*LOOPBACK_HOSTS, "new.example", "hub.example"), START
    )
    assert all(server.text(name).endswith(server.text("ca.pem")) for name in ("tls.crt", "tls-2.crt"))
    again, _ = server.start("new.example", "hub.example")
    assert (again.added, again.earlier, again.pair) == ((), second.earlier, second.pair)


def test_names_are_added_one_after_another_and_dropped(server: Server) -> None:
    server.start()
    server.start("a.example")
    third, _ = server.start("a.example", "b.example")
    assert len(third.earlier) == 2
    _, leaves = server.start("b.example")
    assert [leaf.certificate.name for leaf in leaves] == ["tls.crt", "tls-3.crt"]
    assert "tls-2.crt" not in server.names
    back, _ = server.start("a.example", "b.example")
    assert not back.added, "what it vouched for once it need not be issued for again"


def test_a_widening_that_was_cut_off_is_done_again(server: Server) -> None:
    """The earlier certificates are written first: a power cut leaves the newest among them."""
    first, _ = server.start()
    (server.folder / "ca-earlier.pem").write_text(first.pair.certificate)
    same, _ = server.start()
    assert (same.pair, same.earlier) == (first.pair, ())
    second, _ = server.start("hub.example")
    assert second.earlier == (first.pair.certificate,)
    assert server.text("ca-earlier.pem") == first.pair.certificate


def test_a_certificate_is_issued_anew_at_two_thirds_of_its_life_with_its_key(server: Server) -> None:
    server.start()
    leaf, key = server.text("tls.crt"), server.text("tls.key")
    due = certificates.due(leaf)
    server.start(at=due - DAY)
    assert server.text("tls.crt") == leaf
    server.start(at=due)
    assert server.text("tls.crt") != leaf
    assert server.text("tls.key") == key
    assert certificates.ends(server.text("tls.crt")) == due.replace(microsecond=0) + SERVER_LIFE


def test_an_authority_near_its_end_is_issued_anew_and_old_clients_trust_what_it_signs(server: Server) -> None:
    first, _ = server.start("hub.example")
    due = certificates.due(first.pair.certificate)
    second, _ = server.start("hub.example", at=due)
    assert second.renewed and second.before == first.pair.certificate and not second.earlier
    assert certificates.ends(second.pair.certificate) == due.replace(microsecond=0) + AUTHORITY_LIFE
    leaf = server.text("tls.crt")
    for each in (first, second):
        assert certificates.serves(leaf, each.pair.certificate, (*LOOPBACK_HOSTS, "hub.example"), due)
    assert certificates.ends(first.pair.certificate) - due > datetime.timedelta(days=3 * 365)


def test_a_lost_server_key_is_made_anew_with_all_its_certificates(server: Server) -> None:
    server.start()
    server.start("hub.example")
    old = {name: server.text(name) for name in ("tls.crt", "tls-2.crt", "tls.key")}
    (server.folder / "tls.key").unlink()
    server.start("hub.example")
    assert all(server.text(name) != text for name, text in old.items())


@pytest.mark.parametrize("text", ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "ca-earlier.pem", "tls.crt", "tls-2.crt", "tls.key"])
def test_damage_is_named_and_nothing_is_made_in_its_place(name: str, text: str, server: Server) -> None:
    server.start()
    server.start("hub.example")
    (server.folder / name).write_text(text)
    with pytest.raises(DataDamagedError, match=name.replace(".", r"\.")):
        server.start("hub.example")
    assert server.text(name) == text


@pytest.mark.parametrize("name", ["ca.key", "ca-earlier.pem", "tls.key"])
def test_a_file_of_another_server_is_told(name: str, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Server(tmp_path_factory.mktemp("other"))
    for each in (server, other):
        each.start()
        each.start("hub.example")
    (server.folder / name).write_text(other.text(name))
    with pytest.raises(DataDamagedError, match=name.replace(".", r"\.")):
        server.start("hub.example")


def test_an_authority_that_was_moved_away_is_made_anew_and_forgets_the_earlier_ones(server: Server) -> None:
    first, _ = server.start()
    server.start("hub.example")
    for name in ("ca.pem", "ca.key"):
        (server.folder / name).unlink()
    second, leaves = server.start("hub.example")
    assert second.pair.private_key != first.pair.private_key
    assert not second.earlier and len(leaves) == 1


@pytest.mark.parametrize("lost", [("ca.pem",), ("ca.key",), ("ca.pem", "ca.key")])
def test_a_running_server_makes_no_other_authority(lost: tuple[str, ...], server: Server) -> None:
    files = CertificateFiles(server.folder, is_new=True)
    files.authority((), START)
    for name in lost:
        (server.folder / name).unlink()
    with pytest.raises(DataDamagedError, match="missing"):
        files.authority((), START)
