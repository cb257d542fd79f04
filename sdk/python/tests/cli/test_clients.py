# SPDX-License-Identifier: Apache-2.0
"""`thalovant clients` and `audit` against a real HTTPS server that follows a script.

For people, for programs, and what each refusal says to type next.
"""

from __future__ import annotations

import json
import shlex
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from thalovant.config import Login, save_login

if TYPE_CHECKING:
    from conftest import Certificates, Ran, ScriptedServer, Seen, Typed

TOKEN = "tvpat_not-to-be-printed"  # the fixture `typed` looks for it
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)  # whenever these tests run
HUBS = [
    {
        "id": f"hub-{number}",
        "slug": slug,
        "name": slug,
        "etag": "h",
        "spec": {"protocols": {"wss": True, "mqtt": True}},
        "data_plane_endpoints": {"wss": f"wss://h:1/hubs/hub-{number}", "mqtt": "mqtts://h:2"},
    }
    for number, slug in ((1, "demo"), (2, "garden"))
]
IDENTITY = {
    "access_key": "new-key", "password": "not-to-be-printed", "site_id": "lamp", "default_master": "wss://h:1",
    "default_port": 1,
}  # fmt: skip
POLICY = {
    "etag": "p1", "preset": "developer", "allowed_types": ["speak"], "can_escalate": True, "can_broadcast": False,
    "blocked_skills": ["s1"], "blocked_intents": [], "rate_limit": {"messages": 60, "per_seconds": 60},
    "daily_quota": 500, "usage": {"day": "2026-11-22", "used": 7},
}  # fmt: skip


def time(**before: float) -> str:
    return (NOW - timedelta(**before)).isoformat()


def credential(number: int, state: str = "current", **more: Any) -> dict[str, Any]:
    return {
        "number": number, "state": state, "created_at": time(days=3), "expires_at": None, "mqtt": True,
        "key_pinned": True, "last_used": None, **more,
    }  # fmt: skip


def client(number: int, name: str, hub: str = "hub-1", **more: Any) -> dict[str, Any]:
    whole = {"id": f"client-{number}", "hub_id": hub, "name": name, "active": True, "etag": "c1"}
    return {**whole, "credentials": [credential(1)], "spec": {"siteId": name}, **more}


USED = {"at": time(minutes=5), "carrier": "mqtt", "address": "10.0.0.7"}
LAMP = client(
    1,
    "lamp",
    credentials=[credential(1, "grace", expires_at=time(hours=-23), last_used=USED), credential(2)],
)
PRESENCE = [
    {
        "client_id": "client-1", "hub_id": "hub-1", "name": "lamp", "state": "online", "since": time(minutes=5),
        "carrier": "mqtt", "address": "10.0.0.7", "sessions": 2,
    },
    {
        "client_id": "client-2", "hub_id": "hub-1", "name": "door", "state": "offline", "since": time(hours=3),
        "why": "connection_lost",
    },
]  # fmt: skip


