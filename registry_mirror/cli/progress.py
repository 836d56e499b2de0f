"""Shows the progress of a sync or a verify: with bars on a terminal, and with plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from ..sync.reporter import Reporter
from ..units import counted, format_duration, format_size
from ..upkeep.verify.record import Watcher
from .render import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVERY = 30.0


@contextlib.contextmanager
def reporter_for(*, quiet: bool) -> Iterator[Reporter]:
    """Shows a sync's progress: a bar for each file, or lines."""
    with _bars(quiet=quiet) as bars:
        yield PlainReporter() if bars is None else BarReporter(bars)


@contextlib.contextmanager
def watcher_for(*, quiet: bool) -> Iterator[Watcher]:
    """Shows a verify's progress: one bar, or lines."""
    with _bars(quiet=quiet) as bars:
        yield PlainWatcher() if bars is None else BarWatcher(bars)


@contextlib.contextmanager
def _bars(*, quiet: bool) -> Iterator[Any]:
    """Progress bars on standard error, which disappear at the end; None if it is not a terminal, or if `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        yield bars


def _print_above(bars: Any, line: str) -> None:
    bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


class PlainReporter(Reporter):
    """Prints a line for each file, and one every half minute during a long transfer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[str, tuple[str, int | None]] = {}
        self._said = time.monotonic()
        self._left = 0

    def queued(self, files: int) -> None:
        with self._lock:
            self._left += files

    def started(self, key: str, name: str, size: int | None) -> None:
        with self._lock:
            self._sizes[key] = (name, size)

    def advanced(self, key: str, done: int) -> None:
        now = time.monotonic()
        if now - self._said < _EVERY:
            return
        with self._lock:
            self._said = now
            name, size = self._sizes.get(key, ("", None))
            left = self._left
        of = f" of {format_size(size)}" if size else ""
        self.say(f"{printable(name)}: {format_size(done)}{of}; {counted(left, 'file')} to go")

    def finished(self, key: str, name: str, how: str) -> None:
        with self._lock:
            self._left -= 1
            self._sizes.pop(key, None)
            self._said = time.monotonic()
        self.say(f"{printable(name)}: {how}")

    def say(self, line: str) -> None:
        click.echo(line, err=True)


class BarReporter(Reporter):
    """Shows a bar for each file that is being fetched."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}
        self._listing: Any = None

    def listed(self, models: int) -> None:
        if self._listing is None:
            self._listing = self._bars.add_task("", total=None)
        self._bars.update(self._listing, description=f"{counted(models, 'model')} listed")

    def started(self, key: str, name: str, size: int | None) -> None:
        if key in self._tasks:  # a second try starts from zero
            self._bars.reset(self._tasks[key], total=size)
        else:
            self._tasks[key] = self._bars.add_task(printable(name)[:40], total=size)

    def advanced(self, key: str, done: int) -> None:
        self._bars.update(self._tasks[key], completed=done)

    def finished(self, key: str, name: str, how: str) -> None:
        if key in self._tasks:
            self._bars.remove_task(self._tasks.pop(key))
        self.say(f"{printable(name)}: {how}")

    def say(self, line: str) -> None:
        _print_above(self._bars, line)


class PlainWatcher(Watcher):
    """Prints a line every half minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = self._said = time.monotonic()
        self._files = self._size = self._looked = self._done = 0

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
    """Shows one bar for all bytes."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._bar: Any = bars.add_task("verify", total=None)
        self._lock = threading.Lock()
        self._files = self._looked = 0

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
        _print_above(self._bars, printable(line))
