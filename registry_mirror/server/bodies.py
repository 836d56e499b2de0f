"""Limits on the memory of response bodies, and the ranges that requests ask for."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


LARGEST_PIECE = 256 << 10
"""Bytes of the largest piece that is sent at once. Larger ones are hardly faster."""
_SMALLEST_PIECE = 16 << 10
_QUEUED = 7
"""Pieces that the server queues for a client that does not read."""
_SLOWLY = 16  # pieces of one size before the size doubles: more than the socket and the queue hold for a client
_PIECES = 32 << 20
_ALL = 128 << 20


class TooManyBodiesError(Exception):
    """Too many bodies are being sent. The client may try again later."""


class Bodies:
    """The bodies that one process is sending."""

    def __init__(self) -> None:
        self._count = self._all = 0
        self._held: dict[str, int] = {}

    @contextlib.contextmanager
    def admit(self, client: str, size: int = 0, *, exempt: bool = False) -> Iterator[None]:
        """Counts a body while it is sent.

        Args:
            client: its address. The bodies of one client may take half of the memory; that does not limit its first.
            size: bytes of the body that are in memory.
            exempt: whether the address stands for many clients and may take all of the memory.

        Raises:
            TooManyBodiesError: the body does not fit.
        """
        cost = size + _QUEUED * _SMALLEST_PIECE
        held = self._held.get(client, 0)
        if (self._all and self._all + cost > _ALL) or (held and not exempt and held + cost > _ALL // 2):
            raise TooManyBodiesError
        self._held[client] = held + cost
        self._all += cost
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._all -= cost
            self._held[client] -= cost
            if not self._held[client]:
                del self._held[client]

    def piece(self, number: int) -> int:
        """Returns the size of the next piece in bytes. It grows with each piece, and shrinks with the number of bodies.

        So a client that does not read holds small pieces only, and one that reads soon gets large ones.

        Args:
            number: how many pieces of this body were sent.
        """
        largest = min(max(_PIECES // (_QUEUED * max(self._count, 1)), _SMALLEST_PIECE), LARGEST_PIECE)
        return min(_SMALLEST_PIECE << min(number // _SLOWLY, 4), largest)


_PLACE = re.compile(r"[0-9]{0,19}")
_LONGEST = 100
"""Characters of the longest range or date. A longer header is ignored."""


@dataclass(frozen=True, slots=True)
class RangeVerdict:
    """The status of an answer, and the bytes that it carries: from `start` up to, but without, `stop`."""

    status: int
    start: int = 0
    stop: int = 0

    @property
    def length(self) -> int:
        return self.stop - self.start


def range_verdict(headers: Mapping[str, str], etag: str, modified: float, size: int) -> RangeVerdict:
    """Decides the answer to a GET or HEAD of a blob: 200, 206, 304, 412 or 416.

    Args:
        headers: the request's headers, with names in lower case.
        etag: the blob's strong entity tag, in quotes.
        modified: the file's time of change, in seconds since 1970.
        size: the blob's length in bytes.
    """
    if not _matches(headers.get("if-match"), etag, weak=False):
        return RangeVerdict(412)
    if "if-none-match" in headers:
        if _matches(headers["if-none-match"], etag, weak=True):
            return RangeVerdict(304)
    elif _not_modified_since(headers.get("if-modified-since"), modified):
        return RangeVerdict(304)
    asked = headers.get("range")
    if asked is None or not _range_holds(headers.get("if-range"), etag, modified):
        return RangeVerdict(200, 0, size)
    return _ranged(asked, size)


def _ranged(asked: str, size: int) -> RangeVerdict:
    first, last = _places(asked)
    if not first and not last:
        # Several ranges or a malformed one: a server may always send the whole.
        return RangeVerdict(200, 0, size)
    if not first:
        start, stop = max(size - int(last), 0), size
        return RangeVerdict(206, start, stop) if int(last) and size else RangeVerdict(416)
    if last and int(last) < int(first):
        return RangeVerdict(200, 0, size)
    start, stop = int(first), min(int(last) + 1, size) if last else size
    return RangeVerdict(206, start, stop) if start < size else RangeVerdict(416)


def _places(asked: str) -> tuple[str, str]:
    """Returns the two numbers of a single range as texts; two empty ones if the header is not a single range.

    It uses no regular expression with optional white space: one of those took 17 s for 60,000 spaces.
    """
    unit, _, span = asked.strip().partition("=")
    first, dash, last = span.partition("-")
    first, last = first.strip(), last.strip()
    if len(asked) > _LONGEST or unit.lower() != "bytes" or not dash:
        return "", ""
    return (first, last) if _PLACE.fullmatch(first) and _PLACE.fullmatch(last) else ("", "")


def _matches(header: str | None, etag: str, *, weak: bool) -> bool:
    """Returns whether a list of entity tags contains this one. None, the header not given, counts as a match."""
    if header is None:
        return True
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or etag in tags or (weak and f"W/{etag}" in tags)


def _range_holds(condition: str | None, etag: str, modified: float) -> bool:
    """Returns whether If-Range allows a range: it names the strong tag or the exact date."""
    if condition is None:
        return True
    return condition.strip() == etag or condition.strip() == http_date(modified)


def _not_modified_since(header: str | None, modified: float) -> bool:
    if header is None or len(header) > _LONGEST:
        return False
    try:
        moment = parsedate_to_datetime(header)
    except (TypeError, ValueError, OverflowError):
        return False
    return moment.tzinfo is not None and int(modified) <= moment.timestamp()


def http_date(seconds: float) -> str:
    """Formats a time for a header: `Mon, 02 Mar 2026 09:30:00 GMT`."""
    return format_datetime(datetime.fromtimestamp(int(seconds), UTC), usegmt=True)
