"""Fetches ranges of one body over several connections, and limits the connections over all bodies."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Protocol

from ..errors import MirrorError, TransferError
from .retry import is_transient
from .throttle import StallGuard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from .body import Body
    from .pieces import Piece, Pieces
    from .throttle import RateLimit


class ConnectionLimit:
    """Counts connections. A body always gets its first one, and further ones only while fewer than `most` are open."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._used = 0

    def enter(self) -> None:
        """Counts the first connection of a body."""
        with self._lock:
            self._used += 1

    def enter_more(self) -> bool:
        """Counts a further connection if one may be opened. Returns whether it may."""
        with self._lock:
            free = self._used < self.most
            self._used += free
            return free

    def leave(self) -> None:
        """Counts one connection less."""
        with self._lock:
            self._used -= 1

    @property
    def free(self) -> bool:
        """Whether a further connection might be opened."""
        return self._used < self.most

    @property
    def crowded(self) -> bool:
        """Whether more than `most` are open because other bodies have begun: further connections should then end."""
        return self._used > self.most


_STEP = 0.2
_BUFFER = 1 << 20
_FAILURES = 3
_PATIENCE = 2.0


class RangeSource(Protocol):
    """Opens further connections for a body, and files for the bytes that arrive ahead of their turn."""

    @property
    def lines(self) -> ConnectionLimit:
        """Counts the connections of all bodies."""

    @property
    def rate(self) -> RateLimit | None:
        """The rate limit for the bytes received; None for no limit."""

    def pass_on(self) -> None:
        """Stops counting the first connection, because another one has taken its place."""

    def open(self, start: int, end: int, *, fresh: bool) -> contextlib.AbstractContextManager[Body]:
        """Opens a response with exactly the bytes from `start` to before `end`.

        Args:
            fresh: whether to ask for a fresh address; else the address of the first connection is used.

        Raises:
            MirrorError: storage did not give the range. If not transient, it gives no ranges of this body at all.
        """

    def beside(self) -> BinaryIO:
        """A new unnamed file on the same disk as the body."""


