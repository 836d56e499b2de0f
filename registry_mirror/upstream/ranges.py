"""Going on with a body that was cut: what to ask for, and what the answer is worth (RFC 9110, 14 and 15.3.7). Pure.

A wrong rest joined to a right beginning is the one way in which a resumed download can be poisoned without a digest
that says so. So an answer counts as the rest only when everything that it says of itself fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .declared import md5_of_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .declared import Declared

_SPAN = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
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
    """What an answer to a request for a rest is."""

    REST = "rest"
    """Just what was asked for."""
    WHOLE = "whole"
    """The object from its first byte on: it has changed, or storage knows no ranges."""
    COMPLETE = "complete"
    """There is no rest: every byte is here."""
    MISFIT = "misfit"
    """Something that must not be joined to what is here."""
    OTHER = "other"
    """No answer to the question: an error, as any request may meet."""


def judge_rest(rest: Rest, status: int, headers: Mapping[str, str]) -> tuple[Fit, str]:
    """The verdict on an answer, and its reason. Keys of the headers in lower case."""
    if status == 200:
        return Fit.WHOLE, "the whole object came"
    if status == 416:
        return _judge_no_rest(rest, headers)
    if status != 206:
        return Fit.OTHER, f"HTTP {status}"
    reason = _wrong_span(rest, headers) or _another_object(rest.of, headers)
    return (Fit.MISFIT, reason) if reason else (Fit.REST, "the rest came")


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
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        return "the partial answer is compressed"
    md5, etag = md5_of_object(headers), headers.get("etag", "").strip()
    if md5 and of.md5 and md5 != of.md5:
        return f"the object's MD5 was {of.md5}, and is {md5}"
    if of.validator is None:
        return _another_date(of, headers)
    if etag == of.validator or (not etag and of.md5 is not None):
        return None
    return "the object's ETag has changed" if etag else "the partial answer does not say of which object it is"


def _another_date(of: Declared, headers: Mapping[str, str]) -> str | None:
    modified = headers.get("last-modified", "").strip()
    if of.modified and modified and modified != of.modified:
        return "the object has been modified"
    return None
