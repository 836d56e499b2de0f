"""`mirror list`: the models of the mirror, from the index."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from ..explain import quoted
from ..model import ModelStatus, format_time, json_bytes
from ..streams import reader_gone
from ..units import format_size
from .options import GlobalOptions, open_mirror, pass_globals
from .render import model_json, note, shown, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..model import Model

_HEADER = ("NAME", "STATUS", "TYPE", "SIZE", "CACHED", "UPDATED", "ID")
_SIZE_COLUMN = 3
_NAME_WIDTH, _WORD_WIDTH = 40, 24


@click.command(short_help="List the models of the mirror.")
@click.option("--status", metavar="S", help="Only models in this state: ready, training, failed, archived, ...")
@click.option("--type", "model_type", metavar="T", help="Only models of this type, e.g. object_detection.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N models. All of them by default.")
@click.option("--all", "everything", is_flag=True, help="Archived models too, and those gone from the upstream.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def command(
    options: GlobalOptions,
    *,
    status: str | None,
    model_type: str | None,
    limit: int | None,
    everything: bool,
    as_json: bool,
) -> None:
    """List the models of the mirror, the newest first.

    Archived models are hidden unless --status archived or --all asks for them. Nothing is asked of the upstream.
    """
    with open_mirror(options) as mirror:
        models = mirror.models.iter(
            status=status, model_type=model_type, include_archived=everything, include_gone=everything
        )
        found = models if limit is None else islice(models, limit)
        if as_json:
            _print_json(found)
        else:
            filtered = status is not None or model_type is not None
            _print_table(found, absent=_absent(status, filtered=filtered, everything=everything))


def _print_json(models: Iterable[Model]) -> None:
    """Prints one model per line as it is read, because a large mirror may not fit into memory."""
    first = next(iterator := iter(models), None)
    click.echo(b'{"models": [', nl=False)
    if first is not None:
        for place, chunk in enumerate(_chunks(first, iterator)):
            click.echo(b"".join((b"\n" if place == 0 else b",\n", chunk)), nl=False)
            if reader_gone():
                return
    click.echo(b"\n]}" if first is not None else b"]}")


def _chunks(first: Model, rest: Iterator[Model], size: int = 200) -> Iterator[bytes]:
    batch = [first]
    while batch:
        yield b",\n".join(json_bytes(model_json(model)) for model in batch)
        batch = list(islice(rest, size))


def _absent(status: str | None, *, filtered: bool, everything: bool) -> str:
    """The message for an empty list. A status that this version does not know is not refused: it may be new."""
    if status is not None and status not in set(ModelStatus):
        return f"no models of status {quoted(status)}; the known ones are {', '.join(ModelStatus)}"
    hint = "" if everything else "; --all shows archived and gone ones too"
    return f"no {'such ' if filtered else ''}models{hint}"


def _print_table(models: Iterable[Model], *, absent: str) -> None:
    rows = [_row(model) for model in models]
    if not rows:
        note(absent)
        return
    click.echo("\n".join(table(_HEADER, rows, right={_SIZE_COLUMN})))


def _row(model: Model) -> tuple[str, ...]:
    info = model.mirror
    assert info is not None  # noqa: S101 - a model of a Mirror has it
    return (
        shown(model.name, _NAME_WIDTH),
        "gone" if info.gone_at else shown(model.status, _WORD_WIDTH),
        shown(model.model_type or "-", _WORD_WIDTH),
        "-" if info.size is None else format_size(info.size),
        "yes" if info.cached else "no",
        format_time(model.updated_at) or "-",
        shown(model.id),
    )
