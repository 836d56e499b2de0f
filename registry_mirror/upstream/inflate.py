"""Bodies that are compressed on their way, unpacked a piece at a time: a bomb is refused before it fills memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE = 256 * 1024
_EITHER = 32 + zlib.MAX_WBITS
"""gzip or zlib, as the stream's first bytes say."""

ALLOWANCE = 64 << 20
RATIO = 100
"""A body may unpack to a hundred times its size and `ALLOWANCE` bytes; weights do not even halve."""


class InflateError(Exception):
    """The body is compressed in a way that nobody asked for, is damaged, or unpacks to too much."""


def inflate(encoding: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpacks a body of that `Content-Encoding`, in pieces of 256 KiB at most.

    Raises:
        InflateError: see there.
    """
    if encoding in ("", "identity"):
        yield from chunks
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise InflateError(f"the body is compressed as {encoding[:40]!r}, which was not asked for")
    packed = unpacked = 0
    unpacker = zlib.decompressobj(_EITHER)
    for chunk in chunks:
        packed += len(chunk)
        rest = chunk
        while rest:
            piece, rest, unpacker = _next(unpacker, rest)
            unpacked += len(piece)
            if is_bomb(packed, unpacked):
                raise InflateError(f"its first {packed} bytes unpack to {unpacked}, as no honest body does")
            if piece:
                yield piece
    # The unpacker may hold output back although it has taken all of its input.
    while piece := _flushed(unpacker):
        yield piece
    if packed and not unpacker.eof:
        raise InflateError("the compressed body is cut")


def is_bomb(packed: int, unpacked: int) -> bool:
    """Whether so many bytes must not come out of so many."""
    return unpacked > ALLOWANCE + RATIO * packed


def _next(unpacker: zlib._Decompress, data: bytes) -> tuple[bytes, bytes, zlib._Decompress]:
    """The next piece, the input that is left, and the unpacker to go on with: a gzip file may have several members."""
    if unpacker.eof:
        unpacker = zlib.decompressobj(_EITHER)
    try:
        piece = unpacker.decompress(data, _PIECE)
    except zlib.error as error:
        raise InflateError(f"the compressed body is damaged: {error}") from None
    return piece, unpacker.unconsumed_tail or unpacker.unused_data, unpacker


def _flushed(unpacker: zlib._Decompress) -> bytes:
    try:
        return b"" if unpacker.eof else unpacker.decompress(b"", _PIECE)
    except zlib.error as error:
        raise InflateError(f"the compressed body is damaged: {error}") from None
