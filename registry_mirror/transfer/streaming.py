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
        course: where the bytes go.
        body: the response of the first connection.
        wire: its socket.
        size: bytes of the whole body.
    """

    def __init__(self, course: Transfer[S], body: Body, wire: SocketBody, size: int) -> None:
        self._course, self._load, self._body, self._wire, self._size = course, course.load, body, wire, size
        self._crew: RangeFetcher | None = None
        self._mine: Piece | None = None
        self._own_bytes = 0
        most = course.source.lines.most if course.source is not None and self._load.divisible else 1
        self._growth = ConnectionGrowth(most, time.monotonic())

    def run(self) -> None:
        """Receives the rest of the body.

        Raises:
            MirrorError: the body was cut, stalled or too slow, or a sink failed. The load has the bytes received in
                order until then.
            OSError: a file failed.
        """
        try:
            with self._load.ring() as ring:
                if not self._own(ring) and self._crew is not None:
                    self._follow(ring, self._crew)
        except (NoSpaceError, OSError) as error:
            if self._crew is None:
                raise
            # Bytes received out of order take disk space too: the next try uses one connection, which needs none.
            self._load.alone = True
            failure = TransferError(f"{self._course.what}: no room for several connections: {error}", transient=True)
        else:
            return
        finally:
            if self._crew is not None:
                self._load.alone = self._load.alone or self._crew.failed
                self._crew.close()
        raise failure

    def _own(self, ring: HashRing) -> bool:
        """Receives from the first connection. Returns False when the other connections have to bring the rest."""
        pace = StallGuard()
        while self._wire.left:
            try:
                self._step(ring, pace)
            except (NetworkError, TransferError):
                if self._crew is None or self._mine is None or not self._crew.works:
                    raise
                self._crew.give_back(self._mine)
                return False
            if self._is_at_its_end():
                return False
        return True

    def _step(self, ring: HashRing, pace: StallGuard) -> None:
        view, rate = ring.next(), self._course.rate
        count = self._wire.fill(view if rate is None else view[: rate.piece])
        self._own_bytes += count
        self._take(ring, count)
        if rate is not None:
            rate.spend(count)
        if pace.trickles(count) and self._wire.left:
            raise self._course.trickle(self._wire.host)

    def _is_at_its_end(self) -> bool:
        """Whether the first connection has reached the pieces of others. If they have failed, it goes on alone."""
        if self._crew is None or self._mine is None:
            return False
        return not self._crew.advance(self._mine, self._load.size) and not self._crew.failed

    def _follow(self, ring: HashRing, crew: RangeFetcher) -> None:
        """Ends the first connection, and takes the bytes from the others. One more thread takes its place."""
        assert self._course.source is not None  # noqa: S101 - `_take` makes a crew only if there is a source
        self._body.abort()
        self._course.source.pass_on()
        crew.inherit()
        while self._load.size < self._size:
            if crew.broken:
                raise TransferError(f"{self._course.what}: its ranges are not to be had: {crew.error}", transient=True)
            self._take(ring, crew.read(self._load.size, ring.next()))

    def _take(self, ring: HashRing, count: int) -> None:
        self._load.take_from(ring, count)
        self._course.progress(self._load.size, self._size)
        source, now = self._course.source, time.monotonic()
        if source is None or self._growth.most == 1:
            return
        crew = self._crew
        reached, brought = (self._load.size, 0) if crew is None else (crew.reached, crew.came)
        left = self._size - max(reached, self._load.size)
        wanted = self._growth.look(now, self._own_bytes + brought, left, ring.busy)
        if crew is None and wanted > 1 and source.lines.free:
            pieces = Pieces(self._size, wanted)
            self._mine = pieces.begin(self._load.size, now)
            crew = self._crew = RangeFetcher(self._course.what, source, pieces)
        if crew is not None:
            crew.grow(wanted)


_GATHERED = 256 << 10
_WHOLE_READS = (64 << 10, 16 << 10)
"""Sizes of a read that was full: httpcore's own limit, and a record of TLS."""


@dataclass(frozen=True, slots=True)
class Transfer(Generic[S]):
    """How one body is received.

    Attributes:
        what: the model, for errors.
        load: the body to add to.
        progress: called with bytes done and bytes in all (None when not known) after every piece; may raise.
        rate: the rate limit; None for no limit.
        direct: whether the body may be read straight from the socket.
        source: opens further connections; None for a single connection.
    """

    what: str
    load: PartialBody[S]
    progress: Callable[[int, int | None], None]
    rate: RateLimit | None
    direct: bool
    source: RangeSource | None = None

    def trickle(self, host: str | None) -> TransferError:
        """The error for a body that arrives too slowly."""
        return TransferError(f"{self.what}: storage {host} sends next to nothing", transient=True)


def stream(course: Transfer[S], body: Body) -> None:
    """Receives the rest of a body.

    Raises:
        MirrorError: the body was cut, stalled, too slow or too long. The bytes received stay in the load if a range
            can follow them.
    """
    load = course.load
    size = load.declared.size if load.declared else None
    course.progress(load.size, size)
    try:
        wire = body.wire() if course.direct else None
        if wire is None or size is None:
            _parsed(course, body, size)
        else:
            SocketTransfer(course, body, wire, size).run()
    except MirrorError as error:
        # Bytes that no range can follow are useless, and must not count as progress.
        if is_transient(error) and load.rest is None:
            load.drop()
        raise


def _parsed(course: Transfer[S], body: Body, size: int | None) -> None:
    load, pace = course.load, StallGuard()
    for chunk in gathered(body.chunks()):
        _refuse_more(course, len(chunk), size)
        load.take(chunk)
        course.progress(load.size, size)
        if pace.trickles(len(chunk)) and load.size != size:
            raise course.trickle(body.host)
        if course.rate is not None:
            course.rate.spend(len(chunk))


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


def _refuse_more(course: Transfer[S], count: int, size: int | None) -> None:
    if size is not None and course.load.size + count > size:
        course.load.distrust()
        reason = f"{course.what}: more than the {size} bytes came that storage declared"
        raise TransferError(reason, transient=True)
