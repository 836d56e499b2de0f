"""Bodies that are compressed on their way, unpacked a piece at a time: a bomb is refused before it fills memory."""

from __future__ import annotations

import zlib
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE = 256 * 1024
_TOLD = 16
"""Bytes that tell how a body is compressed, if it is."""
_EITHER = 32 + zlib.MAX_WBITS
"""gzip or zlib, as the stream's first bytes say."""
_BARE = -zlib.MAX_WBITS
"""Deflate without a header around it, as some servers send it."""

_UNPACKED = frozenset({"gzip", "x-gzip", "deflate"})
_REFUSED = {"br": b"", "zstd": b"\x28\xb5\x2f\xfd", "compress": b"\x1f\x9d", "x-compress": b"\x1f\x9d"}
"""Compressions that are not unpacked here, and how their bodies begin.

Brotli's have no mark, so that its label cannot be seen through: the stored bytes would pass for the file.
"""

_MOST = 3
"""Compressions of one body; nobody uses more than two."""

ALLOWANCE = 64 << 20
RATIO = 100
"""A body may unpack to a hundred times its size and `ALLOWANCE` bytes; weights do not even halve."""


class InflateError(Exception):
    """The body is compressed in a way that nobody asked for, is damaged, or unpacks to too much."""


def codings(header: str) -> tuple[str, ...]:
    """The compressions that a `Content-Encoding` names, in the order in which they were applied.

    Other words in it are ignored: objects are stored with `aws-chunked`, `utf-8`, `binary` or `none` as their encoding,
    and none of these changes a byte.
    """
    words = (word.strip().lower() for word in header.split(","))
    return tuple(word for word in words if word in _UNPACKED or word in _REFUSED)


def inflate(encoding: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpacks a body of that `Content-Encoding`, in pieces of 256 KiB at most.

    The bytes decide: a body that does not begin as its label says goes through as it is. Proxies unpack bodies and
    leave the label on them.

    Raises:
        InflateError: see there.
    """
    named = codings(encoding)
    if len(named) > _MOST:
        raise InflateError(f"the body is said to be compressed {len(named)} times")
    for coding in reversed(named):
        chunks = _unpacked(coding, iter(chunks))
    yield from chunks


def _unpacked(coding: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _TOLD:
            break
    if coding in _REFUSED and head.startswith(_REFUSED[coding]):
        raise InflateError(f"the body is compressed as {coding!r}, which was not asked for")
    bits = window_bits(coding, head)
    yield from chain([head], chunks) if bits is None else _inflated(bits, chain([head], chunks))


def window_bits(coding: str, head: bytes) -> int | None:
    """How zlib is to read a body that begins so; None for one that is not compressed in that way. Pure."""
    if head.startswith(b"\x1f\x8b") and coding in _UNPACKED:
        return _EITHER
    if coding != "deflate" or len(head) < _TOLD:
        return None
    if head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(head[:2]) % 31 == 0:
        return _EITHER
    try:
        zlib.decompressobj(_BARE).decompress(head, _PIECE)
    except zlib.error:
        return None
    return _BARE


def _inflated(bits: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    packed = unpacked = 0
    unpacker = zlib.decompressobj(bits)
    for chunk in chunks:
        packed += len(chunk)
        rest = chunk
        while rest:
            piece, rest, unpacker = _next(unpacker, rest, bits)
            unpacked += len(piece)
            if is_bomb(packed, unpacked):
                raise InflateError(f"its first {packed} bytes unpack to {unpacked}, as no honest body does")
            yield piece  # also an empty one: whoever watches the pace has to see that nothing comes
    # The unpacker may hold output back although it has taken all of its input.
    while piece := _flushed(unpacker):
        yield piece
    if packed and not unpacker.eof:
        raise InflateError("the compressed body is cut")


def is_bomb(packed: int, unpacked: int) -> bool:
    """Whether so many bytes must not come out of so many; too few would come without an end."""
    return unpacked > ALLOWANCE + RATIO * packed or packed > ALLOWANCE + 2 * unpacked


def _next(unpacker: zlib._Decompress, data: bytes, bits: int) -> tuple[bytes, bytes, zlib._Decompress]:
    """The next piece, the input that is left, and the unpacker to go on with: a gzip file may have several members."""
    if unpacker.eof:
        data = data.lstrip(b"\0")  # padding, as tape and block storage leave it
        if not data:
            return b"", b"", unpacker
        unpacker = zlib.decompressobj(bits)
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
