"""Digests of weights: MD5 names a blob, and SHA-256 reveals two contents with one MD5."""

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
"""How many of the first bytes are kept beside the digests, to tell a text from weights."""

LENGTHS = {"md5": 16, "sha-1": 20, "sha-256": 32, "sha-512": 64, "crc32": 4, "crc32c": 4}
"""Length of a digest in bytes, by the algorithm's name in HTTP digest fields (RFC 9530) or in storage headers."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The lower-case hex digests and the number of some bytes.

    Attributes:
        others: further digests, as pairs of algorithm and hex digits.
    """

    md5: str
    sha256: str
    size: int
    others: tuple[tuple[str, str], ...] = ()

    def of(self, algorithm: str) -> str | None:
        """Returns the hex digest by one algorithm of `LENGTHS`; None when it was not computed."""
        return {"md5": self.md5, "sha-256": self.sha256, **dict(self.others)}.get(algorithm)


class _Algorithm(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Checksum:
    """A 32-bit CRC with the methods of hashlib's digests."""

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

        # The library accepts only immutable bytes.
        return _Checksum(lambda value, data: google_crc32c.extend(value, bytes(data)))
    return hashlib.new(name.replace("-", ""), usedforsecurity=False)


class Hasher:
    """Computes MD5, SHA-256, the size and any further digests in one pass.

    MD5 only names blobs and is marked as not used for security, because FIPS hosts refuse it otherwise
    (`fsspec/filesystem_spec#380`).

    Args:
        others: further algorithms, as named in `LENGTHS`.
    """

    def __init__(self, others: Iterable[str] = ()) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._others = {name: _algorithm(name) for name in others}
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """Hashes the next bytes."""
        self._md5.update(data)
        self._sha256.update(data)
        for each in self._others.values():
            each.update(data)
        self.size += len(data)

    @property
    def updates(self) -> tuple[Callable[[bytes | memoryview], object], ...]:
        """The update function of each digest, the slowest first, to be called on separate threads.

        A caller that uses them must add to `size` itself.
        """
        return self._md5.update, self._sha256.update, *(each.update for each in self._others.values())

    def digest(self) -> Digest:
        """Returns the digests of the bytes hashed so far."""
        others = tuple((name, each.hexdigest()) for name, each in self._others.items())
        return Digest(self._md5.hexdigest(), self._sha256.hexdigest(), self.size, others)


def text_digest(text: bytes | memoryview) -> bytes:
    """Returns the SHA-256 of a JSON text, by which an unchanged text is recognised."""
    return hashlib.sha256(text).digest()


def digest_file(path: Path) -> Digest:
    """Reads and hashes the whole file, in constant memory.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    hasher = Hasher()
    buffer = bytearray(_READ)
    view = memoryview(buffer)
    with open_regular(path) as stream:
        while count := stream.readinto(buffer):
            hasher.update(view[:count])
    return hasher.digest()
