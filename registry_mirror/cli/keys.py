"""`mirror keys`: manages the keys of clients that may read from `mirror serve`."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from ..errors import ConfigurationError
from ..model import format_time, utc_now
from ..units import parse_duration
from .options import GlobalOptions, pass_globals, settings_of
from .render import print_json, table

if TYPE_CHECKING:
    from pathlib import Path

    from ..server.auth import ClientKey

_LONGEST = 100 * 366 * 86_400


@click.group(short_help="Make, list and revoke keys for clients of the server.")
def command() -> None:
    """Make, list and revoke the keys that clients of `mirror serve` send as X-API-Key.

    A running server takes a change at once. As soon as there is a key, every client needs one.
    """


@command.command()
@click.argument("name")
@click.option("--expires", metavar="DURATION", help='How long it is good for, such as "90d". For ever by default.')
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_globals
def add(options: GlobalOptions, *, name: str, expires: str | None, as_json: bool) -> None:
    """Make a key for the client NAME and print it, once: only its digest is kept."""
    from ..server import auth as keys

    keys.check_name(name)
    now = utc_now().replace(microsecond=0)
    ends = None if expires is None else now + timedelta(seconds=_duration(expires))
    secret = keys.new_key()
    made = keys.ClientKey(name, keys.digest_of(secret), now, ends)

    def edit(present: tuple[ClientKey, ...]) -> tuple[ClientKey, ...]:
        if any(each.name == name for each in present):
            raise ConfigurationError(
                f"there is a key {name!r} already", hint=f"revoke it first with `mirror keys revoke {name}`"
            )
        return (*present, made)

    path = _path(options)
    keys.change(path, edit)
    _note_if_open(path)
    if as_json:
        print_json({"key": secret, **_row(made)})
    else:
        click.echo(secret)
        click.echo(f"this is the key of {name}; it is shown once and only its digest is kept", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_globals
def list_keys(options: GlobalOptions, *, as_json: bool) -> None:
    """List the names of the keys, when each was made and when it ends."""
    from ..server import auth as keys

    rows = [_row(each) for each in keys.read(_path(options))]
    if as_json:
        print_json({"keys": rows})
        return
    cells = [[str(row["name"]), str(row["created_at"] or "-"), _end(row)] for row in rows]
    for line in table(["NAME", "MADE", "ENDS"], cells) if cells else ["no keys; make one with `mirror keys add NAME`"]:
        click.echo(line)


@command.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_globals
def revoke(options: GlobalOptions, *, name: str, as_json: bool) -> None:
    """Revoke the key NAME. A running server refuses it from the next request on, and its download addresses too."""
    from ..server import auth as keys

    def edit(present: tuple[ClientKey, ...]) -> tuple[ClientKey, ...]:
        left = tuple(each for each in present if each.name != name)
        if len(left) == len(present):
            known = ", ".join(each.name for each in present) or "there are none"
            raise ConfigurationError(f"there is no key {name!r}", hint=f"keys: {known}")
        return left

    path = _path(options)
    keys.change(path, edit)
    if as_json:
        print_json({"revoked": name})
    else:
        click.echo(f"revoked {name}", err=True)
        if not keys.read(path):
            click.echo(f"nobody has a key now, and one is still asked for until {path} is removed", err=True)


def _path(options: GlobalOptions) -> Path:
    from ..store.layout import Layout

    settings = settings_of(options).settings
    named = settings.serve.keys_file
    layout = Layout(settings.root)
    path = named or layout.keys
    if not path.parent.is_dir():
        what = f"{path.parent} is not a folder" if path.parent.exists() else f"there is no folder {path.parent}"
        hint = "run `mirror sync` first, or name it with --root"
        raise ConfigurationError(what, hint=hint if named is None else "make it, or name another as serve.keys_file")
    if named is None and not any(map(os.path.exists, (layout.format_file, layout.index, layout.keys))):
        raise ConfigurationError(
            f"{layout.root} is no mirror root, so a key in it would open nothing",
            hint="run `mirror sync` first, or name the mirror's folder with --root",
        )
    return path


def _note_if_open(path: Path) -> None:
    """Prints a note if other accounts may read the digests, because the permissions were changed or do not exist."""
    if path.stat().st_mode & 0o077:
        click.echo(
            f"others may read {path}, as its file system or its mount has it; name a private file as serve.keys_file",
            err=True,
        )


def _duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"--expires: {error}") from error
    if seconds <= 0:
        raise ConfigurationError(f"--expires: a key that ends after {text!r} is never good", hint='write it like "90d"')
    if seconds > _LONGEST:
        raise ConfigurationError(f"--expires: {text!r} is more than 100 years", hint="leave it out for a key for ever")
    return seconds


def _row(key: ClientKey) -> dict[str, object]:
    return {
        "name": key.name,
        "created_at": format_time(key.created_at),
        "expires_at": format_time(key.expires_at),
        "expired": not key.valid(utc_now()),
    }


def _end(row: dict[str, object]) -> str:
    if row["expires_at"] is None:
        return "never"
    return f"{row['expires_at']}{' (ended)' if row['expired'] else ''}"
