"""Judges a body by what storage declared about it, and the response to a range request by its headers. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .declared import object_digests
from .inflate import codings
from .responses import TRANSIENT, looks_like_html, xml_reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..digests import Digest
    from .declared import Declared


class BodyVerdict(Enum):
    """Whether a whole body is accepted."""

    ACCEPT = "accept"
    CONFIRM = "confirm"
    """Accept it only if a second fetch of the whole brings the same bytes."""
    REFUSE = "refuse"


def judge_body(
    what: Declared, got: Digest, head: bytes, packed: Digest | None = None, secrets: Collection[str] = ()
) -> tuple[BodyVerdict, str]:
    """Judges a complete body.

    Args:
        what: what storage declared.
        got: the digests of the file.
        head: the file's first bytes.
        packed: the digests of the body as received, if it was or may have been compressed.
        secrets: masked in the reason.

    Returns:
        The verdict and its reason.
    """
    if got.size == 0:
        return BodyVerdict.REFUSE, "the body is empty"
    if what.size is not None and got.size != what.size:
        return BodyVerdict.REFUSE, f"{got.size} bytes came, storage declared {what.size}"
    binding = (*what.digests.items(), *what.more)
    wrong = next(((name, value) for name, value in binding if not _matches(name, value, got, packed)), None)
    if wrong is None and what.digests:
        return BodyVerdict.ACCEPT, f"{' and '.join(map(str.upper, what.digests))} declared by storage"
    if wrong is not None and not what.unpacked:
        page = ", and the body looks like a sign-in page" if looks_like_html(head) else ""
        said = f"{wrong[0].upper()} is {got.of(wrong[0])}, storage declared {wrong[1]}"
        return BodyVerdict.REFUSE, f"{said}{page}"
    return _judge_unsigned(what, got, head, packed, secrets)


def _matches(algorithm: str, value: str, got: Digest, packed: Digest | None) -> bool:
    """Whether a digest is that of the file or that of the compressed body: either of them proves both."""
    return value == got.of(algorithm) or (packed is not None and value == packed.of(algorithm))


def _judge_unsigned(
    what: Declared, got: Digest, head: bytes, packed: Digest | None, secrets: Collection[str]
) -> tuple[BodyVerdict, str]:
    """Judges a body for which storage declared no binding digest, or only digests of other bytes."""
    if what.hint is not None and _matches("md5", what.hint, got, packed):
        return BodyVerdict.ACCEPT, "MD5 equals the ETag"
    if refusal := refuse_unsigned(head, secrets):
        return BodyVerdict.REFUSE, refusal
    if what.unpacked and what.digests:
        return BodyVerdict.CONFIRM, "storage's digests are of the compressed bytes that it keeps, and it sent others"
    if what.hint is not None:
        return BodyVerdict.CONFIRM, f"MD5 is {got.md5}, the ETag reads {what.hint}"
    if not what.framed:
        return BodyVerdict.CONFIRM, "storage gave neither a digest nor a length, so a cut body would not show"
    return BodyVerdict.ACCEPT, "storage declared no digest"


def refuse_unsigned(head: bytes, secrets: Collection[str] = ()) -> str | None:
    """The reason why a body without a binding digest cannot be weights, which are always binary; None if it may be.

    The bytes decide, because web servers guess the content type: nginx labels weights `text/plain`, and a gateway
    labels its "please wait" page `application/octet-stream`.
    """
    if reason := xml_reason(head, secrets):
        return f"the body is an error: {reason}"
    if looks_like_html(head):
        return "the body looks like a sign-in page"
    if looks_like_text(head):
        kind = "JSON" if head.lstrip()[:1] in (b"{", b"[") else "a text"
        return f"the body looks like {kind}, not weights"
    return None


_CONTROLS = bytes(sorted({*range(32), 127} - {*b"\t\n\f\r\x1b"}))
_ASCII = bytes(range(128))
_MANY = 64
"""A binary file has a control character among this many first bytes."""


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes of a file are text in any encoding, without control characters except white space.

    Every binary format has control characters close to its beginning, mostly NULs. A few bytes may have none by chance:
    they count as text only if they are UTF-8 or mostly ASCII.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if head.startswith(mark):
            return all(each.isprintable() or each.isspace() for each in head[2:].decode(encoding, "ignore"))
    for characters, zeros in ((head[::2], head[1::2]), (head[1::2], head[::2])):  # UTF-16 without its mark
        if len(zeros) > 1 and not zeros.strip(b"\0"):
            return looks_like_text(characters)
    if head.translate(None, _CONTROLS) != head:
        return False
    try:
        head[: len(head) - 3].decode()  # the last character may be cut
    except UnicodeDecodeError:
        return len(head) >= _MANY or 4 * len(head.translate(None, _ASCII)) < len(head)
    return True


_SPAN = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_GIVEN = frozenset({200, 203, 206})
"""Statuses of a response that has the object or a part of it."""

_TOTAL = re.compile(r"bytes \*/(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Rest:
    """A range to ask for: bytes `start` to before `end` (None: to the last) of the object that `of` describes."""

    start: int
    of: Declared
    end: int | None = None

    def headers(self) -> dict[str, str]:
        """The request headers that ask for this range."""
        asked = {"Range": f"bytes={self.start}-{'' if self.end is None else self.end - 1}"}
        if self.of.condition is not None:
            asked["If-Range"] = self.of.condition
        return asked


class RangeFit(Enum):
    """How a response fits the request for an object or a range of it."""

    REST = "rest"
    """It has exactly the range that was asked for."""
    WHOLE = "whole"
    """It has the whole object."""
    COMPLETE = "complete"
    """The range is empty: every byte is here already."""
    MISFIT = "misfit"
    """It must neither be joined to the bytes received so far nor be taken for the whole object."""
    REFUSED = "refused"
    """It is an error that may concern only the range: storage may still give the whole object."""
    OTHER = "other"
    """It is an error that is not about the range."""


def judge_whole(status: int, headers: Mapping[str, str]) -> tuple[RangeFit, str]:
    """Judges the response to a request for the whole object. Returns the verdict and its reason.

    Header names are in lower case.
    """
    if status not in _GIVEN:
        return RangeFit.OTHER, f"HTTP {status}"
    given, length = headers.get("content-range", "").strip(), headers.get("content-length", "")
    if not given:
        cut = status == 206
        return (
            (RangeFit.MISFIT, "an unknown part of the object came")
            if cut
            else (RangeFit.WHOLE, "the whole object came")
        )
    said = _SPAN.fullmatch(given)
    if said is not None:
        first, last, total = (int(number) for number in said.groups())
        if first == 0 and last + 1 == total and length in ("", str(total)):
            return RangeFit.WHOLE, "the whole object came"
    return RangeFit.MISFIT, f"the whole object was asked for, and {given[:80]!r} came"


def judge_rest(rest: Rest, status: int, headers: Mapping[str, str]) -> tuple[RangeFit, str]:
    """Judges the response to a request for a range. Returns the verdict and its reason.

    Header names are in lower case.
    """
    if status == 416:
        return _judge_no_rest(rest, headers)
    if status not in _GIVEN:
        return RangeFit.OTHER if status in TRANSIENT else RangeFit.REFUSED, f"HTTP {status}"
    if status == 206 or headers.get("content-range", "").strip():
        reason = _wrong_span(rest, headers) or _another_object(rest.of, headers)
        return (RangeFit.MISFIT, reason) if reason else (RangeFit.REST, "the rest came")
    return _judge_whole_instead(rest, headers)


def _judge_whole_instead(rest: Rest, headers: Mapping[str, str]) -> tuple[RangeFit, str]:
    """Judges a success that names no range. It has the whole object only if its length says so."""
    length = headers.get("content-length", "")
    if codings(headers.get("content-encoding", "")):
        return RangeFit.MISFIT, "a compressed answer came"
    if rest.of.size is not None and length == str(rest.of.size):
        return RangeFit.WHOLE, "the whole object came"
    return RangeFit.MISFIT, f"{length or 'an unknown number of'} bytes came, which may be a part of the object"


def _judge_no_rest(rest: Rest, headers: Mapping[str, str]) -> tuple[RangeFit, str]:
    """Judges a 416, which says that the range starts behind the object's end.

    With `If-Range`, a 416 also proves that the object is the same: a changed object would have been sent whole.
    """
    said = _TOTAL.fullmatch(headers.get("content-range", "").strip())
    total = int(said[1]) if said else None
    if rest.of.condition is not None and total == rest.start == rest.of.size:
        return RangeFit.COMPLETE, "every byte is here"
    return RangeFit.MISFIT, f"storage has no byte {rest.start}"


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
    """The reason why a range belongs to other content than the bytes received so far; None if it does not.

    An equal ETag proves nothing if other headers contradict it.
    """
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
    # Storage may ignore If-Range, so the response must repeat the ETag or date that the condition used.
    if not of.digests and not (etag if of.validator is not None else modified):
        return "the partial answer does not say of which object it is"
    return None


def _differs(before: str | None, now: str | None) -> bool:
    return bool(before and now and before != now)
