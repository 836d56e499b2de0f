"""Looking at many blobs, several at a time: hashing lets go of Python's lock, so threads use every core."""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from ..errors import Interrupted
from .look import glance, study
from .plan import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..index.entries import BlobEntry
    from ..store.layout import Layout
    from ..sync.stop import Stop
    from .look import Finding
    from .reporter import Watcher

_STEP = 0.2
_GRACE = 5.0
_AT_ONCE = 8
"""Looks that are handed out for each thread: a list of a million blobs must not become a million futures."""


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

    def findings(self, blobs: Sequence[BlobEntry]) -> Iterator[list[Finding]]:
        """What was found, as it comes; a list is empty when nothing came for a moment. Blobs left out were not done."""
        coming = iter(blobs)
        running: set[Future[Finding | None]] = set()
        executor = ThreadPoolExecutor(self._workers, thread_name_prefix="verify")
        try:
            while True:
                if not self._over():
                    for blob in itertools.islice(coming, self._workers * _AT_ONCE - len(running)):
                        running.add(executor.submit(self._look, blob))
                if not running:
                    return
                done, running = wait(running, timeout=_STEP, return_when=FIRST_COMPLETED)
                self._stop.tick()
                yield [found for each in done if (found := each.result()) is not None]
                if self._stop.is_set():
                    running = self._abandoned(running)
        finally:
            self._ending.set()
            executor.shutdown(wait=False, cancel_futures=True)

    def _abandoned(self, running: set[Future[Finding | None]]) -> set[Future[Finding | None]]:
        """Waits for those that end soon; a read that hangs on a mount is not waited for."""
        for each in list(running):
            if each.cancel():
                running.discard(each)
        done, _ = wait(running, timeout=_GRACE)
        return done

    def _over(self) -> bool:
        return self._stop.is_set() or (self._time_is_up() and self._done > 0)

    def _time_is_up(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _look(self, blob: BlobEntry) -> Finding | None:
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


def cores() -> int:
    """How many cores this process may use."""
    usable: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
