"""Limits on a transfer's speed: a body that arrives too slowly is ended, and a maximum rate is kept."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


WINDOW = 60.0
"""Seconds over which the speed is measured."""

LEAST = 64 * 1024
"""Bytes that must arrive in each `WINDOW`. Any link that somebody mirrors models over is faster."""


class StallGuard:
    """Counts the bytes received in each window."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._came = 0

    def trickles(self, count: int) -> bool:
        """Counts `count` more bytes. Returns True if a window has just ended with too few bytes."""
        self._came += count
        now = self._clock()
        if now - self._began < WINDOW:
            return False
        too_few = self._came < LEAST * (now - self._began) / WINDOW
        self._began, self._came = now, 0
        return too_few


_SHARE = 0.1
_SMALLEST, _LARGEST = 4 << 10, 1 << 20


class RateLimit:
    """Keeps the threads that share it below a common rate.

    Args:
        limit: bytes a second.
        sleep: waits a number of seconds; may raise to end the work.
        clock: returns seconds.
    """

    def __init__(
        self, limit: int, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._sleep, self._clock = limit, sleep, clock
        self._lock = threading.Lock()
        self._paid_until = clock()

    @property
    def piece(self) -> int:
        """Bytes to read at a time: a tenth of a second's, so that connections take turns often."""
        return max(_SMALLEST, min(_LARGEST, int(self._limit * _SHARE)))

    def spend(self, count: int) -> None:
        """Counts `count` bytes, and sleeps until these and all earlier bytes fit the rate."""
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now) + count / self._limit
            wait = self._paid_until - now
        if wait > 0:
            self._sleep(wait)
