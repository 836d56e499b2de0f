"""Noticing a body that only trickles: a byte now and then keeps every timeout from ending it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 60.0
"""Seconds."""

LEAST = 64 * 1024
"""Bytes that have to come in each `WINDOW`; slower than the slowest link that anyone mirrors models over."""


class Pace:
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
