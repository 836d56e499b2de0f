"""Ending work from outside: a signal in the daemon, Ctrl-C in a sync."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ..errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

_TICK = 1.0


class Stop:
    """A flag that every wait and every chunk looks at.

    `tick` is called about once a second by whoever waits: the daemon tells its watchdog that way that it is alive.
    """

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        self._event = threading.Event()
        self.tick = tick

    def set(self) -> None:
        """Asks for the end."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return self._event.is_set()

    def check(self) -> None:
        """Raises Interrupted when the end was asked for."""
        if self._event.is_set():
            raise Interrupted("interrupted")

    def wait(self, seconds: float) -> None:
        """Waits, or raises Interrupted as soon as the end is asked for."""
        until = time.monotonic() + seconds
        while True:
            self.tick()
            left = until - time.monotonic()
            if self._event.wait(min(_TICK, max(left, 0.0))):
                raise Interrupted("interrupted")
            if left <= 0:
                return
