"""Digests of weights: MD5 names them, SHA-256 tells a forgery from damage. Standard library only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .files import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_READ = 1 << 20

HEAD = 4096
"""First bytes that are kept beside the digests, by which a text is told from weights."""

LENGTHS = {"md5": 16, "sha-1": 20, "sha-256": 32, "sha-512": 64, "crc32": 4, "crc32c": 4}
"""Bytes of a digest, by the algorithm's name in the registry of HTTP digests (RFC 9530) or in a storage's headers."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What some bytes are: lower-case hex digests and their count.

    Attributes:
        others: further digests that were asked for, as pairs of algorithm and hex digits.
    """

    md5: str
    sha256: str
    size: int
    others: tuple[tuple[str, str], ...] = ()

    def of(self, algorithm: str) -> str | None:
        """The digest by one algorithm of `LENGTHS`; None when it was not computed."""
        return {"md5": self.md5, "sha-256": self.sha256, **dict(self.others)}.get(algorithm)


class _Algorithm(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Checksum:
    """A CRC of 32 bits, with the methods of hashlib's digests."""

    def __init__(self, extend: Callable[[int, bytes | memoryview], int]) -> None:
        self._extend, self._value = extend, 0

    def update(self, data: bytes | memoryview) -> None:
        self._value = self._extend(self._value, data)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _algorithm(name: str) -> _Algorithm:
    if name == "crc32":
        import zlib

        return _Checksum(lambda value, data: zlib.crc32(data, value))
    if name == "crc32c":
        import google_crc32c

        # It takes no buffer that could change under it.
        return _Checksum(lambda value, data: google_crc32c.extend(value, bytes(data)))
    return hashlib.new(name.replace("-", ""), usedforsecurity=False)


class Hasher:
    """MD5, SHA-256 and the size in one pass, and further digests where they are asked for.

    MD5 is a name here, not a seal, and says so: FIPS hosts refuse it otherwise (`fsspec/filesystem_spec#380`).

    Args:
        others: further algorithms, of `LENGTHS`.
    """

    def __init__(self, others: Iterable[str] = ()) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._others = {name: _algorithm(name) for name in others}
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """Takes the next bytes."""
        self._md5.update(data)
        self._sha256.update(data)
        for each in self._others.values():
            each.update(data)
        self.size += len(data)

    @property
    def updates(self) -> tuple[Callable[[bytes | memoryview], object], ...]:
        """What takes the next bytes for each digest, the slowest first, to be called on threads of their own.

        Whoever calls them counts `size` himself.
        """
        return self._md5.update, self._sha256.update, *(each.update for each in self._others.values())

    def digest(self) -> Digest:
        """The digests of what came so far."""
        others = tuple((name, each.hexdigest()) for name, each in self._others.items())
        return Digest(self._md5.hexdigest(), self._sha256.hexdigest(), self.size, others)


def text_digest(text: bytes | memoryview) -> bytes:
    """By which a JSON text is recognised: the same for the same bytes, and for no others."""
    return hashlib.sha256(text).digest()


def digest_file(path: Path) -> Digest:
    """Reads the whole file, in constant memory.

    Raises:
        OSError: it cannot be read.
    """
    hasher = Hasher()
    buffer = bytearray(_READ)
    view = memoryview(buffer)
    with open_regular(path) as stream:
        while count := stream.readinto(buffer):
            hasher.update(view[:count])
    return hasher.digest()
