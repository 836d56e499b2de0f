"""Buffers that go round: filled by the thread that receives, hashed by two others.

Hashing takes longer than receiving, and hashlib lets other threads run meanwhile. The buffers are made once: memory
that is new for every chunk costs more, in page faults, than the bytes in it.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from ..errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..digests import Hasher

BUFFERS = 4
SIZE = 1 << 20
"""Bytes of one buffer."""


class Ring:
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
