"""One partly received body: its sink, its digests so far, and whether it can be continued where it was cut.

Hashing takes longer than receiving, and hashlib releases the interpreter's lock. So the receiving thread fills
buffers, and one thread per digest hashes them. The buffers are allocated once: new memory for every chunk would cost
more, in page faults, than receiving the bytes.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Generic, Protocol, TypeVar, runtime_checkable

from ..digests import HEAD, Hasher
from ..errors import IntegrityError, MirrorError, NoSpaceError, TransferError
from .verdicts import Rest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..digests import Digest
    from .declared import Declared


BUFFERS = 4
SIZE = 1 << 20
"""Bytes of one buffer."""


class HashRing:
    """A ring of buffers whose contents are hashed in order on other threads. A context manager.

    One thread uses it: it calls `next`, fills the buffer, and calls `hand_over`. The digests are complete when the
    block has ended, even by an error. If a hash fails, the block ends with a RuntimeError, which replaces any other
    Exception: the digests then lack bytes, so no caller may use them.
    """

    def __init__(self, hasher: Hasher, buffers: int = BUFFERS, size: int = SIZE) -> None:
        self._hasher = hasher
        self._buffers = [memoryview(bytearray(size)) for _ in range(buffers)]
        self._turn = self._taken = 0
        self._lanes = [_Lane(update) for update in hasher.updates]

    def __enter__(self) -> Self:
        try:
            for lane in self._lanes:
                lane.thread.start()
        except RuntimeError as error:
            self._end()
            raise TransferError(
                f"hashing cannot begin: {error}", hint="this account or container has used up its number of processes"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        if error is None or isinstance(error, Exception):
            self._refuse_failure()

    def _end(self) -> None:
        """Waits until the threads have hashed every buffer, and ends them."""
        for lane in self._lanes:
            lane.todo.put(None)
        for lane in self._lanes:
            if lane.thread.ident is not None:
                lane.thread.join()

    @property
    def busy(self) -> float:
        """Seconds that the slowest hash has worked so far. If it works all the time, more connections do not help."""
        return max(lane.busy for lane in self._lanes)

    def next(self) -> memoryview:
        """Returns the next buffer to fill, after waiting until all hashes have finished with its last contents.

        Raises:
            RuntimeError: a hash failed.
        """
        self._refuse_failure()
        if self._turn - self._taken == len(self._buffers):
            for lane in self._lanes:
                lane.done.get()
            self._refuse_failure()
            self._taken += 1
        return self._buffers[self._turn % len(self._buffers)]

    def hand_over(self, count: int) -> None:
        """Queues the first `count` bytes of the buffer that `next` returned for hashing. Raises as `next` does."""
        self._refuse_failure()
        filled = self._buffers[self._turn % len(self._buffers)][:count]
        self._turn += 1
        self._hasher.size += count
        for lane in self._lanes:
            lane.todo.put(filled)

    def _refuse_failure(self) -> None:
        for lane in self._lanes:
            if lane.error is not None:
                raise RuntimeError(f"hashing failed: {type(lane.error).__name__}: {lane.error}") from lane.error


class _Lane:
    """A thread that computes one digest."""

    def __init__(self, update: Callable[[memoryview], object]) -> None:
        self._update = update
        self.busy = 0.0
        self.error: BaseException | None = None
        self.todo: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="hash", daemon=True)

    def _work(self) -> None:
        try:
            while (data := self.todo.get()) is not None:
                began = time.perf_counter()
                self._update(data)
                self.busy += time.perf_counter() - began
                self.done.put(None)
        except BaseException as error:  # noqa: BLE001 - `_refuse_failure` raises it on the other thread
            self.error = error
            self.done.put(None)


WORTH = 1 << 20
"""A try that brings at least this many bytes always counts as progress."""

FRUITLESS = 3
"""After this many range requests in a row without any bytes, the whole object is asked for."""

SMALL_STEPS = 100
"""How many tries below `WORTH` count as progress. Without a limit, a fetch of one byte per try would never end."""


class Sink(Protocol):
    """Where a body is written to."""

    def write(self, data: bytes | memoryview) -> None:
        """Writes the next bytes. It must not keep `data`: the caller reuses the buffer."""

    def discard(self) -> None:
        """Removes everything that was written. May be called at any time, and more than once."""


@runtime_checkable
class KeepingSink(Protocol):
    """A sink that can keep its bytes after a failed fetch. Other sinks are discarded then."""

    def keep(self) -> None:
        """Keeps what was written, for a later fetch to continue."""


@runtime_checkable
class ScratchSink(Protocol):
    """A sink with disk space for bytes that arrive out of order. A body for another sink uses a single connection."""

    def beside(self) -> BinaryIO:
        """A new unnamed file on the sink's disk, unbuffered."""


S = TypeVar("S", bound=Sink)


