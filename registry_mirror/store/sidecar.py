"""The sidecar of a part: what its bytes are the beginning of. It holds no address and no key.

It is read with suspicion: a killed writer may have torn it, and where several accounts write into one root, anybody
may have put it there.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from ..digests import LENGTHS
from ..files import open_regular
from ..model import format_time, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

SIDECAR = ".json"
_LIMIT = 16 * 1024
_MD5 = re.compile(r"[0-9a-f]{32}")
# What may go into a request header; line ends above all may not.
_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,1000}"')
_DATE = re.compile(r"[A-Za-z0-9,:+ -]{1,64}")


@dataclass(frozen=True, slots=True)
class Origin:
    """The object of which a part holds the first bytes.

    Attributes:
        key: whose weights they are, `model id/format`.
        size: bytes of the whole object.
        md5: of the whole object, as storage declared it.
        etag: strong, verbatim.
        last_modified: verbatim, where it can serve as a validator, or beside one.
        digests: further ones of the whole object in hex, by algorithm.
        started_at: when the first byte came, or when a part that had grown was last gone on with. ISO 8601.
        kept: bytes that were here then; None where an older version has not said so.
    """

    key: str
    size: int
    md5: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    started_at: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    kept: int | None = None

    def encode(self) -> bytes:
        """As the sidecar holds it."""
        stamped = {**asdict(self), "started_at": self.started_at or format_time(utc_now()), "kept": self.kept or 0}
        return json.dumps(stamped, indent=1).encode() + b"\n"

    def same_object(self, other: Origin) -> bool:
        """Whether two parts are of one object, as far as storage told."""
        return all(
            getattr(self, name) == getattr(other, name) for name in ("size", "md5", "etag", "last_modified", "digests")
        )


def parse_origin(data: bytes) -> Origin | None:
    """What a sidecar says; None for anything but a sound one that gives a way to notice a changed object."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    origin = Origin(
        said.get("key", ""),
        said.get("size", 0),
        said.get("md5"),
        said.get("etag"),
        said.get("last_modified"),
        said.get("started_at"),
        said.get("digests", {}),
        said.get("kept"),
    )
    return origin if _is_sound(origin) else None


def _is_sound(origin: Origin) -> bool:
    return (
        isinstance(origin.key, str)
        and isinstance(origin.size, int)
        and not isinstance(origin.size, bool)
        and 0 < origin.size < 1 << 62
        and (origin.kept is None or isinstance(origin.kept, int))
        and all(
            text is None or (isinstance(text, str) and pattern.fullmatch(text) is not None)
            for text, pattern in ((origin.md5, _MD5), (origin.etag, _ETAG), (origin.last_modified, _DATE))
        )
        and _are_digests(origin.digests)
        and any((origin.md5, origin.etag, origin.last_modified, origin.digests))
    )


def _are_digests(digests: object) -> bool:
    return isinstance(digests, dict) and all(
        isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{2 * LENGTHS.get(name, 0)}}}", value) and name in LENGTHS
        for name, value in digests.items()
    )


def sidecar(part: Path) -> Path:
    """Where the origin of a part stands."""
    return part.with_name(part.name + SIDECAR)


def read_origin(path: Path) -> Origin | None:
    """The sidecar's words; None when there is none, or none to rely on."""
    view = memoryview(bytearray(_LIMIT + 1))
    try:
        with open_part(path) as stream:
            count = read_into(stream, view)
    except UnreadableError:
        return None
    return parse_origin(bytes(view[:count])) if count <= _LIMIT else None


class UnreadableError(Exception):
    """A file that was left cannot be read; what is written elsewhere fails as an OSError."""


def open_part(path: Path) -> BinaryIO:
    """Opens a part, or its sidecar, for reading.

    Raises:
        UnreadableError: it cannot be opened, or is no file.
    """
    try:
        return open_regular(path)
    except OSError as error:
        raise UnreadableError(str(error)) from error


def read_into(stream: BinaryIO, view: memoryview) -> int:
    """Reads the next bytes; 0 at the end.

    Raises:
        UnreadableError: the disk fails.
    """
    try:
        return stream.readinto(view) or 0  # type: ignore[attr-defined]
    except OSError as error:
        raise UnreadableError(str(error)) from error
