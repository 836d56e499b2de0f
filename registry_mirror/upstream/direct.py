"""A large body straight from the socket, over one connection or over several.

The first connection begins. Where it keeps nobody busy, others take pieces from behind it, and it ends where theirs
begin.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic

from ..errors import NetworkError, NoSpaceError, TransferError
from .crew import Crew
from .growth import Growth
from .load import S
from .pace import Pace
from .pieces import Pieces

if TYPE_CHECKING:
    from .body import Body
    from .pieces import Piece
    from .ring import Ring
    from .stream import Course
    from .wire import Wire


class Direct(Generic[S]):
    """One answer's body on its way into a load.

    Args:
        size: bytes of the whole body.
    """

    def __init__(self, course: Course[S], body: Body, wire: Wire, size: int) -> None:
        self._course, self._load, self._body, self._wire, self._size = course, course.load, body, wire, size
        self._crew: Crew | None = None
        self._mine: Piece | None = None
        self._own_bytes = 0
        most = course.source.lines.most if course.source is not None and self._load.divisible else 1
        self._growth = Growth(most, time.monotonic())

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

    def _own(self, ring: Ring) -> bool:
        """What the first connection brings. False when the rest is for others to bring."""
        pace = Pace()
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

    def _step(self, ring: Ring, pace: Pace) -> None:
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

    def _follow(self, ring: Ring, crew: Crew) -> None:
        """What others bring. One of their connections takes the place of the first one."""
        assert self._course.source is not None  # noqa: S101 - there is no crew without
        self._body.abort()
        self._course.source.pass_on()
        crew.inherit()
        while self._load.size < self._size:
            if crew.broken:
                raise TransferError(f"{self._course.what}: its ranges are not to be had: {crew.error}", transient=True)
            self._take(ring, crew.read(self._load.size, ring.next()))

    def _take(self, ring: Ring, count: int) -> None:
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
            crew = self._crew = Crew(self._course.what, source, pieces)
        if crew is not None:
            crew.grow(wanted)
