"""One body as far as it has come: where it goes, its digests so far, and whether it may go on where it was cut.

Hashing takes longer than receiving, and hashlib lets other threads run meanwhile. So large bodies go through buffers
that are filled by the thread that receives and hashed by two others. The buffers are made once: memory that is new for
every chunk costs more, in page faults, than the bytes in it.
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
    """Hands what is put into its buffers to a hasher, in order.

    Used by one thread: `next`, fill, `hand_over`. The hasher's digests hold once the block has ended, whatever ended
    it, unless that was a RuntimeError: a hash that fails ends the block with one, also in the place of another error,
    because nobody may go on with digests that lack bytes.
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
        """Waits until all of it is taken."""
        for lane in self._lanes:
            lane.todo.put(None)
        for lane in self._lanes:
            if lane.thread.ident is not None:
                lane.thread.join()

    @property
    def busy(self) -> float:
        """Seconds that the slowest hash has taken so far: when that is nearly all the time, no line could be faster."""
        return max(lane.busy for lane in self._lanes)

    def next(self) -> memoryview:
        """The buffer whose turn it is, once both hashes are done with what it held before.

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
        """Gives the first `count` bytes of the buffer whose turn it is to the hashes. Raises as `next` does."""
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
    """A thread that takes one digest."""

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
        except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
            self.error = error
            self.done.put(None)


WORTH = 1 << 20
"""Bytes that a try has to bring to count as progress without limit."""

FRUITLESS = 3
"""Requests for a rest in a row that may bring nothing, before the whole is asked for."""

SMALL_STEPS = 100
"""How many tries may bring less than `WORTH` each and still count: a byte a try would go on for ever."""


class Sink(Protocol):
    """Where a body goes. `discard` forgets what came; it may be called at any time, also twice."""

    def write(self, data: bytes | memoryview) -> None:
        """Takes the next bytes; what they lie in holds others soon after."""

    def discard(self) -> None:
        """Removes what was written."""


@runtime_checkable
class KeepingSink(Protocol):
    """A sink that can outlive a fetch that did not end well. One that cannot is discarded then."""

    def keep(self) -> None:
        """Leaves what was written for a later fetch to go on with."""


@runtime_checkable
class ScratchSink(Protocol):
    """A sink on whose disk bytes may wait that came out of order. A body for one that is not comes in order."""

    def beside(self) -> BinaryIO:
        """A new file without a name there, unbuffered."""


S = TypeVar("S", bound=Sink)


@dataclass(frozen=True, slots=True)
class Beginning(Generic[S]):
    """A body whose beginning is here: written to `sink`, taken by `hasher`, `head` its first bytes."""

    sink: S
    hasher: Hasher
    head: bytes
    declared: Declared


class PartialBody(Generic[S]):
    """What has come of one body.

    `record` is the furthest that it ever came, for `progressed`; a restart does not lower it.
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
        """Whether it is to come over one connection, because several went wrong."""

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._hasher.size

    @property
    def digest(self) -> Digest:
        """Of the bytes so far."""
        return self._hasher.digest()

    @property
    def divisible(self) -> bool:
        """Whether ranges of the body may be asked for over several connections."""
        said = self.declared
        able = said is not None and said.resumable and said.size is not None
        return able and self._ranges and not self.alone and isinstance(self.sink, ScratchSink)

    @property
    def rest(self) -> Rest | None:
        """What to ask for; None when the body has to come from its first byte on.

        What is here is not given up by that: only a whole body that comes in its place ends it.
        """
        if self._fruitless >= FRUITLESS or not self._ranges:
            return None
        if self.declared is not None and self.declared.resumable and self.size:
            return Rest(self.size, self.declared)
        return None

    def asked(self, rest: Rest | None) -> None:
        """Takes note of what a request for a rest has brought. A storage may refuse ranges also by silence."""
        if rest is not None:
            self._fruitless = 0 if self.size > rest.start else self._fruitless + 1

    def begin(self, sink: S, declared: Declared) -> None:
        """A new body."""
        self.sink, self.declared = sink, declared
        self._hasher = Hasher(others_of(declared))

    def take(self, chunk: bytes | memoryview) -> None:
        """Takes the next bytes."""
        if self.sink is None:
            raise ValueError("no body has begun")
        # Written first: a write that fails must not leave the digests ahead of the file.
        self.sink.write(chunk)
        self._hasher.update(chunk)
        if len(self.head) < HEAD:
            self.head = (self.head + bytes(chunk[:HEAD]))[:HEAD]

    def ring(self) -> HashRing:
        """Buffers for `take_from`; while they are used, `take` must not be, and the digest does not hold."""
        return HashRing(self._hasher)

    def take_from(self, ring: HashRing, count: int) -> None:
        """Takes the next bytes: the first `count` of the ring's buffer whose turn it is."""
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
        """Forgets the body: the next one comes from its first byte on."""
        if self.sink is not None:
            self.sink.discard()
        self.sink, self.declared, self.head, self.kept = None, None, b"", 0
        self._hasher = Hasher()

    def distrust(self) -> None:
        """Forgets the body and asks for no rest any more: storage gives the whole, and no rest of it."""
        self.drop()
        self._ranges = False

    def progressed(self) -> bool:
        """Whether more is here than ever before, so that the next failure is a first one again."""
        grown = self.size - self._record
        if grown <= 0:
            return False
        self._record = self.size
        self._small += grown < WORTH
        return grown >= WORTH or self._small <= SMALL_STEPS

    def leave(self, error: BaseException) -> None:
        """What the fetch ended with decides whether a later one can go on with what is here."""
        sink: object = self.sink
        if isinstance(sink, KeepingSink) and self.size and is_worth_keeping(self.declared, error):
            sink.keep()
            self.sink = None
        else:
            self.drop()


def others_of(declared: Declared) -> tuple[str, ...]:
    """The algorithms to compute beside MD5 and SHA-256."""
    return tuple(name for name in declared.others if name != "sha-256")


def is_worth_keeping(declared: Declared | None, error: BaseException) -> bool:
    """Whether a beginning outlives its fetch.

    Not on a full disk, where its room is needed, and not when it may be what is wrong: bytes that were written to a
    disk that fails, or that do not match.
    """
    if declared is None or not declared.lasting or isinstance(error, (NoSpaceError, IntegrityError)):
        return False
    return isinstance(error, MirrorError) or not isinstance(error, Exception)
