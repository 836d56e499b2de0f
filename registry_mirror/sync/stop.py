"""Ending work from outside: a signal in the daemon, Ctrl-C in a sync.

A signal only raises a flag. An exception out of a signal handler could land anywhere, in the middle of a database
transaction too; so everything that waits looks at the flag, several times a second.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from ..errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

STEP = 0.2
"""Seconds between two looks at the flag."""


class Stop:
    """The flag. It is no `threading.Event`: setting one in a signal handler can meet its own lock.

    `tick` is called by whoever waits, several times a second: the daemon tells its watchdog that way that it is alive.
    """

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        self._set = False
        self.tick = tick

    def set(self) -> None:
        """Asks for the end."""
        self._set = True

    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return self._set

    def check(self) -> None:
        """Raises Interrupted when the end was asked for."""
        if self._set:
            raise Interrupted("interrupted")

    def wait(self, seconds: float) -> None:
        """Waits, or raises Interrupted soon after the end is asked for."""
        until = time.monotonic() + seconds
        while True:
            self.tick()
            self.check()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(STEP, left))

    def on_signals(self) -> None:
        """Lets SIGINT and SIGTERM ask for the end; a second one ends the process at once, as its sender means."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._set:
            os._exit(Interrupted.exit_code)
        self._set = True
