"""The sidecar of a part file. It describes the whole object, and holds no address and no API key.

The reader checks everything in it: a killed writer may have left it incomplete, and when several accounts write to one
root, any of them may have put it there.
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
# Only characters that may go into a request header. Above all, line ends may not.
_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,1000}"')
_DATE = re.compile(r"[A-Za-z0-9,:+ -]{1,64}")


@dataclass(frozen=True, slots=True)
class Origin:
    """The object whose first bytes a part file holds.

    Attributes:
        key: `model id/format`.
        size: bytes of the whole object.
        md5: of the whole object, as storage declared it.
        etag: the strong ETag, verbatim.
        last_modified: the header verbatim, if it is a validator by itself or there is one beside it.
        digests: further digests of the whole object in hex, by algorithm.
        started_at: when the part file was begun, or when it was last adopted after it had grown. ISO 8601.
        kept: bytes that the last adoption copied (0: never adopted); None when an older version wrote the sidecar.
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
        """Returns the bytes of the sidecar."""
        stamped = {**asdict(self), "started_at": self.started_at or format_time(utc_now()), "kept": self.kept or 0}
        return json.dumps(stamped, indent=1).encode() + b"\n"

    def same_object(self, other: Origin) -> bool:
        """Returns whether two part files are of one object, by what storage declared."""
        return all(
            getattr(self, name) == getattr(other, name) for name in ("size", "md5", "etag", "last_modified", "digests")
        )


def parse_origin(data: bytes) -> Origin | None:
    """Parses a sidecar. Returns None when it is malformed or holds nothing by which a changed object is noticed."""
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
    """Returns the path of a part file's sidecar."""
    return part.with_name(part.name + SIDECAR)


def read_origin(path: Path) -> Origin | None:
    """Reads a sidecar. Returns None when it is missing, unreadable, too long or malformed."""
    view = memoryview(bytearray(_LIMIT + 1))
    try:
        with open_part(path) as stream:
            count = read_into(stream, view)
    except UnreadableError:
        return None
    return parse_origin(bytes(view[:count])) if count <= _LIMIT else None


class UnreadableError(Exception):
    """A part file or sidecar that was left cannot be read. Errors of the file being written stay OSErrors."""


def open_part(path: Path) -> BinaryIO:
    """Opens a part file, or its sidecar, for reading.

    Raises:
        UnreadableError: the file cannot be opened, or is not a regular file.
    """
    try:
        return open_regular(path)
    except OSError as error:
        raise UnreadableError(str(error)) from error


def read_into(stream: BinaryIO, view: memoryview) -> int:
    """Reads the next bytes into `view`. Returns how many were read; 0 at the end.

    Raises:
        UnreadableError: the disk fails.
    """
    try:
        return stream.readinto(view) or 0  # type: ignore[attr-defined]
    except OSError as error:
        raise UnreadableError(str(error)) from error
