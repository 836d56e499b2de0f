"""A line that others need as well: no more than so many bytes a second, over all connections together."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARE = 0.1
_SMALLEST, _LARGEST = 4 << 10, 1 << 20


class Rate:
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
