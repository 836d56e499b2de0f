"""Telling a person, or a log, how a verify goes on."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from ..units import counted, format_duration, format_size
from ..upkeep.verify.watcher import Watcher
from .progress import bars, printable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_EVERY = 30.0


def watcher_for(*, quiet: bool) -> PlainWatcher | BarWatcher:
    """A bar on a terminal; plain lines into a log."""
    return BarWatcher() if sys.stderr.isatty() and not quiet else PlainWatcher()


class PlainWatcher(Watcher):
    """A line every half minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = self._said = time.monotonic()
        self._files = self._size = self._looked = self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def planned(self, files: int, size: int) -> None:
        self._files, self._size = files, size

    def looked(self) -> None:
        with self._lock:
            self._looked += 1

    def advanced(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._said < _EVERY:
                return
            self._said = now
            files = f"{self._looked} of {counted(self._files, 'file')}"
            done = f"{files}, {format_size(self._done)} of {format_size(self._size)}"
        self.say(f"{done}, after {format_duration(now - self._began)}")

    def say(self, line: str) -> None:
        click.echo(printable(line), err=True)


class BarWatcher(Watcher):
    """One bar for all bytes, on a terminal."""

    def __init__(self) -> None:
        self._bars = bars()
        self._bar: Any = self._bars.add_task("verify", total=None)
        self._lock = threading.Lock()
        self._files = self._looked = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def planned(self, files: int, size: int) -> None:
        self._files = files
        self._bars.update(self._bar, total=size, description=f"0 of {counted(files, 'file')}")

    def looked(self) -> None:
        with self._lock:
            self._looked += 1
            self._bars.update(self._bar, description=f"{self._looked} of {counted(self._files, 'file')}")

    def advanced(self, count: int) -> None:
        self._bars.update(self._bar, advance=count)

    def say(self, line: str) -> None:
        self._bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
