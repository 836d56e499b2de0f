"""How many connections a body gets, and which of them fetches which bytes. Pure: nothing here waits, and time is given.

A body has one connection, then as many as there may be, then one again unless they brought more. Pieces are handed out
from the front to the back, so that what comes out of order is never far ahead of what is in order. Towards the end the
fast take over from the slow, so that one slow connection among many holds up nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WORTH = 16 << 20
"""Bytes that have to be left of a body."""

_FIRST_LOOK = 0.1
_TRIAL = 1.0
_GAIN = 1.25
_BUSY = 0.25


@dataclass(slots=True)
class ConnectionGrowth:
    """Watches one body.

    Args:
        most: connections that it may have.
        now: seconds.

    Attributes:
        wanted: how many it should have.
    """

    most: int
    now: float
    wanted: int = 1
    _came: int = 0
    _busy: float = 0.0
    _alone: float = 0.0
    _tried: bool = False

    def look(self, now: float, came: int, left: int, busy: float) -> int:
        """What to have from now on.

        Args:
            came: bytes so far, over all connections.
            left: bytes that nobody has.
            busy: seconds that hashing took so far. Where it takes most of the time, no line could be faster.
        """
        took = now - self.now
        if self._tried or self.most == 1 or took < (_FIRST_LOOK if self.wanted == 1 else _TRIAL):
            return self.wanted
        rate, share = (came - self._came) / took, (busy - self._busy) / took
        self.now, self._came, self._busy = now, came, busy
        if self.wanted > 1:
            self._tried = True
            if rate < _GAIN * self._alone:
                self.wanted = 1
        elif left < WORTH:
            self._tried = True
        elif came and share < _BUSY:
            self._alone, self.wanted = rate, self.most
        return self.wanted


SMALLEST, LARGEST = 4 << 20, 32 << 20
"""Bytes of a piece."""

_LEAST = 1 << 20
_SETTLED = 1.0
_MUCH_SLOWER = 8


def span_of(rest: int, connections: int, handed_out: int) -> int:
    """How long the next piece is: short at first and towards the end, because hashing goes in order and waits for the
    first piece to come and for the last; long in between, where a new connection for each costs most.
    """
    grown = SMALLEST << min(handed_out // connections, 8)
    return max(SMALLEST, min(LARGEST, grown, rest // (2 * connections)))


@dataclass(eq=False, slots=True)
class Piece:
    """Bytes `start` to `end` of a body, of which those before `at` are here. `end` may come closer at any time."""

    start: int
    end: int
    since: float
    at: int = 0
    owned: bool = True

    def __post_init__(self) -> None:
        self.at = max(self.at, self.start)

    @property
    def left(self) -> int:
        """Bytes still to come."""
        return self.end - self.at

    def rate(self, now: float) -> float:
        """Bytes a second since it was begun."""
        return (self.at - self.start) / max(now - self.since, 1e-3)


@dataclass(slots=True)
class Pieces:
    """A body of `size` bytes in pieces that follow one another from the first one's start on up to `reached`."""

    size: int
    connections: int
    pieces: list[Piece] = field(default_factory=list)
    reached: int = 0
    handed_out: int = 0
    best: float = 0.0

    @property
    def remain(self) -> bool:
        """Whether any byte is still to come."""
        return self.reached < self.size or any(piece.left for piece in self.pieces)

    def begin(self, at: int, now: float) -> Piece:
        """The piece of the connection that has been there all along."""
        self.reached = at
        return self._new(now)

    def take(self, now: float) -> Piece | None:
        """The next piece for a connection with nothing to do: one that was given back, a new one, or a part of one that
        another is slow with; None when there is none, for now.
        """
        given_back = next((piece for piece in self._ordered() if not piece.owned and piece.left), None)
        if given_back is not None:
            given_back.owned, given_back.since = True, now
            return given_back
        if self.reached < self.size:
            return self._new(now)
        return self._taken_over(now)

    def give_back(self, piece: Piece, now: float) -> None:
        """Lets another fetch what has not come of a piece; nothing, when all of it has."""
        if not piece.left:
            self.best = max(self.best, piece.rate(now))
        rest, piece.end, piece.owned = Piece(piece.at, piece.end, now, owned=False), piece.at, False
        if rest.left:
            self.pieces.append(rest)

    def holding(self, at: int) -> Piece | None:
        """The piece that has, or will have, the byte `at`."""
        return next((piece for piece in self.pieces if piece.start <= at < piece.end), None)

    def forget_before(self, at: int) -> list[Piece]:
        """Drops the pieces that end there or before, and gives them back."""
        over = [piece for piece in self.pieces if piece.end <= at]
        self.pieces = [piece for piece in self.pieces if piece.end > at]
        return over

    def _ordered(self) -> list[Piece]:
        return sorted(self.pieces, key=lambda piece: piece.start)

    def _new(self, now: float) -> Piece:
        span = span_of(self.size - self.reached, self.connections, self.handed_out)
        self.handed_out += 1
        return self._add(Piece(self.reached, min(self.reached + span, self.size), now))

    def _add(self, piece: Piece) -> Piece:
        self.pieces.append(piece)
        self.reached = max(self.reached, piece.end)
        return piece

    def _taken_over(self, now: float) -> Piece | None:
        running = [piece for piece in self.pieces if piece.owned and piece.left]
        settled = [piece for piece in running if now - piece.since >= _SETTLED]
        fastest = max([self.best, *(piece.rate(now) for piece in running)])
        slow = [piece for piece in settled if piece.rate(now) * _MUCH_SLOWER < fastest or not piece.rate(now)]
        if slow:
            return self._cut(max(slow, key=lambda piece: piece.left), 0.0, now)
        wide = max(running, key=lambda piece: piece.left, default=None)
        if wide is None or wide.left < 2 * _LEAST:
            return None
        mine = fastest or 1.0
        theirs = wide.rate(now) if wide in settled else mine
        return self._cut(wide, theirs / (mine + theirs), now)

    def _cut(self, piece: Piece, share: float, now: float) -> Piece:
        """Leaves a piece that share of what is left of it; the rest is a new one."""
        end, piece.end = piece.end, piece.at + int(piece.left * share)
        return self._add(Piece(piece.end, end, now))
