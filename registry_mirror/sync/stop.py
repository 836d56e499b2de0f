"""Ends work from outside: by a signal in the daemon, by Ctrl-C in a sync.

A signal only sets a flag. An exception raised in a signal handler could strike anywhere, even inside a database
transaction. So every wait checks the flag several times a second.
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
"""Seconds between two checks of the flag."""


class Stop:
    """The flag. It is not a `threading.Event`, because setting one in a signal handler can deadlock on its own lock.

    Every wait calls `tick` several times a second. The daemon tells its watchdog that way that it is alive.
    """

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        self._set = False
        self.tick = tick

    def set(self) -> None:
        """Sets the flag."""
        self._set = True

    def is_set(self) -> bool:
        """Returns whether the flag is set."""
        return self._set

    def check(self) -> None:
        """Raises Interrupted when the flag is set."""
        if self._set:
            raise Interrupted("interrupted")

    def wait(self, seconds: float) -> None:
        """Waits so many seconds. Raises Interrupted soon after the flag is set."""
        until = time.monotonic() + seconds
        while True:
            self.tick()
            self.check()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(STEP, left))

    def on_signals(self) -> None:
        """Makes SIGINT and SIGTERM set the flag. A second signal ends the process at once."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._set:
            os._exit(Interrupted.exit_code)
        self._set = True
