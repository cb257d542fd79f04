# SPDX-License-Identifier: Apache-2.0
"""`thalovant config`: look at the configuration and keep identities in it, one a profile.

Secrets are shown by `show --show-secrets`, `get --show-secrets` and `env` only, and never taken as arguments: others
can read those.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from thalovant.cli.errors import CommandError
from thalovant.cli.identity import chosen_identity
from thalovant.cli.options import AsJson, ConfigFile, IdentityFile, Profile, ProfileName, config_path
from thalovant.cli.output import (
    examples,
    help_without_a_command,
    hint,
    is_for_people,
    json_line,
    print_json,
    print_table,
    say,
)
from thalovant.config import read_login
from thalovant.errors import ThalovantIdentityError
from thalovant.identity import ThalovantIdentity
from thalovant.identity_settings import change_setting, settings
from thalovant.noise_state import noise_key_file, take_key_to_variables
from thalovant.profiles import read_profiles, remove_profile, use_profile
from thalovant.yaml_text import dumped

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)

ShowSecrets = Annotated[bool, typer.Option("--show-secrets", help="Show keys, passwords and the token, too.")]
Key = Annotated[str, typer.Argument(help="Which setting, like site_id or mqtt.qos.", metavar="KEY")]


@app.callback(
    epilog=examples(
        "thalovant config add kitchen --identity kitchen-light.identity.json",
        "thalovant config use kitchen",
        "thalovant ask hello --profile kitchen",
        'eval "$(thalovant config env --export)"',
    )
)
def config_group(context: typer.Context) -> None:
    """Keep identities, one a profile."""
    help_without_a_command(context)


@app.command()
def path(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print where the configuration is."""
    target = config_path(config)
    if as_json:
        print_json({"path": str(target), "exists": target.exists()})
    else:
        say(str(target))


