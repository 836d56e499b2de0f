"""What storage's headers say about an object, and what a whole body is worth. Pure.

The rules are promises 2 and 10 of the architecture: every digest and length that storage declares of the object must
hold, whatever the status and the labels say; an ETag of 32 hex digits is a hint that some stores give another meaning;
where nothing was declared, a text must not pass for weights, whatever it is called.
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
"""They find accidents only, and are computed only where storage declares nothing stronger."""

_PAIR = re.compile(r"([A-Za-z0-9-]+)=:?([A-Za-z0-9+/]+={0,2}):?(?=\s*[,;]|\s*$)")
"""One member of `x-goog-hash`, `Digest` (RFC 3230), `Repr-Digest` or `Content-Digest` (RFC 9530)."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the headers of a storage answer say about the object.

    Attributes:
        size: bytes of the body; None when not said, or when the body is compressed.
        md5: binding.
        hint: an ETag of 32 hex digits, mostly the MD5, but not in every store.
        validator: a strong ETag, verbatim.
        framed: whether a cut body shows (by a length or chunks) without a digest.
        coding: the compressions of the body that comes, as `inflate` takes them; empty for none. The digests are of the
            compressed bytes or of the file, which is found out by comparing.
        unpacked: whether the object is stored compressed, and comes without a sign of it: then the digests are of bytes
            that do not come.
        modified: `Last-Modified`, verbatim.
        settled: whether that date was old enough to tell two contents apart.
        generation: the number that Google's storage gives each content.
        others: further binding digests in hex, by algorithm.
        more: pairs of an algorithm and another digest by it, where headers contradict one another: all of them bind.
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
        """What `If-Range` takes to be sure that the rest is of the same content (RFC 9110, 13.1.5)."""
        if self.validator and _sendable(self.validator):
            return self.validator
        return self.modified if self.modified and self.settled and _sendable(self.modified) else None

    @property
    def resumable(self) -> bool:
        """Whether a body that was cut may go on where it was cut: whatever else came would be noticed."""
        return not self.coding and (self.condition is not None or bool(self.digests))

    @property
    def lasting(self) -> bool:
        """Whether a beginning of it is worth keeping for a later process.

        Only where a digest is known: a power cut or another writer may have damaged what lies on the disk.
        """
        return self.resumable and self.size is not None and bool(self.digests or self.hint)

    def joined(self, rest: Declared) -> Declared:
        """The same, with the digests that an answer with the rest has declared of the whole object."""
        return replace(
            self,
            md5=self.md5 or rest.md5,
            others={name: value for name, value in rest.others.items() if name == "sha-256"} | dict(self.others),
        )


def declared(headers: Mapping[str, str], *, part: bool = False) -> Declared:
    """Reads the headers; keys in lower case.

    Args:
        part: the answer has a part of the object only, so digests of the message are none of the object.
    """
    length, etag = headers.get("content-length", ""), headers.get("etag", "").strip()
    stored = ", ".join(codings(headers.get("x-goog-stored-content-encoding", "")))
    sent = ", ".join(codings(headers.get("content-encoding", "")))
    bare = etag.removeprefix("W/").strip('"')
    unpacked = bool(stored) and not sent
    message = [] if part else _of_message(headers)
    # What is said of the message is of the bytes that come, also where the object is stored in another form.
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
    """What was known of an object when a part of it was kept."""
    known = declared({"etag": etag or "", "content-length": str(size)})
    return replace(known, md5=md5, modified=modified, settled=True, others=others)


def _size(headers: Mapping[str, str]) -> int | None:
    """Bytes of an object that does not come compressed. What is stored outranks the length of what is sent."""
    for name in ("x-goog-stored-content-length", "content-length"):
        if re.fullmatch(r"[0-9]{1,18}", headers.get(name, "")):
            return int(headers[name])
    return None


def _is_settled(modified: str, answered: str) -> bool:
    """Whether `Last-Modified` is a minute older than the answer: else its second may have had two contents."""
    try:
        return (parsedate_to_datetime(answered) - parsedate_to_datetime(modified)).total_seconds() >= _SETTLED
    except (TypeError, ValueError, OverflowError):
        return False


def _sendable(value: str) -> bool:
    """Whether a header of theirs may go into a request of ours."""
    return value.isascii() and value.isprintable()


# -- digests ----------------------------------------------------------------------------------------------------------


def object_digests(headers: Mapping[str, str]) -> dict[str, str]:
    """What headers say of the whole object, whichever part of it comes with them: hex by algorithm."""
    return _first_of_each(_of_object(headers))


def _of_object(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        *_pairs(headers.get("x-goog-hash", "")),
        *_pairs(f"md5={headers.get('x-ms-blob-content-md5', '')}"),
        *_pairs(headers.get("repr-digest", "")),
        *_pairs(headers.get("digest", "")),
    ]


def _of_message(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Digests of the message, which is the object where the whole of it comes."""
    found = [*_pairs(f"md5={headers.get('content-md5', '')}"), *_pairs(headers.get("content-digest", ""))]
    # A composite checksum is one of the parts' checksums; in a part's answer, S3 gives that part's own.
    if headers.get("x-amz-checksum-type", "").strip().upper() != "COMPOSITE":
        headed = {name: f"x-amz-checksum-{name.replace('-', '')}" for name in LENGTHS}
        found += _pairs(",".join(f"{name}={headers[header]}" for name, header in headed.items() if header in headers))
    return found


def _first_of_each(pairs: list[tuple[str, str]]) -> dict[str, str]:
    return dict(reversed(pairs))


def _strongest(digests: dict[str, str]) -> dict[str, str]:
    """Those to compute."""
    strong = {name: value for name, value in digests.items() if name not in _CHECKSUMS}
    return strong or digests


def _pairs(value: str) -> Iterator[tuple[str, str]]:
    """Digests in hex of `crc32c=…,md5=…` or `sha-256=:…:`, in one header or several that the client has joined.

    What is no base64, or of an algorithm that is not computed here, is passed over.
    """
    for name, digest in _PAIR.findall(value):
        algorithm = "sha-1" if name.lower() == "sha" else name.lower()
        with contextlib.suppress(binascii.Error, ValueError):
            raw = base64.b64decode(digest, validate=True)
            if len(raw) == LENGTHS.get(algorithm):
                yield algorithm, raw.hex()


# -- the verdict ------------------------------------------------------------------------------------------------------
