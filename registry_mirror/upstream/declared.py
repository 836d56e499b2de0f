"""What storage's headers say about an object, and what a whole body is worth. Pure.

The rules are promise 2 of the architecture: what the storage declares about the object (`x-goog-hash`, `Content-MD5`,
`Content-Length`) must hold; an ETag of 32 hex digits is a hint that some stores give another meaning; where nothing
was declared, a web page must not pass for weights.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING

from .answers import looks_like_html

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..digests import Digest

_HEX_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_SETTLED = 60.0


@dataclass(frozen=True, slots=True)
class Declared:
    """What the headers of a storage answer say about the object.

    Attributes:
        size: bytes of the body; None when not said, or when the body is encoded on its way.
        md5: of `x-goog-hash` or `Content-MD5`: binding.
        hint: an ETag of 32 hex digits, mostly the MD5, but not in every store.
        validator: a strong ETag, verbatim.
        modified: `Last-Modified`, verbatim, where it was old enough to tell two contents apart.
        content_type: the media type alone, lower case.
        framed: whether a cut body shows (by a length or chunks) without a digest.
        encoded: whether the body is compressed on its way although identity was asked for.
    """

    size: int | None
    md5: str | None
    hint: str | None
    validator: str | None
    content_type: str
    framed: bool
    encoded: bool
    modified: str | None = None

    @property
    def condition(self) -> str | None:
        """What `If-Range` takes to be sure that the rest is of the same content (RFC 9110, 13.1.5)."""
        return self.validator if self.validator and _sendable(self.validator) else self.modified

    @property
    def resumable(self) -> bool:
        """Whether a body that was cut may go on where it was cut: whatever else came would be noticed."""
        return not self.encoded and (self.condition is not None or self.md5 is not None)

    @property
    def lasting(self) -> bool:
        """Whether a beginning of it is worth keeping for a later process.

        Only where a digest is known: a power cut or another writer may have damaged what lies on the disk.
        """
        return self.resumable and self.size is not None and (self.md5 is not None or self.hint is not None)


def declared(headers: Mapping[str, str]) -> Declared:
    """Reads the headers; keys in lower case."""
    length = headers.get("content-length", "")
    encoded = headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    etag = headers.get("etag", "").strip()
    bare = etag.removeprefix("W/").strip('"')
    return Declared(
        size=int(length) if length.isdecimal() and not encoded else None,
        md5=_google_md5(headers.get("x-goog-hash", "")) or _base64_md5(headers.get("content-md5", "")),
        hint=bare.lower() if _HEX_MD5.fullmatch(bare) else None,
        validator=etag if etag.startswith('"') else None,
        content_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
        framed=length.isdecimal() or "chunked" in headers.get("transfer-encoding", "").lower(),
        encoded=encoded,
        modified=_strong_date(headers.get("last-modified", ""), headers.get("date", "")),
    )


def of_part(size: int, md5: str | None, etag: str | None, modified: str | None) -> Declared:
    """What was known of an object when a part of it was kept."""
    known = declared({"etag": etag or "", "content-length": str(size), "content-type": "application/octet-stream"})
    return replace(known, md5=md5, modified=modified)


def md5_of_object(headers: Mapping[str, str]) -> str | None:
    """The binding MD5 of the whole object; `Content-MD5` is left out, which is of the body that it comes with."""
    return _google_md5(headers.get("x-goog-hash", ""))


def _strong_date(modified: str, answered: str) -> str | None:
    """`Last-Modified` as a validator: a minute before the answer, or the content may have changed within its second."""
    try:
        settled = (parsedate_to_datetime(answered) - parsedate_to_datetime(modified)).total_seconds() >= _SETTLED
    except (TypeError, ValueError):
        return None
    return modified if settled and _sendable(modified) else None


def _sendable(value: str) -> bool:
    """Whether a header of theirs may go into a request of ours."""
    return value.isascii() and value.isprintable()


def _google_md5(value: str) -> str | None:
    """`crc32c=…,md5=…`, in one header or several that the client joined with commas."""
    for part in value.split(","):
        name, _, digest = part.strip().partition("=")
        if name == "md5":
            return _base64_md5(digest)
    return None


def _base64_md5(value: str) -> str | None:
    try:
        raw = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == 16 else None


class Verdict(Enum):
    """What a whole body is worth."""

    ACCEPT = "accept"
    CONFIRM = "confirm"
    """Only if a second whole fetch brings the same bytes."""
    REFUSE = "refuse"


def judge(what: Declared, got: Digest, head: bytes) -> tuple[Verdict, str]:
    """The verdict on a body that ended, and its reason."""
    if got.size == 0:
        return Verdict.REFUSE, "the body is empty"
    if what.size is not None and got.size != what.size:
        return Verdict.REFUSE, f"{got.size} bytes came, Content-Length said {what.size}"
    if what.md5 is not None:
        if got.md5 == what.md5:
            return Verdict.ACCEPT, "MD5 declared by storage"
        page = ", and the body looks like a sign-in page" if looks_like_html(head) else ""
        return Verdict.REFUSE, f"MD5 is {got.md5}, storage declared {what.md5}{page}"
    if what.hint is not None and got.md5 == what.hint:
        return Verdict.ACCEPT, "MD5 equals the ETag"
    if refusal := refuse_unsigned(what, head):
        return Verdict.REFUSE, refusal
    if what.hint is not None:
        return Verdict.CONFIRM, f"MD5 is {got.md5}, the ETag reads {what.hint}"
    if not what.framed:
        return Verdict.CONFIRM, "storage gave neither a digest nor a length, so a cut body would not show"
    return Verdict.ACCEPT, "storage declared no digest"


def refuse_unsigned(what: Declared, head: bytes) -> str | None:
    """Why a body without a binding digest cannot be weights; None when it may be."""
    if looks_like_html(head):
        return "the body looks like a sign-in page"
    if _looks_like_json(head):
        return "the body looks like JSON, not weights"
    if what.content_type.startswith("text/") or what.content_type.endswith(("json", "xml", "html")):
        return f"the body is {what.content_type}, not weights"
    return None


def _looks_like_json(head: bytes) -> bool:
    """Printable from a brace on. A binary format that happens to begin with one has other bytes close behind."""
    start = head.lstrip()
    return start[:1] in (b"{", b"[") and len(start) > 1 and start.isascii() and start.decode().isprintable()
