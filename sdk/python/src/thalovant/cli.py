# SPDX-License-Identifier: Apache-2.0
"""The command `thalovant`: sign in, look at hubs, create an identity, ask.

What it does is the SDK's; this is only words. No secret is an argument (others can read a process's arguments),
and none is printed.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from thalovant.api_address import normalized_root
from thalovant.api_discovery import LOCAL_URL, find_api, read_ca_file
from thalovant.bootstrap import BootstrapIdentityResult
from thalovant.cli_errors import CommandError, run
from thalovant.config import Login, ThalovantConfigError, read_login, save_login
from thalovant.control_plane import ThalovantControlPlane
from thalovant.errors import ThalovantAPIError, ThalovantAuthError, ThalovantError, ThalovantIdentityError
from thalovant.http_client import fetch_ca, trusting_only
from thalovant.hub_endpoints import DEFAULT_PROTOCOL_PREFERENCE, HubProtocol, HubProtocolSettings, hub_display_name
from thalovant.identity import ThalovantIdentity
from thalovant.paths import default_config_path
from thalovant.version import __version__

TIMEOUT = 10.0
SUFFIX = ".identity.json"

app = typer.Typer(
    name="thalovant",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
hubs_app = typer.Typer(invoke_without_command=True)
identity_app = typer.Typer(invoke_without_command=True)
app.add_typer(hubs_app, name="hubs")
app.add_typer(identity_app, name="identity")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Carrier = Annotated[str | None, typer.Option("--protocol", help="wss, https or mqtt.", metavar="PROTOCOL")]


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    raise SystemExit(run(app))


@app.callback()
def thalovant(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Talk to a self-hosted Thalovant: sign in, look at hubs, create identities, ask."""
    if version:
        print(f"thalovant {__version__}")
        raise typer.Exit
    _help_without_a_command(context)


@identity_app.callback()
def identities(context: typer.Context) -> None:
    """Identities: what a device connects with."""
    _help_without_a_command(context)


def _help_without_a_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


