"""Reads one response into a body: a large body straight from the socket, others through the HTTP parser.

A body read from the socket may use several connections. The first one begins alone. If hashing keeps up easily, others
fetch pieces further back, and the first one ends where their pieces begin.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from ..errors import MirrorError, NetworkError, NoSpaceError, TransferError
from .parallel import RangeFetcher
from .partial_body import S
from .pieces import ConnectionGrowth, Pieces
from .retry import is_transient
from .throttle import StallGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .body import Body, SocketBody
    from .parallel import RangeSource
    from .partial_body import HashRing, PartialBody
    from .pieces import Piece
    from .throttle import RateLimit


class SocketTransfer(Generic[S]):
    """Reads one body from the socket, over one connection or several.

    Args:
        transfer: where the bytes go.
        body: the response of the first connection.
        wire: its socket.
        size: bytes of the whole body.
    """

    def __init__(self, transfer: Transfer[S], body: Body, wire: SocketBody, size: int) -> None:
        self._transfer, self._partial, self._body, self._wire, self._size = transfer, transfer.partial, body, wire, size
        self._fetcher: RangeFetcher | None = None
        self._mine: Piece | None = None
        self._own_bytes = 0
        most = transfer.source.lines.most if transfer.source is not None and self._partial.divisible else 1
        self._growth = ConnectionGrowth(most, time.monotonic())

    def run(self) -> None:
        """Receives the rest of the body.

        Raises:
            MirrorError: the body was cut, stalled or too slow, or a sink failed. The partial body keeps
                the bytes received in order until then.
            OSError: a file failed.
        """
        try:
            with self._partial.ring() as ring:
                if not self._own(ring) and self._fetcher is not None:
                    self._follow(ring, self._fetcher)
        except (NoSpaceError, OSError) as error:
            if self._fetcher is None:
                raise
            # Bytes received out of order take disk space too: the next try uses one connection, which needs none.
            self._partial.alone = True
            failure = TransferError(f"{self._transfer.what}: no room for several connections: {error}", transient=True)
        else:
            return
        finally:
            if self._fetcher is not None:
                self._partial.alone = self._partial.alone or self._fetcher.failed
                self._fetcher.close()
        raise failure

    def _own(self, ring: HashRing) -> bool:
        """Receives from the first connection. Returns False when the other connections have to bring the rest."""
        pace = StallGuard()
        while self._wire.left:
            try:
                self._step(ring, pace)
            except (NetworkError, TransferError):
                if self._fetcher is None or self._mine is None or not self._fetcher.works:
                    raise
                self._fetcher.give_back(self._mine)
                return False
            if self._is_at_its_end():
                return False
        return True

    def _step(self, ring: HashRing, pace: StallGuard) -> None:
        view, rate = ring.next(), self._transfer.rate
        count = self._wire.fill(view if rate is None else view[: rate.piece])
        self._own_bytes += count
        self._take(ring, count)
        if rate is not None:
            rate.spend(count)
        if pace.trickles(count) and self._wire.left:
            raise self._transfer.trickle(self._wire.host)

    def _is_at_its_end(self) -> bool:
        """Whether the first connection has reached the pieces of others. If they have failed, it goes on alone."""
        if self._fetcher is None or self._mine is None:
            return False
        return not self._fetcher.advance(self._mine, self._partial.size) and not self._fetcher.failed

    def _follow(self, ring: HashRing, fetcher: RangeFetcher) -> None:
        """Ends the first connection, and takes the bytes from the others. One more thread takes its place."""
        assert self._transfer.source is not None  # noqa: S101 - `_take` makes a fetcher only if there is a source
        self._body.abort()
        self._transfer.source.pass_on()
        fetcher.inherit()
        while self._partial.size < self._size:
            if fetcher.broken:
                raise TransferError(
                    f"{self._transfer.what}: its ranges are not to be had: {fetcher.error}", transient=True
                )
            self._take(ring, fetcher.read(self._partial.size, ring.next()))

    def _take(self, ring: HashRing, count: int) -> None:
        self._partial.take_from(ring, count)
        self._transfer.progress(self._partial.size, self._size)
        source, now = self._transfer.source, time.monotonic()
        if source is None or self._growth.most == 1:
            return
        fetcher = self._fetcher
        reached, brought = (self._partial.size, 0) if fetcher is None else (fetcher.reached, fetcher.came)
        left = self._size - max(reached, self._partial.size)
        wanted = self._growth.look(now, self._own_bytes + brought, left, ring.busy)
        if fetcher is None and wanted > 1 and source.lines.free:
            pieces = Pieces(self._size, wanted)
            self._mine = pieces.begin(self._partial.size, now)
            fetcher = self._fetcher = RangeFetcher(self._transfer.what, source, pieces)
        if fetcher is not None:
            fetcher.grow(wanted)


_GATHERED = 256 << 10
_WHOLE_READS = (64 << 10, 16 << 10)
"""Sizes of a read that was full: httpcore's own limit, and a record of TLS."""


