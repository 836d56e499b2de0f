"""Decides how many connections a body gets, and which of them fetches which bytes. Pure: the caller passes the time.

A body starts with one connection, then gets as many as allowed, and goes back to one if they are not faster. Pieces
are handed out from front to back, so that bytes out of order are never far ahead of those in order. Towards the end,
fast connections take over parts of slow ones' pieces, so that one slow connection does not delay the whole body.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WORTH = 16 << 20
"""A body gets further connections only if at least this many of its bytes are not yet assigned to one."""

_FIRST_LOOK = 0.1
_TRIAL = 1.0
_GAIN = 1.25
_BUSY = 0.25


@dataclass(slots=True)
class ConnectionGrowth:
    """Decides how many connections one body should have.

    Args:
        most: the most connections that the body may have.
        now: seconds on any clock that only goes forward.

    Attributes:
        wanted: how many connections it should have.
    """

    most: int
    now: float
    wanted: int = 1
    _came: int = 0
    _busy: float = 0.0
    _alone: float = 0.0
    _tried: bool = False

    def look(self, now: float, came: int, left: int, busy: float) -> int:
        """Updates and returns the number of connections wanted.

        Args:
            now: seconds, on the clock of `self.now`.
            came: bytes received so far, over all connections.
            left: bytes that are not yet assigned to a connection.
            busy: seconds that hashing took so far. When hashing is the bottleneck, more connections do not help.
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
"""Limits of a piece's size, in bytes."""

_LEAST = 1 << 20
_SETTLED = 1.0
_MUCH_SLOWER = 8


def span_of(rest: int, connections: int, handed_out: int) -> int:
    """Bytes of the next piece: small at the start and the end, large in between.

    Hashing goes in order, so it waits for the first piece and for the last. In between, each piece costs a new
    connection.

    Args:
        rest: bytes that are not handed out yet.
        connections: how many connections share the body.
        handed_out: number of pieces so far.
    """
    grown = SMALLEST << min(handed_out // connections, 8)
    return max(SMALLEST, min(LARGEST, grown, rest // (2 * connections)))


@dataclass(eq=False, slots=True)
class Piece:
    """Bytes `start` to before `end` of a body, received up to `at`. `end` may be lowered at any time.

    `since` is when the current owner began, in seconds; `owned` tells whether a connection is fetching the piece.
    """

    start: int
    end: int
    since: float
    at: int = 0
    owned: bool = True

    def __post_init__(self) -> None:
        self.at = max(self.at, self.start)

    @property
    def left(self) -> int:
        """Number of bytes not received yet."""
        return self.end - self.at

    def rate(self, now: float) -> float:
        """Bytes a second since `since`."""
        return (self.at - self.start) / max(now - self.since, 1e-3)


@dataclass(slots=True)
class Pieces:
    """A body of `size` bytes, split into consecutive pieces. `reached` is the end of the last piece."""

    size: int
    connections: int
    pieces: list[Piece] = field(default_factory=list)
    reached: int = 0
    handed_out: int = 0
    best: float = 0.0

    @property
    def remain(self) -> bool:
        """Whether any byte has not been received yet."""
        return self.reached < self.size or any(piece.left for piece in self.pieces)

    def begin(self, at: int, now: float) -> Piece:
        """Makes the piece of the first connection, which has received the body up to offset `at`."""
        self.reached = at
        return self._new(now)

    def take(self, now: float) -> Piece | None:
        """The next piece for an idle connection: a returned one, a new one, or the end of another connection's piece.

        Returns:
            The piece; None when there is nothing to do at the moment.
        """
        given_back = next((piece for piece in self._ordered() if not piece.owned and piece.left), None)
        if given_back is not None:
            given_back.owned, given_back.since = True, now
            return given_back
        if self.reached < self.size:
            return self._new(now)
        return self._taken_over(now)

    def give_back(self, piece: Piece, now: float) -> None:
        """Returns a piece: its missing bytes, if any, become a new piece for another connection."""
        if not piece.left:
            self.best = max(self.best, piece.rate(now))
        rest, piece.end, piece.owned = Piece(piece.at, piece.end, now, owned=False), piece.at, False
        if rest.left:
            self.pieces.append(rest)

    def holding(self, at: int) -> Piece | None:
        """The piece that contains the offset `at`; None when no piece does."""
        return next((piece for piece in self.pieces if piece.start <= at < piece.end), None)

    def forget_before(self, at: int) -> list[Piece]:
        """Removes and returns the pieces that end at or before the offset `at`."""
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
        """Splits a piece: it keeps this share of its missing bytes, and the others become a new piece."""
        end, piece.end = piece.end, piece.at + int(piece.left * share)
        return self._add(Piece(piece.end, end, now))