@app.command()
def login(
    url: Annotated[str, typer.Argument(help="Address of the server, like https://localhost:8443.")],
    ca: Annotated[Path | None, typer.Option("--ca", help="The server's CA certificate (PEM).")] = None,
    ca_fingerprint: Annotated[str | None, typer.Option(help="SHA-256 of the server's CA certificate.")] = None,
    email: Annotated[str | None, typer.Option(help="Who signs in; asked for when left out.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="File with the password; asked for else.")] = None,
) -> None:
    """Sign in and remember it, for this command and for ThalovantControlPlane()."""
    root = normalized_root(url if "://" in url else f"https://{url}")
    ca_pem = _authority(root, ca, ca_fingerprint)
    email = email or _asked("E-mail: ", "--email")
    password = _password(password_file)
    with trusting_only(ca_pem) as session, ThalovantControlPlane(root, session=session) as api:
        _sign_in(api, email, password)
        saved = save_login(Login(root, ca_pem, api.access_token, api.token_id, email))
    print(f"Signed in to {root} as {email}; kept in {saved}.")
    print("Next: thalovant hubs")


@hubs_app.callback()
def hubs(context: typer.Context, as_json: AsJson = False) -> None:
    """List the hubs you may use; `hubs set` changes one."""
    if context.invoked_subcommand is None:
        _list_hubs(as_json=as_json)


@hubs_app.command("list")
def list_hubs(as_json: AsJson = False) -> None:
    """List the hubs you may use, as `thalovant hubs` does."""
    _list_hubs(as_json=as_json)


@hubs_app.command("set")
def set_hub(
    hub: Annotated[str, typer.Argument(help="Slug or id of the hub.")],
    mqtt: Annotated[bool | None, typer.Option(help="Switch MQTT on or off.")] = None,
    wss: Annotated[bool | None, typer.Option(help="Switch WSS on or off.")] = None,
    https: Annotated[bool | None, typer.Option(help="Switch HTTPS on or off.")] = None,
    agent: Annotated[str | None, typer.Option(help="Name of the agent that answers.")] = None,
    no_agent: Annotated[bool, typer.Option("--no-agent", help="Let the server's default agent answer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change a hub's carriers or its agent."""
    flags = {"wss": wss, "http": https, "mqtt": mqtt}
    protocols = {name: {"enabled": flag} for name, flag in flags.items() if flag is not None}
    spec: dict[str, Any] = {"protocols": protocols} if protocols else {}
    if agent is not None and no_agent:
        raise typer.BadParameter("give --agent or --no-agent, not both")
    if agent is not None or no_agent:
        spec["agent"] = agent
    if not spec:
        raise typer.BadParameter("say what to change: --mqtt, --no-mqtt, --wss, --https, --agent NAME or --no-agent")
    with ThalovantControlPlane() as api:
        known = _hub(api, hub)
        changed = api.update_hub(known["id"], {"spec": spec}, etag=str(known.get("etag")))
    if as_json:
        _print_json(changed)
        return
    _print_table(("HUB", "NAME", "ID", "CARRIERS", "AGENT"), [_row(changed)])
    if mqtt and not HubProtocolSettings.from_mapping(known).mqtt:
        print("Create a fresh identity for MQTT: one made before has no broker credential.")


@identity_app.command("create")
def create_identity(
    hub: Annotated[str | None, typer.Argument(help="Slug or id of the hub; not needed when there is one.")] = None,
    name: Annotated[str, typer.Option(help="Name of the client, like kitchen-light.")] = ...,  # type: ignore[assignment]
    out: Annotated[Path | None, typer.Option(help="File to write; default ./NAME.identity.json.")] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="A carrier it must have; may be repeated.")] = None,
) -> None:
    """Create a client of a hub and save its identity (mode 0600)."""
    wanted = [_protocol(one) for one in protocol or ()]
    target = out or Path(re.sub(r"[^\w.-]+", "-", name).strip("-.") + SUFFIX)
    if target.exists() or target.is_symlink():
        raise CommandError(f"{target} exists already; choose another --name or --out.", code="exists")
    with ThalovantControlPlane() as api:
        result = api.create_client_identity(_hub(api, hub), name=name, preferred_protocols=_preferred(wanted))
        try:
            for one in wanted:
                api.require_runtime_protocol(result, protocol=one)
            saved = result.identity.save(target)
        except ThalovantError:
            _undo(api, result)
            raise
    carriers = ", ".join(_usable(result)) or "none"
    print(f"Created {name} ({result.client_id}); its identity is in {saved}. Carriers: {carriers}.")
    print(f'Next: thalovant ask "Is anybody there?" --identity {saved}')


@identity_app.command("reset-key")
def reset_key(
    client_id: Annotated[str, typer.Argument(help="Id of the client, as `identity create` printed it.")],
    number: Annotated[int, typer.Option(help="Number of its credential.", min=1)] = 1,
) -> None:
    """Let a client in with a new Noise key, after it lost the one it had."""
    with ThalovantControlPlane() as api:
        api.reset_client_key(client_id, number)
    print(f"The key of {client_id} is reset: the next one that it connects with is the one that counts.")


@app.command()
def ask(
    words: Annotated[list[str], typer.Argument(help="What to say.", metavar="TEXT")],
    protocol: Carrier = None,
    identity: Annotated[Path | None, typer.Option(help="Identity file.")] = None,
    as_json: AsJson = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.1)] = 12.0,
    lang: Annotated[str, typer.Option(help="Language of the text.")] = "en-us",
) -> None:
    """Ask a hub and print its answer."""
    # Only this command needs the data plane; the others start faster without it.
    from thalovant.sync_client import ThalovantClient

    text = " ".join(words).strip()
    if not text:
        raise typer.BadParameter("say something: the text is empty")
    who = _identity(identity)
    with ThalovantClient(who, protocol=_protocol(protocol) if protocol else None) as client:
        reply = client.ask(text, timeout=timeout, lang=lang)
    if as_json:
        _print_json(reply.as_dict())
    else:
        print(reply.display_text)
    if not reply.ok:
        raise CommandError("The answer was cut short.", code="incomplete")


def _list_hubs(*, as_json: bool) -> None:
    with ThalovantControlPlane() as api:
        found = list(_hubs(api))
    if as_json:
        _print_json(found)
    elif found:
        _print_table(("HUB", "NAME", "ID", "CARRIERS", "AGENT"), [_row(hub) for hub in found])
    else:
        print("There is no hub yet.")


def _sign_in(api: ThalovantControlPlane, email: str, password: str) -> None:
    try:
        api.login(email, password)
    except ThalovantAuthError as error:
        if error.status_code != 401:
            raise
        raise CommandError(
            f"{error.detail or 'The server does not accept this e-mail and password'}. The administrator's first "
            "password is in the server's data directory, in the file admin-password.",
            code=error.code,
        ) from error


def _authority(root: str, ca: Path | None, fingerprint: str | None) -> str | None:
    """The certificates to trust for the sign-in: those that were named, else those of an earlier login."""
    if ca is not None and fingerprint is not None:
        raise typer.BadParameter("give --ca or --ca-fingerprint, not both")
    if fingerprint is not None:
        return fetch_ca(root, fingerprint, timeout=TIMEOUT)
    return read_ca_file(ca) if ca is not None else find_api(root).ca_pem


def _asked(prompt: str, option: str, *, hidden: bool = False) -> str:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"there is nobody to ask; give {option}")
    try:
        answer = getpass.getpass(prompt) if hidden else input(prompt).strip()
    except EOFError:
        raise KeyboardInterrupt from None
    if not answer:
        raise typer.BadParameter(f"give {option}")
    return answer


