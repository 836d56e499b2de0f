"""`mirror download`: copies a model's weights from the cache to a file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, cast

import click

from ..errors import ConflictError, IntegrityError, NoIndexError, NotFoundError
from ..explain import remarks
from ..units import format_size
from .options import GlobalOptions, open_mirror, pass_globals, settings_and_key
from .render import note, print_json, shown, weights_json

if TYPE_CHECKING:
    from ..explain import Wish
    from ..lookup import Weights
    from ..mirror import Mirror

_DONE = {"copy": "copied", "reflink": "copied (blocks shared)", "hard link": "hard-linked", "symbolic link": "linked"}


def _output(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value == "-":
        raise click.BadParameter("weights are not written to standard output; name a file")
    return value


@click.command(short_help="Copy a model's weights to a file.")
@click.argument("model")
@click.option(
    "-o", "--output", required=True, metavar="FILE", callback=_output, help="The file to write; an old one is replaced."
)
@click.option(
    "--format", "weights_format", default="onnx", show_default=True, metavar="F", help="Format of the weights."
)
@click.option("--version", metavar="V", help="A version that the mirror still holds. The current one by default.")
@click.option("--md5", metavar="M", help="The weights with this MD5, current or superseded.")
@click.option(
    "--link", type=click.Choice(["hard", "symbolic"]), help="Make a link to the store's file instead of a copy."
)
@click.option("--verify", is_flag=True, help="Hash the store's file first.")
@click.option("--fetch", is_flag=True, help="Ask the upstream when the weights are not in the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def command(
    options: GlobalOptions,
    *,
    model: str,
    output: str,
    weights_format: str,
    version: str | None,
    md5: str | None,
    link: str | None,
    verify: bool,
    fetch: bool,
    as_json: bool,
) -> None:
    """Copy a model's weights from the cache to FILE.

    MODEL is a name or an id. The copy shares blocks with the store where the file system can. A link is to a file
    that other tools read too: it is read-only and must stay as it is.
    """
    from ..explain import Wish
    from ..store.deliver import deliver, output_file

    target = output_file(output)
    wish = Wish(weights_format, version, md5)
    with open_mirror(options) as mirror:
        found = _find(options, mirror, model, wish, verify=verify, fetch=fetch)
    way = deliver(found.path, target, link=cast("Literal['hard', 'symbolic'] | None", link))
    if as_json:
        print_json({"output": str(target.absolute()), "how": way, **weights_json(found)})
    else:
        size = format_size(found.entry.size)
        name, where = shown(found.model.name, 60), shown(target)
        click.echo(f"{name}: {size} {_DONE[way]} to {where} (md5 {found.entry.md5})", err=True)
    for remark in remarks(found.model, found.entry):
        note(remark)


def _find(options: GlobalOptions, mirror: Mirror, model: str, wish: Wish, *, verify: bool, fetch: bool) -> Weights:
    """Finds the cached weights. With `fetch`, asks the upstream once for weights that are missing or damaged."""

    def look(*, verify: bool = verify) -> Weights:
        return mirror.models.weights(model, format=wish.format, version=wish.version, md5=wish.md5, verify=verify)

    damaged = None
    try:
        return look()
    except (NotFoundError, ConflictError, NoIndexError):
        if not fetch:
            raise
    except IntegrityError:
        if not fetch:
            raise
        with contextlib.suppress(IntegrityError):  # raised if the file is missing or has another length
            damaged = look(verify=False).entry.md5
    _fetch(options, model, wish.format, damaged)
    return look()


def _fetch(options: GlobalOptions, model: str, weights_format: str, damaged: str | None) -> None:
    from ..sync.single import fetch_model
    from ..sync.stop import Stop
    from .progress import PlainReporter

    settings, key = settings_and_key(options)
    fetch_model(settings, key, model, weights_format, PlainReporter(), Stop(), damaged=damaged)
