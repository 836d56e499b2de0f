"""Files on their way in. Each has one owner, whose host and process its name tells."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from ..files import create_exclusive, host_name, make_directory, no_space_named, part_name, write_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..files import Modes

ABANDONED_AFTER = 7 * 86400.0
"""Seconds after which the file of another host, whose processes cannot be asked for, is taken for abandoned."""

_TEMPORARY = re.compile(
    r"\.(catalog\.sqlite|run\.json|run\.holder\.json|FORMAT|CACHEDIR\.TAG)\.\d+\.[0-9a-f]+\.tmp(-journal)?"
)
_PART = re.compile(r"(?P<what>.+)\.(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>\d+)\.[0-9a-f]+\.part")


class Part:
    """A new, empty file in `incoming/` that nobody else writes to."""

    def __init__(self, folder: Path, modes: Modes, what: str = "weights") -> None:
        self.path = folder / part_name(what)
        self.modes = modes
        make_directory(folder, modes)
        with no_space_named(self.path.name):
            self._stream: BinaryIO | None = create_exclusive(self.path, modes.file, exact=modes.exact)

    @property
    def stream(self) -> BinaryIO:
        """The open file.

        Raises:
            ValueError: it is closed.
        """
        if self._stream is None:
            raise ValueError(f"{self.path.name} is closed")
        return self._stream

    def write(self, data: bytes) -> None:
        """Takes the next bytes.

        Raises:
            NoSpaceError: the disk is full.
        """
        with no_space_named(self.path.name):
            write_all(self.stream, data)

    def close(self) -> None:
        """Closes the file and leaves it where it is; for the one who has renamed it."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def discard(self) -> None:
        """Removes the file. May be called twice."""
        if self._stream is not None:
            self.close()
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()


@dataclass(frozen=True, slots=True)
class Found:
    """A file in `incoming/`. `host` and `pid` are None when its name does not tell."""

    path: Path
    host: str | None
    pid: int | None
    age: float


def abandoned(found: Found, here: str, alive: Callable[[int], bool]) -> bool:
    """Whether nobody writes to a file any more: its process on this host is gone, or it is a week old elsewhere."""
    if found.host == here and found.pid is not None:
        return not alive(found.pid)
    return found.age > ABANDONED_AFTER


def sweep(folder: Path) -> list[Path]:
    """Removes abandoned files and says which. A writer that was wrongly taken for dead fails and tries again."""
    here, removed = host_name(), []
    for found in listing(folder):
        if abandoned(found, here, process_lives):
            with contextlib.suppress(OSError):
                found.path.unlink()
                removed.append(found.path)
    return removed


def sweep_root(root: Path) -> None:
    """Removes what killed writers left beside the root's own files: copies that had not got their name yet.

    The caller holds the run lock, so nobody else is about to name one of them.
    """
    for leftover in root.glob(".*.tmp*"):
        if _TEMPORARY.fullmatch(leftover.name):
            with contextlib.suppress(OSError):
                leftover.unlink()


def listing(folder: Path) -> list[Found]:
    """What lies in `incoming/`."""
    found = []
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    for path in entries:
        with contextlib.suppress(OSError):  # it was published or removed in between
            owner = _PART.fullmatch(path.name)
            age = time.time() - path.stat().st_mtime
            found.append(Found(path, owner["host"] if owner else None, int(owner["pid"]) if owner else None, age))
    return found


def process_lives(pid: int) -> bool:
    """Whether a process of this host runs, be it somebody else's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
