"""`mirror pin`: keeps the weights of models, whatever retention and the quota say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..model import format_time
from .options import GlobalOptions, open_mirror, pass_globals, settings_of
from .render import print_json, shown, table

if TYPE_CHECKING:
    from ..config import Settings

_HEADER = ("NAME", "PINNED", "ID")


@click.command(short_help="Keep models' weights from retention and the quota.")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--remove", is_flag=True, help="Take the pins of these models away.")
@click.option("--list", "listing", is_flag=True, help="Show the pinned models.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def command(options: GlobalOptions, models: tuple[str, ...], *, remove: bool, listing: bool, as_json: bool) -> None:
    """Pin MODELs, by name or id: their weights stay, superseded ones included.

    Neither [retention] nor store.quota takes what is pinned. A pin keeps what is here and fetches nothing. It works
    beside a running sync.
    """

    if wrong := _misuse(models, remove=remove, listing=listing):
        raise click.UsageError(wrong)
    settings = settings_of(options).settings
    if listing:
        _list(settings, as_json=as_json)
    else:
        _change(options, settings, models, remove=remove, as_json=as_json)


def _misuse(models: tuple[str, ...], *, remove: bool, listing: bool) -> str | None:
    if listing and remove:
        return "--list shows pins and --remove takes them away: give one of them."
    if listing and models:
        return "--list shows every pinned model and takes no names."
    if listing or models:
        return None
    return "Name the models whose pins are to go." if remove else "Name models to pin, or give --list."


def _list(settings: Settings, *, as_json: bool) -> None:
    from ..upkeep.pins import pinned

    found = pinned(settings)
    if as_json:
        keys = [{"id": each.model_id, "name": each.name, "pinned_at": format_time(each.pinned_at)} for each in found]
        print_json({"pins": keys})
    elif found:
        rows = [(shown(each.name, 40), format_time(each.pinned_at) or "-", shown(each.model_id)) for each in found]
        click.echo("\n".join(table(_HEADER, rows)))
    else:
        click.echo("no model is pinned", err=True)


def _change(
    options: GlobalOptions, settings: Settings, models: tuple[str, ...], *, remove: bool, as_json: bool
) -> None:
    from ..sync.stop import Stop
    from ..upkeep.pins import pin, unpin

    with open_mirror(options) as mirror:
        found = {each.id: each.name for each in map(mirror.models.get, models)}
    changed = (unpin if remove else pin)(settings, list(found), Stop().wait)
    for model_id, name in found.items():
        was = "" if model_id in changed else ("was not " if remove else "was already ")
        done = "unpinned" if remove and not was else "pinned"
        click.echo(f"{was}{done}: {shown(name, 60)} (id {shown(model_id)})", err=True)
    if as_json:
        print_json({("unpinned" if remove else "pinned"): list(found), "changed": changed})
