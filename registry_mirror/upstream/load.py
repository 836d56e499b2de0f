"""One body as far as it has come: where it goes, its digests so far, and whether it may go on where it was cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Generic, Protocol, TypeVar, runtime_checkable

from ..digests import HEAD, Hasher
from ..errors import IntegrityError, MirrorError, NoSpaceError
from .ranges import Rest
from .ring import Ring

if TYPE_CHECKING:
    from ..digests import Digest
    from .declared import Declared

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
class Keeping(Protocol):
    """A sink that can outlive a fetch that did not end well. One that cannot is discarded then."""

    def keep(self) -> None:
        """Leaves what was written for a later fetch to go on with."""


@runtime_checkable
class Spacious(Protocol):
    """A sink on whose disk bytes may wait that came out of order. A body for one that is not comes in order."""

    def beside(self) -> BinaryIO:
        """A new file without a name there, unbuffered."""


S = TypeVar("S", bound=Sink)


@dataclass(frozen=True, slots=True)
class Begun(Generic[S]):
    """A body whose beginning is here: written to `sink`, taken by `hasher`, `head` its first bytes."""

    sink: S
    hasher: Hasher
    head: bytes
    declared: Declared


class Load(Generic[S]):
    """What has come of one body.

    `record` is the furthest that it ever came, for `progressed`; a restart does not lower it.
    """

    def __init__(self, begun: Begun[S] | None = None) -> None:
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
        return able and self._ranges and not self.alone and isinstance(self.sink, Spacious)

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

    def ring(self) -> Ring:
        """Buffers for `take_from`; while they are used, `take` must not be, and the digest does not hold."""
        return Ring(self._hasher)

    def take_from(self, ring: Ring, count: int) -> None:
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
        if isinstance(sink, Keeping) and self.size and is_worth_keeping(self.declared, error):
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
