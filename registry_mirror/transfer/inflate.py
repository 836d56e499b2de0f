"""Decompresses bodies piece by piece, so that a decompression bomb is refused before it fills memory."""

from __future__ import annotations

import zlib
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE = 256 * 1024
_TOLD = 16
"""How many first bytes are looked at to see whether and how a body is compressed."""
_EITHER = 32 + zlib.MAX_WBITS
"""`wbits` for gzip or zlib: zlib tells them apart by the stream's first bytes."""
_BARE = -zlib.MAX_WBITS
"""`wbits` for deflate without a zlib header, which some servers send."""

_UNPACKED = frozenset({"gzip", "x-gzip", "deflate"})
_REFUSED = {"br": b"", "zstd": b"\x28\xb5\x2f\xfd", "compress": b"\x1f\x9d", "x-compress": b"\x1f\x9d"}
"""Compressions that are refused, and the first bytes of their bodies.

Brotli has no such mark, so a body labelled `br` is always refused: its compressed bytes could pass for the file.
"""

_MOST = 3
"""A body may be compressed this many times; nobody uses more than two."""

ALLOWANCE = 64 << 20
RATIO = 100
"""A body may decompress to `RATIO` times its size plus `ALLOWANCE` bytes. Compression does not even halve weights."""


class InflateError(Exception):
    """The body is compressed in a way that is not supported, is damaged, or decompresses to too many bytes."""


def codings(header: str) -> tuple[str, ...]:
    """The compressions that a `Content-Encoding` names, in the order in which they were applied.

    Other words in it are ignored: objects are stored with encodings like `aws-chunked`, `utf-8`, `binary` or `none`,
    which do not change any byte.
    """
    words = (word.strip().lower() for word in header.split(","))
    return tuple(word for word in words if word in _UNPACKED or word in _REFUSED)


def inflate(encoding: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompresses a body with this `Content-Encoding`, in pieces of at most 256 KiB.

    A body whose first bytes do not fit the label is passed through unchanged: some proxies decompress bodies and leave
    the label on them.

    Raises:
        InflateError: the body cannot be decompressed, or decompresses to too many bytes.
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
    """zlib's `wbits` for a body that begins with `head`; None when it is not compressed as `coding` says. Pure."""
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
            yield piece  # even if it is empty: StallGuard has to see that no bytes come
    # zlib may hold output back although it has consumed all of its input.
    while piece := _flushed(unpacker):
        yield piece
    if packed and not unpacker.eof:
        raise InflateError("the compressed body is cut")


def is_bomb(packed: int, unpacked: int) -> bool:
    """Whether the ratio is suspicious: too many bytes come out, or input goes on for ever and almost nothing comes out.

    Args:
        packed: compressed bytes read so far.
        unpacked: bytes that came out of them.
    """
    return unpacked > ALLOWANCE + RATIO * packed or packed > ALLOWANCE + 2 * unpacked


def _next(unpacker: zlib._Decompress, data: bytes, bits: int) -> tuple[bytes, bytes, zlib._Decompress]:
    """Decompresses the next piece. A gzip file may have several members, each of which needs a new decompressor.

    Returns:
        The piece, the input that is left, and the decompressor to use for it.
    """
    if unpacker.eof:
        data = data.lstrip(b"\0")  # padding that tape and block storage leave at the end
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
