"""Bytes that the storage gives out: from memory, from a file, or made up while they are sent."""

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
    """`size` bytes that look random and exist nowhere: a body of gigabytes costs a megabyte of memory.

    Equal sizes and seeds give equal bytes. Each block begins with its number, so that blocks swapped or lost show.
    """

    size: int
    seed: int = 0

    @cached_property
    def _block(self) -> bytes:
        return hashlib.shake_128(f"registry-mirror demo {self.seed}".encode()).digest(BLOCK)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` up to `stop`."""
        while start < stop:
            number, within = divmod(start, BLOCK)
            piece = (number.to_bytes(8, "big") + self._block[8:])[within : within + stop - start]
            yield piece
            start += len(piece)


@dataclass(frozen=True)
class DemoWeights:
    """One downloadable file of a model. A file must not change while it is served: replace the object instead."""

    source: bytes | Path | SyntheticBytes

    @cached_property
    def size(self) -> int:
        """Bytes."""
        if isinstance(self.source, Path):
            return os.stat(self.source).st_size
        return len(self.source) if isinstance(self.source, bytes) else self.source.size

    @cached_property
    def md5(self) -> bytes:
        """The digest, 16 bytes. Reads everything once, when first asked."""
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self.response(200, {}, 0, self.size).chunks():
            digest.update(chunk)
        return digest.digest()

    @property
    def md5_hex(self) -> str:
        """The digest as an ETag shows it."""
        return self.md5.hex()

    @property
    def md5_base64(self) -> str:
        """The digest as `Content-MD5` and `x-goog-hash` show it."""
        return base64.b64encode(self.md5).decode()

    def response(self, status: int, headers: Mapping[str, str], start: int, stop: int) -> Response:
        """An answer whose body is the bytes `start` up to `stop`."""
        pairs = tuple(headers.items())
        if isinstance(self.source, Path):
            return Response(status, pairs, self.source, offset=start, length=stop - start)
        if isinstance(self.source, bytes):
            return Response(status, pairs, self.source[start:stop])
        return Response(status, pairs, self.source.chunks(start, stop), length=stop - start)