@app.command("list")
def list_profiles(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the profiles; the one in use has a star."""
    target = config_path(config)
    found = read_profiles(target)
    rows = [_summary(name, values, name == found.in_use) for name, values in found.identities.items()]
    if as_json:
        print_json({"path": str(target), "in_use": found.in_use, "profiles": rows})
    elif rows:
        print_table(("", "PROFILE", "SITE", "HUB", "CARRIERS"), [_row(one) for one in rows])
    else:
        say(f"There is no profile in {target} yet. Type: thalovant config add NAME --identity FILE")


@app.command(epilog=examples("thalovant config show", "thalovant config show kitchen --json"))
def show(
    profile: Annotated[str | None, typer.Argument(help="Only this profile.", metavar="PROFILE")] = None,
    config: ConfigFile = None,
    show_secrets: ShowSecrets = False,
    as_json: AsJson = False,
) -> None:
    """Show what is in it, without secrets."""
    target = config_path(config)
    if profile is not None:
        identity = ThalovantIdentity.from_config(target, profile=profile)
        _show(identity.as_dict(include_secrets=show_secrets), as_json=as_json)
        return
    found = read_profiles(target)
    shown = {name: _shown(values, show_secrets=show_secrets) for name, values in found.identities.items()}
    login = _login(target, show_secrets=show_secrets)
    whole = {"path": str(target), "login": login, "in_use": found.in_use, "profiles": shown}
    _show(whole, as_json=as_json)


@app.command()
def use(profile: ProfileName, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Make a profile the one in use."""
    use_profile(config_path(config), profile)
    _done({"in_use": profile}, f"The profile {profile} is in use.", as_json=as_json)


@app.command(
    epilog=examples(
        "thalovant config add kitchen --identity kitchen-light.identity.json",
        "thalovant config add kitchen --from-env --use",
    )
)
def add(
    profile: ProfileName,
    identity: IdentityFile = None,
    from_env: Annotated[bool, typer.Option("--from-env", help="Take the identity of the environment.")] = False,
    use: Annotated[bool | None, typer.Option("--use/--no-use", help="Make it the profile in use.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a profile of that name.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Keep an identity as a profile. The first one is in use at once."""
    if (identity is None) == (not from_env):
        raise typer.BadParameter("say which identity: --identity FILE or --from-env")
    found = ThalovantIdentity.from_file(identity) if identity is not None else ThalovantIdentity.from_env()
    target = config_path(config)
    if not force and profile in read_profiles(target).identities:
        raise CommandError(f"There is a profile {profile!r} already; --force replaces it.", code="exists")
    found.save_to_config(target, profile=profile, overwrite=force, use=use)
    in_use = read_profiles(target).in_use
    said = f"Kept {found.site_id} as the profile {profile} in {target}."
    hint_use = (
        "It is in use." if in_use == profile else f"Type `thalovant config use {shlex.quote(profile)}` to have it used."
    )
    _done({"profile": profile, "path": str(target), "in_use": in_use}, f"{said} {hint_use}", as_json=as_json)


@app.command()
def remove(
    profile: ProfileName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a profile out; nobody can show its secrets again."""
    target = config_path(config)
    found = read_profiles(target)
    if not yes and profile in found.identities:
        _ask_before_removing(profile)
    remove_profile(target, profile)
    rest = " No profile is in use now; type `thalovant config use NAME`." if found.in_use == profile else ""
    _done({"removed": profile}, f"Removed the profile {profile}.{rest}", as_json=as_json)


@app.command(
    epilog=examples(
        'eval "$(thalovant config env --export)"',
        "thalovant config env --profile kitchen > kitchen.env   # EnvironmentFile=, docker run --env-file",
    )
)
def env(
    export: Annotated[bool, typer.Option("--export", help="Put `export` before each line, for eval.")] = False,
    prefix: Annotated[str, typer.Option(help="What each name begins with.")] = "THALOVANT_",
    identity: IdentityFile = None,
    profile: Profile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print environment variables, secrets included."""
    who = chosen_identity(identity, profile, config)
    key = noise_key_file(who)
    if as_json:
        print_json(who.as_env(prefix))
    else:
        typer.echo(who.env_lines(prefix, export=export), nl=False)
    _share_key(who)
    if key:
        hint(
            f"This identity has its key in {key.parent}. Programs on this machine find it; another machine needs that "
            "folder, too, or `thalovant clients reset-key CLIENT`."
        )


def _share_key(who: ThalovantIdentity) -> None:
    """A hub knows a client by its key: what reads the variables on this machine is to have the same one."""
    try:
        take_key_to_variables(who)
    except ThalovantIdentityError as error:  # a home that cannot be written to: the variables serve elsewhere
        hint(str(error))


@app.command(epilog=examples("thalovant config get mqtt.endpoint", "thalovant config get site_id --profile kitchen"))
def get(
    key: Key,
    profile: Profile = None,
    config: ConfigFile = None,
    show_secrets: ShowSecrets = False,
    as_json: AsJson = False,
) -> None:
    """Print one setting of a profile."""
    identity = ThalovantIdentity.from_config(config_path(config), profile=profile)
    found = settings(identity, include_secrets=show_secrets)
    if key not in found:
        hidden = key in settings(identity, include_secrets=True)
        raise CommandError(
            f"{key} is a secret: --show-secrets prints it."
            if hidden
            else f"There is no setting {key!r}; there are: {', '.join(found)}.",
            code="hidden" if hidden else "unknown_setting",
        )
    if as_json:
        print_json({key: found[key]})
    else:
        say(found[key] if isinstance(found[key], str) else json_line(found[key]))


@app.command(
    "set",
    epilog=examples(
        "thalovant config set default_path /hubs/demo --profile kitchen",
        "thalovant config set protocols.mqtt true",
        "thalovant config set ca_pem ca.pem    (the file's content)",
    ),
)
def set_setting(
    key: Key,
    value: Annotated[str, typer.Argument(help="Its new value.", metavar="VALUE")],
    profile: Profile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Change one setting of a profile. Secrets come with `config add` only."""
    name = change_setting(config_path(config), profile, key, value)
    _done({"profile": name, "set": key}, f"Set {key} of the profile {name}.", as_json=as_json)


@app.command()
def unset(key: Key, profile: Profile = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Take one setting out of a profile."""
    name = change_setting(config_path(config), profile, key, None)
    _done({"profile": name, "unset": key}, f"Took {key} out of the profile {name}.", as_json=as_json)


def _summary(name: str, values: object, in_use: bool) -> dict[str, Any]:
    """What a list tells of a profile; one that holds no identity says so in `error`."""
    told: dict[str, Any] = {"name": name, "in_use": in_use, "site_id": None, "hub": None, "carriers": [], "error": None}
    try:
        identity = ThalovantIdentity.from_mapping(values)  # type: ignore[arg-type]
    except ThalovantIdentityError as error:
        return {**told, "error": str(error)}
    shown = identity.as_dict()
    carriers = [one for one in identity.enabled_protocols() if one != "mqtt" or identity.mqtt is not None]
    return {**told, "site_id": identity.site_id, "hub": shown["default_master"], "carriers": carriers}


def _row(told: dict[str, Any]) -> tuple[str, ...]:
    star = "*" if told["in_use"] else ""
    if told["error"]:
        return star, told["name"], "-", f"({told['error']})", "-"
    return star, told["name"], told["site_id"], told["hub"], ",".join(told["carriers"])


def _shown(values: object, *, show_secrets: bool) -> dict[str, Any]:
    try:
        return ThalovantIdentity.from_mapping(values).as_dict(include_secrets=show_secrets)  # type: ignore[arg-type]
    except ThalovantIdentityError as error:
        return {"error": str(error)}


def _login(target: Path, *, show_secrets: bool) -> dict[str, Any] | None:
    login = read_login(target)
    if login is None:
        return None
    hidden = {name: "<present>" for name in ("ca_pem", "access_token") if not show_secrets and getattr(login, name)}
    return {name: value for name, value in {**vars(login), **hidden}.items() if value is not None}


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(values)
    else:
        typer.echo(dumped(values), nl=False)


def _done(told: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(told)
    else:
        say(sentence)


def _ask_before_removing(profile: str) -> None:
    if not is_for_people(sys.stdin):
        raise typer.BadParameter("there is nobody to ask; give --yes")
    if not typer.confirm(f"Remove the profile {profile}? Its secrets cannot be shown again.", err=True):
        raise typer.Abort