class Account:
    """A control plane with two hubs and a few clients; `refusals` by the end of a path come first."""

    def __init__(self) -> None:
        self.clients = [LAMP, client(2, "door"), client(3, "twin"), client(4, "twin", "hub-2")]
        self.hubs = HUBS
        self.presence = PRESENCE
        self.refusals: dict[str, tuple[int, str]] = {}
        self.policy_etags = ["p1"]
        self.events = b""

    def __call__(self, seen: Seen) -> tuple[int, Any]:
        for end, (status, code) in self.refusals.items():
            if seen.path.endswith(end):
                return status, {"detail": "The server's own words", "code": code}
        parts = seen.path.split("/")[2:]
        return self._clients(seen, parts[1:]) if parts[0] == "clients" else self._others(seen, parts)

    def _others(self, seen: Seen, parts: list[str]) -> tuple[int, Any]:
        match parts:
            case ["public", "hubs"]:
                return 200, {"data": HUBS, "meta": {"next": None}}
            case ["hubs"]:
                return 200, {"data": self.hubs, "meta": {"next": None}}
            case ["hubs", hub_id, "presence"]:
                return 200, {"data": [one for one in self.presence if one["hub_id"] == hub_id], "meta": {"next": None}}
            case ["hubs", hub_id]:
                return 200, next(hub for hub in HUBS if hub["id"] == hub_id)
            case ["audit"]:
                return 200, {"data": AUDIT, "meta": {"next": None}}
        return 404, {"detail": "no such route"}

    def _clients(self, seen: Seen, parts: list[str]) -> tuple[int, Any]:
        if not parts:
            wanted = seen.query.get("hub_id")
            return 200, {
                "data": [one for one in self.clients if wanted in (None, one["hub_id"])],
                "meta": {"next": None},
            }
        one = next((one for one in self.clients if one["id"] == parts[0]), None)
        if one is None:
            return 404, {"detail": "Client not found", "code": "client_not_found"}
        match seen.method, parts[1:]:
            case "PATCH", ["policy"]:
                if seen.headers["if-match"] != self.policy_etags[-1]:
                    return 412, {"detail": "ETag mismatch"}
                return 200, {**POLICY, **seen.json}
            case "GET", ["presence"]:
                return 200, next(row for row in self.presence if row["client_id"] == one["id"])
            case "GET", ["policy"]:
                return 200, {**POLICY, "etag": self.policy_etags.pop(0) if len(self.policy_etags) > 1 else "p1"}
            case "POST", ["rotate"]:
                return 201, {**one, "initial_identify": IDENTITY}
            case "PATCH", []:
                return 200, {**one, **seen.json}
            case "DELETE", _:
                return 204, None
            case "POST", ["credentials", *_]:
                return 204, None
        return 200, one


