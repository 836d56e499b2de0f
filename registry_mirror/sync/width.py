"""How many files come at once: a few where the processor is the limit, all that may where the line or the disk is.

On a fast line, more threads than the processor has work for only wait for one another; on a slow one, each further
file brings its share.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW = 3
"""A file that is received, one that is hashed, one that is asked for."""

_LOOK = 0.02
_IDLE, _HALF_IDLE, _BUSY = 0.35, 0.65, 0.8
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CORES = 4
"""Cores that one interpreter keeps busy at most: hashing and system calls run beside it, all else one after another."""


def next_width(width: int, busy: float, most: int, cores: float) -> int:
    """How many files are to come at once from now on.

    Args:
        width: how many came at once.
        busy: seconds of the processor that the process took in each second meanwhile.
        most: how many may.
        cores: of the machine, as far as the process may use them; a container may have half a one.
    """
    share = busy / min(cores, _CORES)
    if share < _IDLE:
        return most
    if share < _HALF_IDLE:
        return min(most, width + 1)
    return max(min(FEW, most), width - 1) if share > _BUSY else width


class Width:
    """Lets threads through, in no order. The first ones pass at once."""

    def __init__(self, most: int) -> None:
        self._most, self._cores = most, _share_of_cores()
        self._width, self._used = min(FEW, most), 0
        self._changed = threading.Condition()
        self._since, self._spent = time.monotonic(), time.process_time()

    @contextlib.contextmanager
    def place(self, check: Callable[[], None]) -> Iterator[None]:
        """Waits for a place, and gives it back.

        Args:
            check: called while waiting; may raise.
        """
        with self._changed:
            while self._used >= self._width:
                self._changed.wait(_LOOK)
                check()
                self._look()
            self._used += 1
        try:
            yield
        finally:
            with self._changed:
                self._used -= 1
                self._look()
                self._changed.notify()

    def _look(self) -> None:
        took = time.monotonic() - self._since
        if took < _LOOK:
            return
        spent = time.process_time()
        busy, self._spent, self._since = (spent - self._spent) / took, spent, self._since + took
        self._width = next_width(self._width, busy, self._most, self._cores)
        self._changed.notify_all()


def cores() -> int:
    """How many cores this process may use; a quota is not seen in it."""
    usable: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _share_of_cores() -> float:
    quota = None
    with contextlib.suppress(OSError):
        quota = quota_of(_QUOTA.read_text())
    return min(cores(), quota or cores())


def quota_of(text: str) -> float | None:
    """How much of the processor a container may have, in cores, by its `cpu.max`; None for no limit."""
    words = text.split()
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        return None
    return int(words[0]) / int(words[1])