@dataclass(frozen=True, slots=True)
class Transfer(Generic[S]):
    """How one body is received.

    Attributes:
        what: the model, for errors.
        partial: the body to add to.
        progress: called with bytes done and bytes in all (None when not known) after every piece; may raise.
        rate: the rate limit; None for no limit.
        direct: whether the body may be read straight from the socket.
        source: opens further connections; None for a single connection.
    """

    what: str
    partial: PartialBody[S]
    progress: Callable[[int, int | None], None]
    rate: RateLimit | None
    direct: bool
    source: RangeSource | None = None

    def trickle(self, host: str | None) -> TransferError:
        """The error for a body that arrives too slowly."""
        return TransferError(f"{self.what}: storage {host} sends next to nothing", transient=True)


def stream(transfer: Transfer[S], body: Body) -> None:
    """Receives the rest of a body.

    Raises:
        MirrorError: the body was cut, stalled, too slow or too long. The bytes received stay in the partial body
            if a range can follow them.
    """
    partial = transfer.partial
    size = partial.declared.size if partial.declared else None
    transfer.progress(partial.size, size)
    try:
        wire = body.wire() if transfer.direct else None
        if wire is None or size is None:
            _parsed(transfer, body, size)
        else:
            SocketTransfer(transfer, body, wire, size).run()
    except MirrorError as error:
        # Bytes that no range can follow are useless, and must not count as progress.
        if is_transient(error) and partial.rest is None:
            partial.drop()
        raise


def _parsed(transfer: Transfer[S], body: Body, size: int | None) -> None:
    partial, pace = transfer.partial, StallGuard()
    for chunk in gathered(body.chunks()):
        _refuse_more(transfer, len(chunk), size)
        partial.take(chunk)
        transfer.progress(partial.size, size)
        if pace.trickles(len(chunk)) and partial.size != size:
            raise transfer.trickle(body.host)
        if transfer.rate is not None:
            transfer.rate.spend(len(chunk))


def gathered(chunks: Iterator[bytes]) -> Iterator[bytes | memoryview]:
    """Yields the same bytes in fewer pieces. Each piece must be used before the next one is asked for.

    Writing and hashing release the interpreter's lock, and getting it back takes longer than either of them. A chunk
    that is not as long as a full read shows that no more bytes were waiting, so it is passed on at once: nothing is
    held back while a slow connection is waited for.
    """
    buffer, filled = memoryview(bytearray(_GATHERED)), 0
    try:
        for chunk in chunks:
            if filled and filled + len(chunk) > _GATHERED:
                yield buffer[:filled]
                filled = 0
            if len(chunk) not in _WHOLE_READS and not filled:
                yield chunk
                continue
            buffer[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
            if len(chunk) not in _WHOLE_READS:
                yield buffer[:filled]
                filled = 0
    except MirrorError:
        if filled:
            yield buffer[:filled]
        raise
    if filled:
        yield buffer[:filled]


def _refuse_more(transfer: Transfer[S], count: int, size: int | None) -> None:
    if size is not None and transfer.partial.size + count > size:
        transfer.partial.distrust()
        reason = f"{transfer.what}: more than the {size} bytes came that storage declared"
        raise TransferError(reason, transient=True)
