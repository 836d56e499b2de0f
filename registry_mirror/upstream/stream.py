"""The bytes of one answer on their way into a load: straight from the socket where that is worth it, else through the
parser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from ..errors import MirrorError, TransferError
from .direct import Direct
from .load import S
from .pace import Pace
from .retry import is_transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .body import Body
    from .crew import Source
    from .load import Load
    from .rate import Rate

_GATHERED = 256 << 10
_WHOLE_READS = (64 << 10, 16 << 10)
"""Bytes that one read brings at most: the client library's own limit, and a record of TLS."""


@dataclass(frozen=True, slots=True)
class Course(Generic[S]):
    """How bytes come.

    Attributes:
        what: the model, for errors.
        progress: told of bytes done and bytes in all after every piece; may raise.
        rate: what they are paid from; None for no limit.
        direct: whether they may come straight from the socket.
        source: where further connections come from; None for none.
    """

    what: str
    load: Load[S]
    progress: Callable[[int, int | None], None]
    rate: Rate | None
    direct: bool
    source: Source | None = None

    def trickle(self, host: str | None) -> TransferError:
        """What to raise for a body that only trickles."""
        return TransferError(f"{self.what}: storage {host} sends next to nothing", transient=True)


def stream(course: Course[S], body: Body) -> None:
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
            Direct(course, body, wire, size).run()
    except MirrorError as error:
        # What cannot be gone on with is no progress, however much of it came.
        if is_transient(error) and load.rest is None:
            load.drop()
        raise


def _parsed(course: Course[S], body: Body, size: int | None) -> None:
    load, pace = course.load, Pace()
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


def _refuse_more(course: Course[S], count: int, size: int | None) -> None:
    if size is not None and course.load.size + count > size:
        course.load.distrust()
        reason = f"{course.what}: more than the {size} bytes came that storage declared"
        raise TransferError(reason, transient=True)
