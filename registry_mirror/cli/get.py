"""`mirror get`: one model's document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..explain import remarks
from ..model import format_time
from ..units import format_size
from .options import GlobalOptions, open_mirror, pass_globals
from .render import model_json, note, print_json, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..model import Model

_LONGEST_VALUE = 200
_MOST_CLASSES = 30


@click.command(short_help="Show one model.")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help='Print the upstream\'s own object, plus the key "mirror".')
@pass_globals
def command(options: GlobalOptions, *, model: str, as_json: bool) -> None:
    """Show one model, by name or id.

    An id wins over a name. Of several models with one name, a live one wins over an archived or gone one.
    """
    with open_mirror(options) as mirror:
        found = mirror.models.get(model)
    if as_json:
        print_json(model_json(found))
    else:
        click.echo("\n".join(_card(found)))
    for remark in remarks(found):
        note(remark)


def _card(model: Model) -> Iterator[str]:
    facts = {
        "id": model.id,
        "status": model.status,
        "type": model.model_type,
        "architecture": model.architecture,
        "version": model.version,
        "precision": model.precision,
        "visibility": model.visibility,
        "description": model.description,
        "created": format_time(model.created_at),
        "updated": format_time(model.updated_at),
    }
    yield shown(model.name, _LONGEST_VALUE)
    yield from _lines(facts)
    yield from _section("metrics", model.metrics or {})
    if model.classes:
        listed = ", ".join(shown(name, 40) for name in model.classes[:_MOST_CLASSES])
        more = len(model.classes) - _MOST_CLASSES
        yield f"classes ({len(model.classes)})"
        yield f"  {listed}" + (f" and {more} more" if more > 0 else "")
    yield from _section("mirror", _mirror_facts(model))


def _mirror_facts(model: Model) -> dict[str, object]:
    info = model.mirror
    assert info is not None  # noqa: S101 - a model of a Mirror has it
    return {
        "cached": "yes" if info.cached else "no",
        "path": info.path,
        "size": None if info.size is None else format_size(info.size),
        "md5": info.md5,
        "sha256": info.sha256,
        "fetched": format_time(info.fetched_at),
        "first seen": format_time(info.first_seen),
        "gone since": format_time(info.gone_at),
    }


def _section(title: str, facts: Mapping[str, object]) -> Iterator[str]:
    if facts:
        yield title
        yield from _lines(facts)


def _lines(facts: Mapping[str, object]) -> Iterator[str]:
    known = {shown(key, 30): value for key, value in facts.items() if value not in (None, "")}
    width = max(map(len, known), default=0)
    for key, value in known.items():
        # A path is for copying: cutting it would make it useless.
        yield f"  {key:<{width}}  {shown(value, None if key == 'path' else _LONGEST_VALUE)}"
