"""Looking at many blobs, several at a time: hashing lets go of Python's lock, so threads use every core."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING

from ...environment import cores
from ...errors import Interrupted
from .look import glance, study
from .plan import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ...model import BlobRecord
    from ...store.layout import Layout
    from ...sync.stop import Stop
    from .look import Finding
    from .watcher import Watcher

_STEP = 0.2
_GRACE = 5.0


class _TimeIsUp(Exception):  # noqa: N818 - no error: a reason to stop
    """The time limit has passed."""


class Scan:
    """Looks at blobs in their order, until they are done, the time is up or the end is asked for.

    Args:
        seconds: the time limit. One blob is finished whatever it takes: with a limit shorter than that, a large one
            would be begun by every run and finished by none.
        workers: threads; default: as many as this process may use cores.
    """

    def __init__(
        self,
        layout: Layout,
        watcher: Watcher,
        stop: Stop,
        *,
        quick: bool = False,
        md5: bool = False,
        seconds: float | None = None,
        workers: int | None = None,
    ) -> None:
        self._layout, self._watcher, self._stop = layout, watcher, stop
        self._quick, self._md5 = quick, md5
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._workers = workers or cores()
        self._done = 0
        self._ending = threading.Event()

    def findings(self, blobs: Sequence[BlobRecord]) -> Iterator[list[Finding]]:
        """What was found, as it comes; a list is empty when nothing came for a moment. Blobs left out were not done."""
        coming = _Shared(blobs)
        found: queue.SimpleQueue[Finding | BaseException] = queue.SimpleQueue()
        threads = [threading.Thread(target=self._work, args=(coming, found), daemon=True) for _ in range(self._workers)]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                self._stop.tick()
                yield _taken(found, _STEP)
                if self._stop.is_set():
                    self._let_end(threads)
                    break
            yield _taken(found, 0)
        finally:
            self._ending.set()

    def _let_end(self, threads: Sequence[threading.Thread]) -> None:
        """Waits for what ends soon; a read that hangs on a mount is not waited for."""
        until = time.monotonic() + _GRACE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, coming: _Shared, found: queue.SimpleQueue[Finding | BaseException]) -> None:
        """What a thread does: one blob after another. A fault of ours ends the scan where it is seen."""
        try:
            while not self._over() and (blob := coming.take()) is not None:
                finding = self._look(blob)
                if finding is not None:
                    found.put(finding)
        except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
            found.put(error)

    def _over(self) -> bool:
        return self._stop.is_set() or (self._time_is_up() and self._done > 0)

    def _time_is_up(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _look(self, blob: BlobRecord) -> Finding | None:
        try:
            self._advance(0)
            path = self._layout.blobs / name_of(blob)
            found = glance(path, blob) if self._quick else study(path, blob, md5=self._md5, advance=self._advance)
        except (_TimeIsUp, Interrupted):
            return None
        self._done += 1
        self._watcher.looked()
        return found

    def _advance(self, count: int) -> None:
        if self._ending.is_set() or self._stop.is_set():
            raise Interrupted("interrupted")
        if self._done > 0 and self._time_is_up():
            raise _TimeIsUp
        if count:
            self._watcher.advanced(count)


class _Shared:
    """A list that several threads take from, in its order."""

    def __init__(self, blobs: Iterable[BlobRecord]) -> None:
        self._coming = iter(blobs)
        self._lock = threading.Lock()

    def take(self) -> BlobRecord | None:
        """The next one; None at the end."""
        with self._lock:
            return next(self._coming, None)


def _taken(found: queue.SimpleQueue[Finding | BaseException], timeout: float) -> list[Finding]:
    """What lies in the queue, after at most `timeout` seconds without anything."""
    taken: list[Finding] = []
    with contextlib.suppress(queue.Empty):
        each = found.get(timeout=timeout) if timeout else found.get_nowait()
        while True:
            if isinstance(each, BaseException):
                raise each
            taken.append(each)
            each = found.get_nowait()
    return taken