def _password(file: Path | None) -> str:
    if file is None:
        return _asked("Password: ", "--password-file", hidden=True)
    try:
        with file.expanduser().open(encoding="utf-8") as stream:
            password = stream.read(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CommandError(f"Unable to read the password file {file}: {reason}.", code="unreadable") from None
    if not password:
        raise CommandError(f"The password file {file} is empty.", code="empty")
    return password


def _protocol(name: str) -> HubProtocol:
    for known in DEFAULT_PROTOCOL_PREFERENCE:
        if name.strip().lower() == known:
            return known
    raise typer.BadParameter(f"{name!r} is no carrier; there are {', '.join(DEFAULT_PROTOCOL_PREFERENCE)}")


def _preferred(wanted: list[HubProtocol]) -> tuple[HubProtocol, ...]:
    return (*wanted, *(one for one in DEFAULT_PROTOCOL_PREFERENCE if one not in wanted))


def _hubs(api: ThalovantControlPlane) -> Iterator[dict[str, Any]]:
    """Every hub, page by page."""
    cursor: str | None = None
    while True:
        page = api.list_hubs(cursor=cursor)
        rows, meta = page.get("data"), page.get("meta")
        yield from (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
        following = meta.get("next") if isinstance(meta, dict) else None
        if not isinstance(following, str) or following == cursor:
            return
        cursor = following


def _hub(api: ThalovantControlPlane, wanted: str | None) -> dict[str, Any]:
    """The hub with that id or slug; the only one when none is named."""
    found = list(_hubs(api))
    if wanted is None and len(found) == 1:
        return found[0]
    names = ", ".join(str(hub.get("slug") or hub.get("id")) for hub in found) or "none yet"
    if wanted is None:
        raise CommandError(f"Say which hub; there are: {names}.", code="which_hub")
    for key in ("id", "slug"):
        for hub in found:
            if hub.get(key) == wanted:
                return hub
    raise CommandError(f"There is no hub {wanted!r}; there are: {names}.", code="unknown_hub")


def _undo(api: ThalovantControlPlane, result: BootstrapIdentityResult) -> None:
    """Delete a client whose identity nobody holds; the error that follows matters more than a failure here."""
    try:
        if result.client_id:
            api.delete_client(result.client_id)
    except ThalovantAPIError:
        print(f"The client {result.client_id} was left behind.", file=sys.stderr)


def _usable(result: BootstrapIdentityResult) -> list[str]:
    identity = result.identity
    enabled = identity.enabled_protocols()
    return [one for one in enabled if one != "mqtt" or identity.mqtt is not None]


def _identity(named: Path | None) -> ThalovantIdentity:
    """The identity that was named, else THALOVANT_IDENTITY, else the only one here, else the configuration's."""
    if named is not None:
        return ThalovantIdentity.from_file(named)
    if variable := os.environ.get("THALOVANT_IDENTITY", "").strip():
        return ThalovantIdentity.from_file(variable)
    here = sorted(Path.cwd().glob(f"*{SUFFIX}"))
    if len(here) == 1:
        return ThalovantIdentity.from_file(here[0])
    if here:
        names = ", ".join(path.name for path in here)
        raise CommandError(f"Say which identity with --identity; here are: {names}.", code="which_identity")
    return _configured_identity()


def _configured_identity() -> ThalovantIdentity:
    try:
        return ThalovantIdentity.from_config()
    except ThalovantIdentityError as error:
        raise CommandError(
            f"Found no identity. Looked at: --identity (not given); THALOVANT_IDENTITY (not set); *{SUFFIX} in "
            f"{Path.cwd()} (none); {_said_of_config(error)}. Type: {_to_an_identity()}",
            code="no_identity",
        ) from error


def _said_of_config(error: ThalovantIdentityError) -> str:
    path = default_config_path()
    if not path.exists():
        return f"{path} (no such file)"
    missing = str(error).startswith("Missing required identity field")
    return (
        f"{path} (holds {'a login' if _login() else 'settings'} but no identity)" if missing else str(error).rstrip(".")
    )


def _to_an_identity() -> str:
    create = "thalovant identity create --name NAME"
    if _login() or os.environ.get("THALOVANT_API_TOKEN"):
        return create
    return f"thalovant login {LOCAL_URL} --ca DIR/ca.pem (DIR: the server's data directory), then {create}"


def _login() -> Login | None:
    """The login that is kept; a configuration that cannot be read is told of elsewhere."""
    try:
        return read_login()
    except ThalovantConfigError:
        return None


def _row(hub: dict[str, Any]) -> tuple[str, ...]:
    spec = hub.get("spec")
    agent = spec.get("agent") if isinstance(spec, dict) else None
    carriers = ",".join(HubProtocolSettings.from_mapping(hub).enabled_protocols())
    return str(hub.get("slug") or ""), hub_display_name(hub), str(hub.get("id")), carriers, str(agent or "(default)")


def _print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    printable = [tuple(_shown(cell) for cell in row) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*printable, strict=True)]
    for row in printable:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _shown(text: str) -> str:
    """What a server sends must not steer the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
