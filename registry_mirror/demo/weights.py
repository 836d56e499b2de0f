"""The bytes that the storage gives out: from memory, from a file, or generated while they are sent."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .messages import Response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BLOCK = 1024 * 1024


@dataclass(frozen=True)
class SyntheticBytes:
    """`size` bytes that look random and are generated when needed: a body of gigabytes needs a megabyte of memory.

    Equal sizes and seeds give equal bytes. Each block begins with its number, so swapped or lost blocks are noticed.
    """

    size: int
    seed: int = 0

    @cached_property
    def _block(self) -> bytes:
        return hashlib.shake_128(f"registry-mirror demo {self.seed}".encode()).digest(BLOCK)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yields the bytes from `start` to before `stop`."""
        while start < stop:
            number, within = divmod(start, BLOCK)
            piece = (number.to_bytes(8, "big") + self._block[8:])[within : within + stop - start]
            yield piece
            start += len(piece)


@dataclass(frozen=True)
class DemoWeights:
    """One downloadable file of a model. The source must not change while it is served: make a new object instead."""

    source: bytes | Path | SyntheticBytes

    @cached_property
    def size(self) -> int:
        """Size in bytes."""
        if isinstance(self.source, Path):
            return os.stat(self.source).st_size
        return len(self.source) if isinstance(self.source, bytes) else self.source.size

    @cached_property
    def md5(self) -> bytes:
        """The MD5, 16 bytes. The first use reads all bytes."""
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self.response(200, {}, 0, self.size).chunks():
            digest.update(chunk)
        return digest.digest()

    @property
    def md5_hex(self) -> str:
        """The MD5 in the form of an ETag."""
        return self.md5.hex()

    @property
    def md5_base64(self) -> str:
        """The MD5 in the form of `Content-MD5` and `x-goog-hash`."""
        return base64.b64encode(self.md5).decode()

    def response(self, status: int, headers: Mapping[str, str], start: int, stop: int) -> Response:
        """A response whose body is the bytes from `start` to before `stop`."""
        pairs = tuple(headers.items())
        if isinstance(self.source, Path):
            return Response(status, pairs, self.source, offset=start, length=stop - start)
        if isinstance(self.source, bytes):
            return Response(status, pairs, self.source[start:stop])
        return Response(status, pairs, self.source.chunks(start, stop), length=stop - start)