class _Ahead:
    """A file that one thread writes and another reads. The last of them to release it closes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._holders = file, 2
        self._lock = threading.Lock()

    def put(self, data: memoryview, at: int) -> None:
        while data:
            count = os.pwrite(self._file.fileno(), data, at)
            data, at = data[count:], at + count

    def get(self, view: memoryview, at: int) -> int:
        return os.preadv(self._file.fileno(), [view], at)

    def let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._file.close()


class RangeFetcher:
    """The threads that fetch pieces of one body. The thread that puts the body together calls `read`."""

    def __init__(self, what: str, source: RangeSource, pieces: Pieces) -> None:
        self._what, self._source, self._pieces = what, source, pieces
        self._changed = threading.Condition()
        self._aheads: dict[Piece, _Ahead] = {}
        self._bodies: set[Body] = set()
        self._threads: list[threading.Thread] = []
        self._wanted, self._working, self._first = 0, 0, True
        self._given_up = 0
        self._closed = False
        self.came = 0
        self.error: Exception | None = None
        """The last error of any thread."""
        self.broken = False
        """Whether fetching ranges of this body failed for a reason that would stop another try as well."""

    @property
    def works(self) -> bool:
        """Whether any thread is running."""
        return self._working > 0

    @property
    def failed(self) -> bool:
        """Whether the rest of the body will not arrive: `broken`, or all threads have ended and some gave up."""
        return self.broken or (self._given_up > 0 and not self.works and self._pieces.remain)

    @property
    def reached(self) -> int:
        """Offset of the end of the last piece that was handed out."""
        return self._pieces.reached

    def grow(self, wanted: int) -> None:
        """Starts threads until `wanted` connections work, including the first one, as far as the limit allows."""
        with self._changed:
            self._wanted = wanted - 1 if self._first else wanted
            # A thread that gave up is not replaced: its replacement would fail in the same way.
            while not self._over and self._working < self._wanted - self._given_up and self._source.lines.enter_more():
                self._start()

    def inherit(self) -> None:
        """Starts a thread in the place of the first connection, which has ended."""
        with self._changed:
            self._first = False
            self._wanted += 1
            self._start()

    @property
    def _over(self) -> bool:
        return self._closed or self.broken or not self._pieces.remain

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="range", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system cannot start another thread
            self._source.lines.leave()
            self.error, self.broken = error, True
            return
        self._working += 1
        self._threads.append(thread)

    def advance(self, piece: Piece, at: int) -> bool:
        """Records that the first connection has read its own piece up to offset `at`.

        Returns:
            Whether bytes of the piece are left.
        """
        with self._changed:
            self._forget_before(at)
            piece.at = min(at, piece.end)
            return piece.left > 0

    def give_back(self, piece: Piece) -> None:
        """Returns a piece, so that another thread can fetch its missing bytes."""
        with self._changed:
            self._pieces.give_back(piece, time.monotonic())

    def read(self, at: int, view: memoryview) -> int:
        """Copies bytes of the body from offset `at` on into `view`, as far as they have arrived.

        Returns:
            Number of bytes; 0 when none arrived for a moment.

        Raises:
            TransferError: no thread is left to fetch them.
            OSError: a thread failed to write to disk, or the bytes cannot be read from it.
        """
        with self._changed:
            self._forget_before(at)
            piece = self._pieces.holding(at)
            here = piece.at - at if piece is not None else 0
            ahead = self._aheads.get(piece) if piece is not None else None
            if ahead is None or piece is None or here <= 0:
                self._refuse_idleness()
                self._changed.wait(_STEP)
                return 0
        return ahead.get(view[:here], at - piece.start)

    def close(self) -> None:
        """Ends all threads and frees the disk space of their files."""
        with self._changed:
            self._closed = True
            bodies = list(self._bodies)
            self._changed.notify_all()
        for body in bodies:
            body.abort()
        until = time.monotonic() + _PATIENCE
        for thread in self._threads:  # a thread that is still connecting may outlast this; it ends by itself
            thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            for ahead in self._aheads.values():
                ahead.let_go()
            self._aheads.clear()

    def _refuse_idleness(self) -> None:
        if self.works:
            return
        if isinstance(self.error, OSError):
            raise self.error
        raise TransferError(f"{self._what}: no connection is left: {self.error or 'all have ended'}", transient=True)

    def _forget_before(self, at: int) -> None:
        for piece in self._pieces.forget_before(at):
            if (ahead := self._aheads.pop(piece, None)) is not None:
                ahead.let_go()

    # -- on the threads -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        failed = 0
        try:
            view = memoryview(bytearray(_BUFFER))
            while failed < _FAILURES and (piece := self._next()) is not None:
                at = piece.at
                try:
                    self._fetch(piece, view, fresh=failed > 0)
                except (MirrorError, OSError) as error:
                    self._note(error)
                    failed = 1 if piece.at - at >= _BUFFER else failed + 1
                finally:
                    self.give_back(piece)
        except Exception as error:  # noqa: BLE001 - a bug, or no memory: the thread that calls `read` must learn of it
            self._note(error)
        finally:
            self._source.lines.leave()
            with self._changed:
                self._working -= 1
                self._given_up += failed >= _FAILURES
                self._changed.notify_all()

    def _note(self, error: Exception) -> None:
        with self._changed:
            self.error = error
            self.broken = self.broken or not (isinstance(error, MirrorError) and is_transient(error))

    def _next(self) -> Piece | None:
        """The next piece; None when this thread should end. Waits while another thread may still return a piece."""
        with self._changed:
            while not self._ends():
                piece = self._pieces.take(time.monotonic())
                if piece is not None:
                    return piece
                if not self._pieces.remain:
                    return None
                self._changed.wait(_STEP)
        return None

    def _ends(self) -> bool:
        spare = self._working > self._wanted or (self._source.lines.crowded and self._working > 1)
        return self._closed or self.broken or spare

    def _fetch(self, piece: Piece, view: memoryview, *, fresh: bool) -> None:
        ahead = _Ahead(self._source.beside())
        with self._changed:
            self._aheads[piece] = ahead
        try:
            with self._source.open(piece.at, piece.end, fresh=fresh) as body, self._known(body):
                self._receive(piece, body, ahead, view)
        finally:
            ahead.let_go()

    @contextlib.contextmanager
    def _known(self, body: Body) -> Iterator[None]:
        with self._changed:
            self._bodies.add(body)
        try:
            yield
        finally:
            with self._changed:
                self._bodies.discard(body)

    def _receive(self, piece: Piece, body: Body, ahead: _Ahead, view: memoryview) -> None:
        wire, pace, rate = body.wire(least=1), StallGuard(), self._source.rate
        if wire is None:
            raise TransferError(f"{self._what}: ranges do not come straight from the socket")
        while (left := piece.left) > 0 and not self._closed and not self.broken:
            count = wire.fill(view[: left if rate is None else min(left, rate.piece)])
            ahead.put(view[:count], piece.at - piece.start)
            with self._changed:
                # The piece may have become shorter in the meantime, because another thread took over its end.
                piece.at += min(count, piece.left)
                self.came += count
                self._changed.notify_all()
            if pace.trickles(count) and piece.left:
                raise TransferError(f"{self._what}: storage {body.host} sends next to nothing", transient=True)
            if rate is not None:
                rate.spend(count)
            if self._source.lines.crowded and self._working > 1:
                return
