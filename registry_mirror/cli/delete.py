"""`mirror delete`."""

from __future__ import annotations

import contextlib
import sys

import click

from .options import GlobalOptions, pass_globals, settings_and_key
from .render import print_json, printable


@click.command()
@click.argument("model")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@pass_globals
def command(options: GlobalOptions, model: str, *, yes: bool, as_json: bool) -> int:
    """Soft-delete MODEL upstream, by name or id. The weights that are here stay."""
    from ..sync.opening import make_client
    from ..sync.single import follow_delete
    from ..sync.stop import Stop

    settings, key = settings_and_key(options)
    stop = Stop()
    with contextlib.closing(make_client(settings, key, stop.wait)) as client:
        row = client.models.api.find(model, settings.upstream.page_size)
        name = printable(row.name)
        if not yes and not _confirmed(f"{name!r} (id {row.id}, {row.status})"):
            click.echo("nothing was deleted", err=True)
            return 1
        client.models.api.delete(row.id)
    local = follow_delete(settings, key, row, stop)
    click.echo(
        f"deleted {name!r} upstream; {'weights that are here stay' if local else 'it was not mirrored'}", err=True
    )
    if as_json:
        print_json({"id": row.id, "name": row.name, "deleted": True, "mirrored": local}, indent=None)
    return 0


def _confirmed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask on: give --yes to delete without a question.")
    return click.confirm(f"Delete {what} upstream?", err=True)
