"""Digests of weights: MD5 names them, SHA-256 tells a forgery from damage. Standard library only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """What some bytes are: lower-case hex digests and their count."""

    md5: str
    sha256: str
    size: int


class Hasher:
    """Both digests and the size in one pass.

    MD5 is a name here, not a seal, and says so: FIPS hosts refuse it otherwise (`fsspec/filesystem_spec#380`).
    """

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """Takes the next bytes."""
        self._md5.update(data)
        self._sha256.update(data)
        self.size += len(data)

    @property
    def updates(self) -> tuple[Callable[[memoryview], object], ...]:
        """What takes the next bytes for each digest, the slowest first, to be called on threads of their own.

        Whoever calls them counts `size` himself.
        """
        return self._md5.update, self._sha256.update

    def digest(self) -> Digest:
        """The digests of what came so far."""
        return Digest(self._md5.hexdigest(), self._sha256.hexdigest(), self.size)


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
    with open(path, "rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            hasher.update(view[:count])
    return hasher.digest()
