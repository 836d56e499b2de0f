"""What an answer of storage is: the rest that was asked for, the whole object, or neither (RFC 9110, 14 and 15). Pure.

A wrong rest joined to a right beginning, or a part that passes for the whole, would poison a download without a digest
that says so. So what an answer says of its bytes decides, and its status alone never does: some storages send a part
with 200, and the whole with 206.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .answers import TRANSIENT
from .declared import object_digests
from .inflate import codings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .declared import Declared

_SPAN = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_GIVEN = frozenset({200, 203, 206})
"""Statuses of an answer that carries the object or a part of it."""

_TOTAL = re.compile(r"bytes \*/(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Rest:
    """What is wanted: the object of these headers from byte `start` on, up to the one before `end` or to its last."""

    start: int
    of: Declared
    end: int | None = None

    def headers(self) -> dict[str, str]:
        """Those of the request."""
        asked = {"Range": f"bytes={self.start}-{'' if self.end is None else self.end - 1}"}
        if self.of.condition is not None:
            asked["If-Range"] = self.of.condition
        return asked


class Fit(Enum):
    """What an answer to a request for an object is."""

    REST = "rest"
    """Just the part that was asked for."""
    WHOLE = "whole"
    """The object from its first byte on."""
    COMPLETE = "complete"
    """There is no rest: every byte is here."""
    MISFIT = "misfit"
    """Something that must not be joined to what is here, nor be taken for the whole."""
    REFUSED = "refused"
    """An error that may be about the range alone: the whole may be had."""
    OTHER = "other"
    """An error, as any request may meet."""


def judge_whole(status: int, headers: Mapping[str, str]) -> tuple[Fit, str]:
    """The verdict on an answer to a request for the whole object, and its reason. Keys of the headers in lower case."""
    if status not in _GIVEN:
        return Fit.OTHER, f"HTTP {status}"
    given, length = headers.get("content-range", "").strip(), headers.get("content-length", "")
    if not given:
        cut = status == 206
        return (Fit.MISFIT, "an unknown part of the object came") if cut else (Fit.WHOLE, "the whole object came")
    said = _SPAN.fullmatch(given)
    if said is not None:
        first, last, total = (int(number) for number in said.groups())
        if first == 0 and last + 1 == total and length in ("", str(total)):
            return Fit.WHOLE, "the whole object came"
    return Fit.MISFIT, f"the whole object was asked for, and {given[:80]!r} came"


def judge_rest(rest: Rest, status: int, headers: Mapping[str, str]) -> tuple[Fit, str]:
    """The verdict on an answer to a request for a rest, and its reason. Keys of the headers in lower case."""
    if status == 416:
        return _judge_no_rest(rest, headers)
    if status not in _GIVEN:
        return Fit.OTHER if status in TRANSIENT else Fit.REFUSED, f"HTTP {status}"
    if status == 206 or headers.get("content-range", "").strip():
        reason = _wrong_span(rest, headers) or _another_object(rest.of, headers)
        return (Fit.MISFIT, reason) if reason else (Fit.REST, "the rest came")
    return _judge_whole_instead(rest, headers)


def _judge_whole_instead(rest: Rest, headers: Mapping[str, str]) -> tuple[Fit, str]:
    """A success that names no range. Only its length tells the whole from a part: where it does not, it is not read."""
    length = headers.get("content-length", "")
    if codings(headers.get("content-encoding", "")):
        return Fit.MISFIT, "a compressed answer came"
    if rest.of.size is not None and length == str(rest.of.size):
        return Fit.WHOLE, "the whole object came"
    return Fit.MISFIT, f"{length or 'an unknown number of'} bytes came, which may be a part of the object"


def _judge_no_rest(rest: Rest, headers: Mapping[str, str]) -> tuple[Fit, str]:
    """416. Only with a condition does it say that the object is still the same: else it would be the whole one."""
    said = _TOTAL.fullmatch(headers.get("content-range", "").strip())
    total = int(said[1]) if said else None
    if rest.of.condition is not None and total == rest.start == rest.of.size:
        return Fit.COMPLETE, "every byte is here"
    return Fit.MISFIT, f"storage has no byte {rest.start}"


def _wrong_span(rest: Rest, headers: Mapping[str, str]) -> str | None:
    given = headers.get("content-range", "").strip()
    said = _SPAN.fullmatch(given)
    if said is None:
        return "the partial answer does not say which bytes it has"
    first, last, total = (int(number) for number in said.groups())
    length = headers.get("content-length", "")
    if first != rest.start or last + 1 != (rest.end or total) or not first <= last < total:
        until = "on" if rest.end is None else f"to {rest.end - 1}"
        return f"bytes from {rest.start} {until} were asked for, and {first}-{last} of {total} came"
    if rest.of.size is not None and total != rest.of.size:
        return f"the object had {rest.of.size} bytes, and has {total}"
    if length.isdecimal() and int(length) != last + 1 - first:
        return f"{last + 1 - first} bytes are left, and Content-Length says {length}"
    return None


def _another_object(of: Declared, headers: Mapping[str, str]) -> str | None:
    """Why a part is of another content than what is here. An equal validator proves nothing against other evidence."""
    if codings(headers.get("content-encoding", "")):
        return "the partial answer is compressed"
    digests, etag = object_digests(headers), headers.get("etag", "").strip()
    for name, before in of.digests.items():
        if digests.get(name, before) != before:
            return f"the object's {name.upper()} was {before}, and is {digests[name]}"
    if of.validator is not None and etag and etag != of.validator:
        return "the object's ETag has changed"
    if any(digests.get(name) for name in of.digests):
        return None
    if _differs(of.generation, headers.get("x-goog-generation")):
        return "the object's generation has changed"
    modified = headers.get("last-modified", "").strip()
    if _differs(of.modified, modified):
        return "the object has been modified"
    # That storage heeds If-Range is not believed either: a part repeats what the condition was made of.
    if not of.digests and not (etag if of.validator is not None else modified):
        return "the partial answer does not say of which object it is"
    return None


def _differs(before: str | None, now: str | None) -> bool:
    return bool(before and now and before != now)