@dataclass(frozen=True, slots=True)
class Beginning(Generic[S]):
    """The beginning of a body: `sink` has it written, `hasher` has hashed it, and `head` is its first bytes."""

    sink: S
    hasher: Hasher
    head: bytes
    declared: Declared


class PartialBody(Generic[S]):
    """One body as far as it has been received.

    `_record` is the most bytes that were ever received, for `progressed`; starting again does not lower it.
    """

    def __init__(self, begun: Beginning[S] | None = None) -> None:
        self.sink = begun.sink if begun else None
        self.declared = begun.declared if begun else None
        self.head = begun.head if begun else b""
        self.kept = begun.hasher.size if begun else 0
        self._hasher = begun.hasher if begun else Hasher()
        self._record = self._hasher.size
        self._small = 0
        self._ranges = True
        self._fruitless = 0
        self.alone = False
        """Whether to use a single connection, because fetching over several has failed."""

    @property
    def size(self) -> int:
        """Number of bytes received so far."""
        return self._hasher.size

    @property
    def digest(self) -> Digest:
        """The digests of the bytes received so far."""
        return self._hasher.digest()

    @property
    def divisible(self) -> bool:
        """Whether ranges of the body may be fetched over several connections."""
        said = self.declared
        able = said is not None and said.resumable and said.size is not None
        return able and self._ranges and not self.alone and isinstance(self.sink, ScratchSink)

    @property
    def rest(self) -> Rest | None:
        """The range to ask for next; None when the whole object must be asked for.

        Asking for the whole object does not discard the bytes received so far: only a response with the whole does.
        """
        if self._fruitless >= FRUITLESS or not self._ranges:
            return None
        if self.declared is not None and self.declared.resumable and self.size:
            return Rest(self.size, self.declared)
        return None

    def asked(self, rest: Rest | None) -> None:
        """Counts range requests that brought no bytes: some storages do not refuse ranges, they send nothing.

        Args:
            rest: the range that was asked for; None for the whole object.
        """
        if rest is not None:
            self._fruitless = 0 if self.size > rest.start else self._fruitless + 1

    def begin(self, sink: S, declared: Declared) -> None:
        """Starts a new body, which is written to `sink`."""
        self.sink, self.declared = sink, declared
        self._hasher = Hasher(others_of(declared))

    def take(self, chunk: bytes | memoryview) -> None:
        """Writes and hashes the next bytes."""
        if self.sink is None:
            raise ValueError("no body has begun")
        # Write first: if a write fails, the digests must not be ahead of the file.
        self.sink.write(chunk)
        self._hasher.update(chunk)
        if len(self.head) < HEAD:
            self.head = (self.head + bytes(chunk[:HEAD]))[:HEAD]

    def ring(self) -> HashRing:
        """The buffers for `take_from`. Until its block ends, `take` must not be called and `digest` is incomplete."""
        return HashRing(self._hasher)

    def take_from(self, ring: HashRing, count: int) -> None:
        """Writes the first `count` bytes of the ring's current buffer, and hands them over for hashing."""
        if self.sink is None:
            raise ValueError("no body has begun")
        if not count:
            return
        filled = ring.next()[:count]
        self.sink.write(filled)
        if len(self.head) < HEAD:
            self.head = (self.head + bytes(filled[:HEAD]))[:HEAD]
        ring.hand_over(count)

    def drop(self) -> None:
        """Discards the body; the next request asks for the whole object."""
        if self.sink is not None:
            self.sink.discard()
        self.sink, self.declared, self.head, self.kept = None, None, b"", 0
        self._hasher = Hasher()

    def distrust(self) -> None:
        """Discards the body and asks for no more ranges, because this storage does not answer them correctly."""
        self.drop()
        self._ranges = False

    def progressed(self) -> bool:
        """Whether more bytes are here than ever before; the retry policy then counts failures from one again."""
        grown = self.size - self._record
        if grown <= 0:
            return False
        self._record = self.size
        self._small += grown < WORTH
        return grown >= WORTH or self._small <= SMALL_STEPS

    def leave(self, error: BaseException) -> None:
        """Ends the fetch after `error`: keeps the bytes for a later fetch if they are worth it, else drops them."""
        sink: object = self.sink
        if isinstance(sink, KeepingSink) and self.size and is_worth_keeping(self.declared, error):
            sink.keep()
            self.sink = None
        else:
            self.drop()


def others_of(declared: Declared) -> tuple[str, ...]:
    """The algorithms to compute in addition to MD5 and SHA-256."""
    return tuple(name for name in declared.others if name != "sha-256")


def is_worth_keeping(declared: Declared | None, error: BaseException) -> bool:
    """Whether the beginning of a body is kept after its fetch failed with `error`.

    Not when the disk is full, because its space is needed. Not when the bytes may be bad: after an I/O error or a
    digest that did not match.
    """
    if declared is None or not declared.lasting or isinstance(error, (NoSpaceError, IntegrityError)):
        return False
    return isinstance(error, MirrorError) or not isinstance(error, Exception)