AUDIT = [
    {
        "id": "2", "at": time(minutes=1), "action": "session.refused", "outcome": "denied", "code": "client_inactive",
        "times": 3, "actor": {"kind": "nobody"}, "target": None, "address": "10.0.0.9",
    },
    {
        "id": "1", "at": time(minutes=2), "action": "client.created", "outcome": "done", "code": None, "times": 1,
        "actor": {"kind": "account", "id": "user-1", "name": "ada"}, "address": "10.0.0.8",
        "target": {"kind": "client", "id": "client-1", "name": "lamp"},
    },
]  # fmt: skip


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time does not pass between what the server says and what is made of it."""
    monkeypatch.setattr("thalovant.cli.times.now", lambda: NOW)


@pytest.fixture
def account(api_server: ScriptedServer) -> Account:
    api_server.script = account = Account()
    return account


@pytest.fixture
def signed_in(typed: Typed, account: Account, api_server: ScriptedServer, certificates: Certificates) -> Typed:
    save_login(Login(api_server.url, certificates.ca_pem, TOKEN, "tok-1"))
    return typed


def done(ran: Ran) -> str:
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def error(ran: Ran) -> str:
    assert (ran.code, ran.out) == (1, "")
    return ran.err


class TestTable:
    def test_of_one_hub(self, signed_in: Typed) -> None:
        head, lamp, door, twin = done(signed_in("clients", "demo")).splitlines()
        assert head.split() == ["NAME", "STATE", "SINCE", "CARRIER", "ADDRESS", "CREDENTIALS", "ID"]
        assert lamp.split("  ")[0] == "lamp"
        assert all(word in lamp for word in ("online", "5 min ago", "mqtt", "10.0.0.7", "2 (rotating, 23 h left)"))
        assert all(word in door for word in ("offline", "3 h ago: connection lost", "client-2"))
        assert twin.endswith("client-3")

    def test_of_several_hubs_and_for_programs(self, signed_in: Typed) -> None:
        lines = done(signed_in("clients")).splitlines()
        assert [line.split()[0] for line in lines] == ["HUB", "demo", "demo", "demo", "garden"]
        for words in (("clients", "--json"), ("clients", "list", "--json")):
            states = [one["presence"] and one["presence"]["state"] for one in json.loads(done(signed_in(*words)))]
            assert states == ["online", "offline", None, None]

    def test_of_ones_own_in_a_public_hub_of_somebody_else(self, signed_in: Typed, account: Account) -> None:
        account.hubs, account.clients = [], [LAMP]
        head, lamp = done(signed_in("clients")).splitlines()
        assert head.startswith("HUB") and lamp.startswith("hub-1") and "online" in lamp
        account.refusals["/hubs/hub-1/presence"] = (403, "ownership_required")
        assert "online" in done(signed_in("clients", "demo"))

    def test_of_nobody(self, signed_in: Typed, account: Account) -> None:
        account.clients = []
        assert "thalovant identity create" in done(signed_in("clients"))
        assert json.loads(done(signed_in("clients", "--json"))) == []

    def test_what_steers_a_terminal_is_not_printed(self, signed_in: Typed, account: Account) -> None:
        account.clients = [client(1, "l\x1b[2Jamp")]
        account.presence = [{**PRESENCE[0], "why": "\x1b]0;x"}]
        assert "\x1b" not in done(signed_in("clients")) + done(signed_in("clients", "show", "client-1"))

    def test_one_client(self, signed_in: Typed) -> None:
        out = done(signed_in("clients", "show", "lamp"))
        assert "lamp (client-1), hub hub-1, site lamp" in out
        assert "Online since" in out and "over mqtt from 10.0.0.7, 2 connections." in out
        assert "grace, 23 h left" in out and "never" in out
        assert json.loads(done(signed_in("clients", "show", "lamp", "--json")))["presence"]["sessions"] == 2

    @pytest.mark.parametrize("as_json", [False, True], ids=["people", "programs"])
    def test_watching(
        self,
        signed_in: Typed,
        account: Account,
        api_server: ScriptedServer,
        monkeypatch: pytest.MonkeyPatch,
        as_json: bool,
    ) -> None:
        """What the table shows is not told again; the second stream finds no hub any more, which ends it."""
        monkeypatch.setattr("thalovant.presence.FIRST_PAUSE", 0.0)
        rows = [*PRESENCE, {**PRESENCE[0], "state": "offline", "why": "unplugged", "carrier": None, "address": None}]
        stream = b"".join(b"event: presence\ndata: " + json.dumps(row).encode() + b"\n\n" for row in rows)
        streams: list[Any] = [
            (404, {"detail": "Hub not found", "code": "hub_not_found"}),
            (200, None, stream, {"content-type": "text/event-stream"}),
        ]
        api_server.script = lambda seen: streams.pop() if seen.path.endswith("/events") else account(seen)
        ran = signed_in("clients", "--watch", "demo", *(("--json",) if as_json else ()))
        assert (ran.code, streams) == (1, []) and "Hub not found" in ran.err
        if as_json:
            assert [json.loads(line)["state"] for line in ran.out.splitlines()] == ["online", "offline", "offline"]
        else:
            assert len(ran.out.splitlines()) == 5  # the table, and what changed
            assert ran.out.splitlines()[-1].split("  ")[1:] == ["lamp", "offline", "unplugged"]

    def test_a_change_that_does_not_show_is_not_told_and_twins_are_told_apart(
        self, signed_in: Typed, account: Account, api_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("thalovant.presence.FIRST_PAUSE", 0.0)
        lamp = PRESENCE[0]
        twin = {**lamp, "client_id": "client-9", "since": time(minutes=1)}
        rows = [{**lamp, "sessions": 3}, lamp, twin, {**twin, "sessions": 1}, {**lamp, "since": time(minutes=0)}]
        stream = b"".join(b"event: presence\ndata: " + json.dumps(row).encode() + b"\n\n" for row in rows)
        streams: list[Any] = [
            (404, {"detail": "Hub not found", "code": "hub_not_found"}),
            (200, None, stream, {"content-type": "text/event-stream"}),
        ]
        api_server.script = lambda seen: streams.pop() if seen.path.endswith("/events") else account(seen)
        ran = signed_in("clients", "--watch", "demo")
        table = done(signed_in("clients", "demo")).splitlines()
        (line,) = ran.out.splitlines()[len(table) :]
        assert line.split("  ")[1:] == ["lamp (client-9)", "online", "mqtt 10.0.0.7"]

    def test_watching_needs_one_hub(self, signed_in: Typed) -> None:
        assert "Say which hub; there are: demo, garden. (which_hub)" in error(signed_in("clients", "--watch"))


class TestWhichClient:
    def test_by_id_or_name_or_name_in_a_hub(self, signed_in: Typed) -> None:
        for words in (("client-4",), ("twin", "--hub", "garden")):
            assert json.loads(done(signed_in("clients", "resume", *words, "--json")))["id"] == "client-4"

    def test_a_name_that_two_have(self, signed_in: Typed) -> None:
        said = error(signed_in("clients", "pause", "twin"))
        assert "client-3 (hub hub-1), client-4 (hub hub-2)" in said and said.endswith("(which_client)\n")

    @pytest.mark.parametrize(
        ("name", "advice"), [("lmp", "did you mean lamp?"), ("client-9", "type `thalovant clients`"), ("x", "clients`")]
    )
    def test_a_name_that_nobody_has(self, signed_in: Typed, name: str, advice: str) -> None:
        assert advice in error(signed_in("clients", "show", name))

    def test_a_word_that_is_no_command_is_a_hub(self, signed_in: Typed) -> None:
        assert done(signed_in("clients", "garden")) == done(signed_in("clients", "--hub", "garden"))
        assert "No such command 'paus'" in error(signed_in("clients", "paus", "lamp"))
        assert "lamp is a client and no hub; type `thalovant clients show lamp`" in error(signed_in("clients", "lamp"))
        assert "There is no hub 'sho'; there are: demo, garden." in error(signed_in("clients", "sho"))


class TestRotating:
    def test_a_new_file_and_what_to_do_next(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        out = done(signed_in("clients", "rotate", "lamp", "--grace", "1h30m"))
        assert "its new identity is in lamp.identity.json, and the old one works until" in out
        assert "`thalovant clients finish lamp`" in out
        file = Path("lamp.identity.json")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text())["access_key"] == "new-key"
        assert api_server.seen[-1].json["grace_seconds"] == 5_400
        again = json.loads(done(signed_in("clients", "rotate", "lamp", "--grace", "0", "--json")))
        assert (again["file"], again["grace_seconds"], again["client_id"]) == ("lamp.new.identity.json", 0, "client-1")

    def test_at_once_and_as_a_profile(self, signed_in: Typed) -> None:
        out = done(signed_in("clients", "rotate", "door", "--grace", "0", "--profile", "door"))
        assert "is in the profile door, and the old one has ended" in out
        assert "cut off until" in out
        assert "already" in error(signed_in("clients", "rotate", "door", "--profile", "door"))

    @pytest.mark.parametrize("grace", ["soon", "24", "-1h", "1.5h", ""])
    def test_what_is_no_time(self, signed_in: Typed, grace: str, api_server: ScriptedServer) -> None:
        assert "type it like 24h" in error(signed_in("clients", "rotate", "lamp", "--grace", grace))
        assert "--grace" in error(signed_in("clients", "rotate", "lamp", "--grace", grace))
        assert "30d at most" in error(signed_in("clients", "rotate", "lamp", "--grace", "31d"))
        assert api_server.seen == []

    def test_a_file_that_is_there_is_left_alone(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        Path("kept").write_text("kept")
        assert "exists already" in error(signed_in("clients", "rotate", "lamp", "--out", "kept"))
        assert all(seen.method == "GET" for seen in api_server.seen)

    def test_a_folder_that_is_not_there_is_seen_before_anything_is_made(
        self, signed_in: Typed, api_server: ScriptedServer
    ) -> None:
        assert "no/such" in error(signed_in("clients", "rotate", "lamp", "--out", "no/such/folder"))
        assert all(seen.method == "GET" for seen in api_server.seen)

    def test_a_file_that_cannot_be_written_undoes_it(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        """The name leaves no room for the file that is written first."""
        assert "Unable to write" in signed_in("clients", "rotate", "lamp", "--out", "n" * 250).err
        assert api_server.seen[-1].path == "/v1/clients/client-1/rotate/cancel"
        ran = signed_in("clients", "rotate", "lamp", "--out", "n" * 250, "--grace", "0")
        assert "rotate again" in ran.err and ran.code == 1
        assert list(Path.cwd().iterdir()) == []

    def test_finish_and_cancel(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        assert "has ended" in done(signed_in("clients", "finish", "lamp", "--force"))
        assert api_server.seen[-1].json == {"force": True}
        assert "is dropped" in done(signed_in("clients", "cancel", "lamp"))
        for words in (("finish", "lamp"), ("cancel", "lamp")):
            assert json.loads(done(signed_in("clients", *words, "--json")))["id"] == "client-1"

    @pytest.mark.parametrize(
        ("words", "end", "code", "advice"),
        [
            ("rotate", "/rotate", "rotation_in_progress", "thalovant clients cancel lamp"),
            ("finish", "/finish", "new_credential_unused", "thalovant clients finish lamp --force"),
            ("finish", "/finish", "no_rotation", "thalovant clients rotate lamp"),
            ("cancel", "/cancel", "no_rotation", "thalovant clients rotate lamp"),
        ],
    )
    def test_a_refusal_says_what_to_type(
        self, signed_in: Typed, account: Account, words: str, end: str, code: str, advice: str
    ) -> None:
        account.refusals[end] = (409, code)
        assert advice in error(signed_in("clients", words, "lamp"))
        told = json.loads(error(signed_in("clients", words, "lamp", "--json")))["error"]
        assert (told["code"], told["status_code"]) == (code, 409)


class TestChanging:
    def test_pause_resume_rename(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        for words, body in (
            (("pause", "door"), {"active": False}),
            (("resume", "door"), {"active": True}),
            (("rename", "door", "gate"), {"name": "gate"}),
        ):
            out = done(signed_in("clients", *words))
            assert "client-2" in out
            assert (api_server.seen[-1].method, api_server.seen[-1].json) == ("PATCH", body)
            assert json.loads(done(signed_in("clients", *words, "--json")))["id"] == "client-2"

    def test_a_name_that_another_has(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        said = error(signed_in("clients", "rename", "door", "lamp"))
        assert "lamp (client-1) is a client of hub-1 already: choose another name. (name_taken)" in said
        said = error(signed_in("identity", "create", "demo", "--name", "lamp"))
        assert "thalovant clients rotate lamp" in said and "--again" in said
        assert all(seen.method == "GET" for seen in api_server.seen) and list(Path.cwd().iterdir()) == []

    def test_removing_asks(self, signed_in: Typed, api_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        assert "give --yes" in error(signed_in("clients", "remove", "door"))
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda _: "n")
        assert "Nothing was removed" in error(signed_in("clients", "remove", "door"))
        assert all(seen.method != "DELETE" for seen in api_server.seen)
        monkeypatch.setattr("builtins.input", lambda _: "y")
        assert done(signed_in("clients", "remove", "door")) == "Removed door (client-2).\n"
        assert json.loads(done(signed_in("clients", "remove", "door", "--yes", "--json")))["removed"] is True

    def test_resetting_a_key(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        assert "next one that it connects with" in done(signed_in("clients", "reset-key", "door"))
        assert api_server.seen[-1].path == "/v1/clients/client-2/credentials/1/reset-key"
        assert "--number: 1 (grace), 2 (current)" in error(signed_in("clients", "reset-key", "lamp"))
        reset = json.loads(done(signed_in("clients", "reset-key", "lamp", "--number", "2", "--json")))
        assert reset == {"client_id": "client-1", "number": 2, "reset": True}


class TestPolicy:
    def test_shown(self, signed_in: Typed) -> None:
        out = done(signed_in("clients", "policy", "lamp"))
        said = ("preset developer", "speak", "escalate", "s1", "60 messages in 60 s", "7 of 500 asks")
        assert all(word in out for word in said)
        assert json.loads(done(signed_in("clients", "policy", "lamp", "--json")))["daily_quota"] == 500

    @pytest.mark.parametrize(
        ("words", "body"),
        [
            ("--allow-type a --allow-type b --deny-type speak", {"allowed_types": ["a", "b"]}),
            ("--block-skill s2 --block-skill s1", {"blocked_skills": ["s1", "s2"]}),
            ("--unblock-skill s1", {"blocked_skills": []}),
            ("--block-intent i --unblock-intent j", {"blocked_intents": ["i"]}),
            ("--grant broadcast --no-grant escalate", {"can_broadcast": True, "can_escalate": False}),
            ("--rate 60/1m --quota 9", {"rate_limit": {"messages": 60, "per_seconds": 60}, "daily_quota": 9}),
            ("--no-rate --no-quota", {"rate_limit": None, "daily_quota": None}),
        ],
    )
    def test_changed(self, signed_in: Typed, api_server: ScriptedServer, words: str, body: dict[str, Any]) -> None:
        done(signed_in("clients", "policy", "lamp", *words.split()))
        assert (api_server.seen[-1].method, api_server.seen[-1].json) == ("PATCH", body)
        assert api_server.seen[-1].headers["if-match"] == "p1"

    def test_what_was_not_there_is_told(self, signed_in: Typed) -> None:
        out = done(signed_in("clients", "policy", "lamp", "--deny-type", "nosuch", "--unblock-skill", "s1"))
        assert out.endswith("Not there, so nothing to take away: nosuch\n") and out.count("Not there") == 1
        json.loads(done(signed_in("clients", "policy", "lamp", "--deny-type", "nosuch", "--json")))

    def test_reset_with_something_new(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        done(signed_in("clients", "policy", "lamp", "--reset", "--block-skill", "s2"))
        body = api_server.seen[-1].json
        assert body.pop("blocked_skills") == ["s2"]
        assert set(body.values()) == {None} and len(body) == 7

    def test_somebody_else_was_faster(self, signed_in: Typed, account: Account, api_server: ScriptedServer) -> None:
        account.policy_etags = ["old", "p1"]
        done(signed_in("clients", "policy", "lamp", "--allow-type", "a"))
        assert [seen.headers["if-match"] for seen in api_server.seen if seen.method == "PATCH"] == ["old", "p1"]

    @pytest.mark.parametrize(
        "words",
        [
            "--grant fly",
            "--rate many",
            "--rate 1/0",
            "--rate 1/1s --no-rate",
            "--quota 1 --no-quota",
            "--grant broadcast --no-grant broadcast",
            "--rate 0/60s",
            "--rate 1/25h",
            "--quota 99999999999999999999",
            "--quota abc",
            "--quota -1",
            "--allow-type ''",
            "--block-skill ' '",
        ],
    )
    def test_typed_wrongly_changes_nothing(self, signed_in: Typed, api_server: ScriptedServer, words: str) -> None:
        said = error(signed_in("clients", "policy", "lamp", *shlex.split(words)))
        assert "(usage)" in said and words.split()[0] in said
        assert api_server.seen == []


class TestAudit:
    def test_shown(self, signed_in: Typed) -> None:
        _, denied, made = done(signed_in("audit")).splitlines()
        assert denied.endswith("denied (client_inactive) x3") and "nobody" in denied
        assert all(word in made for word in ("ada", "client.created", "lamp", "10.0.0.8"))
        assert json.loads(done(signed_in("audit", "--json", "--limit", "1"))) == AUDIT[:1]

    def test_what_is_asked_for(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        done(signed_in("audit", "--client", "door", "--hub", "demo", "--denied", "--action", "message.denied"))
        asked = {
            "limit": "50",
            "hub_id": "hub-1",
            "client_id": "client-2",
            "action": "message.denied",
            "outcome": "denied",
        }
        assert api_server.seen[-1].query == asked
        done(signed_in("audit", "--client", "client-gone"))
        assert api_server.seen[-1].query["client_id"] == "client-gone"

    def test_a_client_that_is_gone_is_found_by_its_name(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        def removed(number: int, name: str) -> dict[str, Any]:
            return {**AUDIT[1], "id": f"{number + 9}", "target": {"id": f"client-{number}", "name": name}}

        log = [removed(80, "gone"), removed(81, "other"), removed(82, "other"), removed(81, "other")]

        def script(seen: Seen) -> tuple[int, Any]:
            if seen.query.get("action") == "client.removed":
                return 200, {"data": log}
            return 200, {"data": AUDIT if seen.path.endswith("/audit") else []}

        api_server.script = script
        done(signed_in("audit", "--client", "gone"))
        assert api_server.seen[-1].query["client_id"] == "client-80"
        assert "client-81, client-82. (which_client)" in error(signed_in("audit", "--client", "other"))
        assert "thalovant audit --client ID (unknown_client)" in error(signed_in("audit", "--client", "never"))

    @pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["people", "programs"])
    def test_followed(
        self, signed_in: Typed, api_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, as_json: tuple[str, ...]
    ) -> None:
        """Newest last; a look that fails is made again, and a refusal ends it."""
        monkeypatch.setattr("thalovant.cli.audit.POLL", 0.0)
        newer = [{**AUDIT[0], "id": str(number), "action": f"action.{number}"} for number in (4, 3)]
        looks: list[Any] = [(404, {"detail": "gone"}), (200, {"data": newer + AUDIT}), None, (200, {"data": AUDIT})]

        def script(seen: Seen) -> tuple[int, Any]:
            if (look := looks.pop()) is None:
                raise ConnectionResetError
            return look

        api_server.script = script
        ran = signed_in("audit", "--follow", *as_json)
        assert (ran.code, looks) == (1, []) and "gone" in ran.err
        shown = [json.loads(line)["action"] if as_json else line.split("  ")[3] for line in ran.out.splitlines()]
        assert shown == ["client.created", "session.refused", "action.3", "action.4"]

    @pytest.mark.parametrize("option", ["--since", "--until"])
    def test_what_is_no_date(self, signed_in: Typed, api_server: ScriptedServer, option: str) -> None:
        assert f"{option}: 'banana' is no date" in error(signed_in("audit", "export", "file", option, "banana"))
        assert api_server.seen == [] and not Path("file").exists()

    def test_exported(self, signed_in: Typed, api_server: ScriptedServer) -> None:
        for words in (("one",), ("two", "--json")):
            api_server.script = None
            api_server.will(200, raw=b'{"id":"1"}\n{"signature":"s"}\n')
            api_server.will(200, {"public_key": "a="})
            out = done(signed_in("audit", "export", *words))
            if words == ("one",):
                assert "To check it: thalovant-server verify-audit one --public-key a=\n" in out
            else:
                assert json.loads(out) == {"file": "two", "entries": 1, "public_key": "a="}
        assert stat.S_IMODE(Path("one").stat().st_mode) == 0o600
        assert "exists already" in error(signed_in("audit", "export", "one"))


@pytest.mark.parametrize("words", ["clients", "clients rotate lamp", "clients policy lamp", "audit", "audit export f"])
def test_who_is_not_signed_in_is_told_how(typed: Typed, words: str) -> None:
    said = error(typed(*words.split()))
    assert "thalovant login" in said and "login(" not in said
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("status", "code"), [(401, "invalid_token"), (403, "insufficient_scopes")], ids=["over", "limited"]
)
def test_a_sign_in_that_is_not_enough_is_told_what_to_type(
    signed_in: Typed, account: Account, status: int, code: str
) -> None:
    account.refusals["/audit"] = (status, code)
    said = error(signed_in("audit"))
    assert "thalovant login" in said and said.endswith(f"({code})\n")
    told = json.loads(error(signed_in("audit", "--json")))["error"]
    assert (told["code"], told["status_code"]) == (code, status)
