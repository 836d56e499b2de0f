"""The parts of a JSON text as they stand in it, for bodies that only the lenient standard library reads. Pure.

A document is kept as it was sent, also when it shares a page with one that has a NaN in it. Every function takes a text
that `json.loads` has read before, so none checks it again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_decoder = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def members(text: str) -> dict[str, str]:
    """The values of an object by their keys, each in its own spelling; of a key that came twice the last one counts."""
    found = {}
    place = _after(text, text.index("{") + 1)
    while text[place] != "}":
        key, place = _decoder.raw_decode(text, place)
        start = _after(text, _after(text, place) + 1)  # past the colon
        _, end = _decoder.raw_decode(text, start)
        found[key] = text[start:end]
        place = _next(text, end)
    return found


def elements(text: str) -> Iterator[str]:
    """The elements of an array, each in its own spelling."""
    place = _after(text, text.index("[") + 1)
    while text[place] != "]":
        _, end = _decoder.raw_decode(text, place)
        yield text[place:end]
        place = _next(text, end)


def _next(text: str, end: int) -> int:
    """Where the next part begins, or the bracket that closes them."""
    place = _after(text, end)
    return _after(text, place + 1) if text[place] == "," else place


def _after(text: str, place: int) -> int:
    """The first place from here on that is no white space."""
    found = _SPACE.match(text, place)
    return found.end() if found else place
