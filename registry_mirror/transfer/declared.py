"""Reads what storage's headers say about an object. Pure.

The rules are promises 2 and 10 of the architecture. Every digest and length that storage declares for the object must
hold, whatever the status and the labels say. An ETag of 32 hex digits is only a hint, because some stores put something
other than an MD5 there. `verdicts` applies the rules to a body.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from ..digests import LENGTHS
from .inflate import codings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_HEX_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_SETTLED = 60.0
_CHECKSUMS = ("crc32c", "crc32")
"""Checksums that detect accidents only. They are computed only when storage declares nothing stronger."""

_PAIR = re.compile(r"([A-Za-z0-9-]+)=:?([A-Za-z0-9+/]+={0,2}):?(?=\s*[,;]|\s*$)")
"""One member of `x-goog-hash`, `Digest` (RFC 3230), `Repr-Digest` or `Content-Digest` (RFC 9530)."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the headers of a storage response say about the object.

    Attributes:
        size: bytes of the body; None when not declared, or when the body is compressed.
        md5: the declared MD5 in hex, which the body must match.
        hint: an ETag of 32 hex digits; in most stores, but not in all, it is the MD5.
        validator: a strong ETag, verbatim.
        framed: whether a cut body can be noticed without a digest, by its length or its chunks.
        coding: the compressions of the body, as `inflate` takes them; empty for none. The digests may be those of the
            compressed bytes or those of the file: comparing tells which.
        unpacked: whether storage keeps the object compressed, but does not label the body as compressed. The digests
            are then of the compressed bytes, which storage has probably not sent.
        modified: `Last-Modified`, verbatim.
        settled: whether `modified` was old enough to tell two contents apart.
        generation: the number that Google's storage gives each content.
        others: further binding digests in hex, by algorithm.
        more: pairs of algorithm and digest, when headers give several digests by one algorithm: all of them bind.
    """

    size: int | None
    md5: str | None
    hint: str | None
    validator: str | None
    framed: bool
    coding: str = ""
    unpacked: bool = False
    modified: str | None = None
    settled: bool = False
    generation: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    more: tuple[tuple[str, str], ...] = ()

    @property
    def digests(self) -> dict[str, str]:
        """Every binding digest in hex, by algorithm."""
        return {**self.others, **({} if self.md5 is None else {"md5": self.md5})}

    @property
    def condition(self) -> str | None:
        """The value for `If-Range`, which makes storage send a range only of the same content (RFC 9110, 13.1.5).

        None when the headers gave nothing that is safe to use.
        """
        if self.validator and _sendable(self.validator):
            return self.validator
        return self.modified if self.modified and self.settled and _sendable(self.modified) else None

    @property
    def resumable(self) -> bool:
        """Whether a cut body may be continued with a range: bytes of another content would be noticed."""
        return not self.coding and (self.condition is not None or bool(self.digests))

    @property
    def lasting(self) -> bool:
        """Whether a part file of it is worth keeping for a later process.

        Only when a digest is known: a power cut or another writer may damage the part file on disk.
        """
        return self.resumable and self.size is not None and bool(self.digests or self.hint)

    def joined(self, rest: Declared) -> Declared:
        """A copy that also has the MD5 and SHA-256 of the whole object that a response with a range declared."""
        return replace(
            self,
            md5=self.md5 or rest.md5,
            others={name: value for name, value in rest.others.items() if name == "sha-256"} | dict(self.others),
        )


def declared(headers: Mapping[str, str], *, part: bool = False) -> Declared:
    """Reads the headers.

    Args:
        headers: names in lower case.
        part: whether the response has only a part of the object; digests of the message are then ignored.
    """
    length, etag = headers.get("content-length", ""), headers.get("etag", "").strip()
    stored = ", ".join(codings(headers.get("x-goog-stored-content-encoding", "")))
    sent = ", ".join(codings(headers.get("content-encoding", "")))
    bare = etag.removeprefix("W/").strip('"')
    unpacked = bool(stored) and not sent
    message = [] if part else _of_message(headers)
    # Digests of the message are of the bytes sent, even if storage keeps the object in another form.
    said = message if unpacked and message else [*_of_object(headers), *message]
    found = _strongest(_first_of_each(said))
    more = sorted({(name, value) for name, value in said if name in found and value != found[name]})
    return Declared(
        size=_size(headers) if not sent and not stored else None,
        md5=found.pop("md5", None),
        hint=bare.lower() if _HEX_MD5.fullmatch(bare) else None,
        validator=etag if etag.startswith('"') else None,
        framed=length.isdecimal() or "chunked" in headers.get("transfer-encoding", "").lower(),
        coding=sent or stored,
        unpacked=unpacked and not message,
        modified=headers.get("last-modified", "").strip() or None,
        settled=_is_settled(headers.get("last-modified", ""), headers.get("date", "")),
        generation=headers.get("x-goog-generation"),
        others=found,
        more=tuple(more),
    )


def of_part(size: int, md5: str | None, etag: str | None, modified: str | None, others: Mapping[str, str]) -> Declared:
    """Restores what was known about an object when its part file was kept."""
    known = declared({"etag": etag or "", "content-length": str(size)})
    return replace(known, md5=md5, modified=modified, settled=True, others=others)


def _size(headers: Mapping[str, str]) -> int | None:
    """Bytes of an object that is not sent compressed. The stored length outranks the length of the response."""
    for name in ("x-goog-stored-content-length", "content-length"):
        if re.fullmatch(r"[0-9]{1,18}", headers.get(name, "")):
            return int(headers[name])
    return None


def _is_settled(modified: str, answered: str) -> bool:
    """Whether `Last-Modified` is at least a minute older than the response.

    A younger date may not tell two contents apart: both may have been written in the same second.
    """
    try:
        return (parsedate_to_datetime(answered) - parsedate_to_datetime(modified)).total_seconds() >= _SETTLED
    except (TypeError, ValueError, OverflowError):
        return False


def _sendable(value: str) -> bool:
    """Whether a header value from storage may be put into our request."""
    return value.isascii() and value.isprintable()


# -- digests ----------------------------------------------------------------------------------------------------------


def object_digests(headers: Mapping[str, str]) -> dict[str, str]:
    """The digests of the whole object that headers declare, also those of a response with a range: hex by algorithm."""
    return _first_of_each(_of_object(headers))


def _of_object(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        *_pairs(headers.get("x-goog-hash", "")),
        *_pairs(f"md5={headers.get('x-ms-blob-content-md5', '')}"),
        *_pairs(headers.get("repr-digest", "")),
        *_pairs(headers.get("digest", "")),
    ]


def _of_message(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Digests of the message. They are the object's digests only when the response has the whole object."""
    found = [*_pairs(f"md5={headers.get('content-md5', '')}"), *_pairs(headers.get("content-digest", ""))]
    # A composite checksum covers the checksums of the upload's parts, so no body matches it. In a response with one
    # part, S3 gives that part's own checksum.
    if headers.get("x-amz-checksum-type", "").strip().upper() != "COMPOSITE":
        headed = {name: f"x-amz-checksum-{name.replace('-', '')}" for name in LENGTHS}
        found += _pairs(",".join(f"{name}={headers[header]}" for name, header in headed.items() if header in headers))
    return found


def _first_of_each(pairs: list[tuple[str, str]]) -> dict[str, str]:
    return dict(reversed(pairs))


def _strongest(digests: dict[str, str]) -> dict[str, str]:
    """The digests to compute: the CRCs only when there is nothing else."""
    strong = {name: value for name, value in digests.items() if name not in _CHECKSUMS}
    return strong or digests


def _pairs(value: str) -> Iterator[tuple[str, str]]:
    """Yields algorithm and hex digest from `crc32c=…,md5=…` or `sha-256=:…:`. The client joins repeated headers.

    Skips values that are not base64, and algorithms that are not in `LENGTHS`.
    """
    for name, digest in _PAIR.findall(value):
        algorithm = "sha-1" if name.lower() == "sha" else name.lower()
        with contextlib.suppress(binascii.Error, ValueError):
            raw = base64.b64decode(digest, validate=True)
            if len(raw) == LENGTHS.get(algorithm):
                yield algorithm, raw.hex()
