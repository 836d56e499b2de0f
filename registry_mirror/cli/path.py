"""`mirror path`: prints where a model's weights are."""

from __future__ import annotations

import os

import click

from ..explain import remarks
from .options import GlobalOptions, open_mirror, pass_globals
from .render import note, print_json, weights_json


@click.command(short_help="Print the path of a model's weights.")
@click.argument("model")
@click.option(
    "--format", "weights_format", default="onnx", show_default=True, metavar="F", help="Format of the weights."
)
@click.option("--version", metavar="V", help="A version that the mirror still holds. The current one by default.")
@click.option("--md5", metavar="M", help="The weights with this MD5, current or superseded.")
@click.option("--verify", is_flag=True, help="Hash the file first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def command(
    options: GlobalOptions,
    *,
    model: str,
    weights_format: str,
    version: str | None,
    md5: str | None,
    verify: bool,
    as_json: bool,
) -> None:
    """Print the absolute path of a model's weights, and nothing else.

    MODEL is a name or an id. Nothing is asked of the upstream. The file is the store's own and read-only:
    `mirror download` makes a copy of your own.
    """
    with open_mirror(options) as mirror:
        found = mirror.models.weights(model, format=weights_format, version=version, md5=md5, verify=verify)
    if as_json:
        print_json({"path": str(found.path), **weights_json(found)})
    else:
        click.echo(os.fsencode(found.path))  # the path's own bytes, whatever the locale
    for remark in remarks(found.model, found.entry):
        note(remark)
