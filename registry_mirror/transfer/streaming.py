"""The bytes of one answer on their way into a body: straight from the socket where that is worth it, else through the
parser.

A large body straight from the socket comes over one connection or over several. The first one begins. Where it keeps
nobody busy, others take pieces from behind it, and it ends where theirs begin.
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
    """One answer's body on its way into a load.

    Args:
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
        """Takes all of it.

        Raises:
            MirrorError: it was cut, stalled or trickled; what came in order is in the load.
        """
        try:
            with self._load.ring() as ring:
                if not self._own(ring) and self._crew is not None:
                    self._follow(ring, self._crew)
        except (NoSpaceError, OSError) as error:
            if self._crew is None:
                raise
            # What lies beside the body takes room as well: it is worth a try without.
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
        """What the first connection brings. False when the rest is for others to bring."""
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
        """Whether the first connection has come to the pieces of others. Where they fail it goes on by itself."""
        if self._crew is None or self._mine is None:
            return False
        return not self._crew.advance(self._mine, self._load.size) and not self._crew.failed

    def _follow(self, ring: HashRing, crew: RangeFetcher) -> None:
        """What others bring. One of their connections takes the place of the first one."""
        assert self._course.source is not None  # noqa: S101 - there is no crew without
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
"""Bytes that one read brings at most: the client library's own limit, and a record of TLS."""


@dataclass(frozen=True, slots=True)
class Transfer(Generic[S]):
    """How bytes come.

    Attributes:
        what: the model, for errors.
        progress: told of bytes done and bytes in all after every piece; may raise.
        rate: what they are paid from; None for no limit.
        direct: whether they may come straight from the socket.
        source: where further connections come from; None for none.
    """

    what: str
    load: PartialBody[S]
    progress: Callable[[int, int | None], None]
    rate: RateLimit | None
    direct: bool
    source: RangeSource | None = None

    def trickle(self, host: str | None) -> TransferError:
        """What to raise for a body that only trickles."""
        return TransferError(f"{self.what}: storage {host} sends next to nothing", transient=True)


def stream(course: Transfer[S], body: Body) -> None:
    """Takes what is left of a body.

    Raises:
        MirrorError: it was cut, stalled, trickled or went on for too long. What came is kept where more can follow it.
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
        # What cannot be gone on with is no progress, however much of it came.
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
    """The same bytes in fewer pieces, each to be used before the next one is asked for.

    Writing and hashing let other threads run, and to get the interpreter back from them takes longer than either. A
    chunk of another length than one read brings at most shows that no more was there, so that nothing is held back
    while a slow line is waited for.
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
