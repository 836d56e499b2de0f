"""How verbs print: JSON on standard output, tables for people, and untrusted text made safe for a terminal."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import click

from ..model import json_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..lookup import Weights
    from ..model import Model

_JOINERS = "\u200c\u200d"  # used in emoji and several scripts, and harmless on a terminal


def model_json(model: Model) -> dict[str, Any]:
    """The upstream's own object, plus the key "mirror"."""
    return {**model.document, "mirror": None if model.mirror is None else model.mirror.as_json()}


def weights_json(found: Weights) -> dict[str, object]:
    """The JSON facts about weights, without their path."""
    return {
        "md5": found.entry.md5,
        "sha256": found.entry.sha256,
        "size": found.entry.size,
        "id": found.model.id,
        "name": found.model.name,
        "status": str(found.model.status),
    }


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Prints one JSON value on standard output."""
    click.echo(json_bytes(value, indent=indent))


def note(text: str) -> None:
    """Prints a note for people on standard error, which keeps it out of the data."""
    click.echo(f"note: {text}", err=True)


def shown(text: object, width: int | None = None) -> str:
    r"""Makes untrusted text safe to print: a name must not move the cursor, reverse the line or fill the screen.

    Escapes control and format characters (`\n`, `\x1b`, `\u202e`), and cuts the text to `width` columns.
    """
    safe = "".join(one if one.isprintable() or one in _JOINERS else repr(one)[1:-1] for one in str(text))
    if width is None or columns(safe) <= width:
        return safe
    kept, used = "", 1
    for one in safe:
        used += columns(one)
        if used > width:
            break
        kept += one
    return f"{kept}…"


def printable(text: str) -> str:
    """Replaces the control and format characters in untrusted text."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def columns(text: str) -> int:
    """The width of `text` on a terminal, in columns."""
    return sum(_width(one) for one in text)


def _width(character: str) -> int:
    if unicodedata.combining(character) or character in _JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """The lines of a table with aligned columns. `right` has the numbers of the columns to align right."""
    lines = [header, *rows]
    widths = [max(columns(line[place]) for line in lines) for place in range(len(header))]
    to_right = frozenset(right)
    return ["  ".join(_cells(line, widths, to_right)).rstrip() for line in lines]


def _cells(line: Sequence[str], widths: Sequence[int], to_right: frozenset[int]) -> list[str]:
    cells = []
    for place, (text, width) in enumerate(zip(line, widths, strict=True)):
        gap = " " * (width - columns(text))
        cells.append(gap + text if place in to_right else text + gap)
    return cells
