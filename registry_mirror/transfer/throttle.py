"""The least and the most that comes in a second: a body that only trickles is ended, and a limit is kept."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


WINDOW = 60.0
"""Seconds."""

LEAST = 64 * 1024
"""Bytes that have to come in each `WINDOW`; slower than the slowest link that anyone mirrors models over."""


class StallGuard:
    """Counts what comes, window by window."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._came = 0

    def trickles(self, count: int) -> bool:
        """Takes note of so many bytes more; whether too few came in the window that they end."""
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
    """What comes is paid for in time. Threads share it.

    Args:
        limit: bytes a second.
        clock: seconds.
        sleep: waits so many seconds; may raise to end the work.
    """

    def __init__(
        self, limit: int, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._sleep, self._clock = limit, sleep, clock
        self._lock = threading.Lock()
        self._paid_until = clock()

    @property
    def piece(self) -> int:
        """Bytes to read at a time: a tenth of a second's, so that no connection holds the line for long."""
        return max(_SMALLEST, min(_LARGEST, int(self._limit * _SHARE)))

    def spend(self, count: int) -> None:
        """Takes note of so many bytes, and returns when they and all before them are paid for."""
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now) + count / self._limit
            wait = self._paid_until - now
        if wait > 0:
            self._sleep(wait)
