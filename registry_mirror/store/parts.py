"""Part files in `incoming/`. Each has one owner; the file's name holds the owner's host and process id.

A part file of weights has a sidecar that describes the whole object, so that a later fetch can continue it (`adopt`).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from ..files import (
    begin_writing_back,
    create_exclusive,
    host_name,
    make_directory,
    no_space_named,
    part_name,
    unlink_in_folder,
    unnamed,
    write_all,
)
from ..model import parse_time, utc_now
from .sidecar import SIDECAR, read_origin, sidecar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..files import Modes
    from .sidecar import Origin


def process_lives(pid: int) -> bool:
    """Returns whether a process of this host runs, under any account. A zombie counts as gone: it writes no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return _process_facts(pid)[:1] not in (["Z"], ["X"])


def process_age(pid: int) -> float | None:
    """Returns the seconds since a process of this host began; None where the system does not tell.

    For a process that this account may not inspect, returns the seconds since the boot, which is the upper bound.
    """
    if sys.platform != "linux":
        return None
    facts = _process_facts(pid)
    began = int(facts[19]) / os.sysconf("SC_CLK_TCK") if len(facts) > 19 else 0.0
    # The kernel dates processes by the clock since the boot, which does not change when the wall clock is set.
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return age if age >= 0 else None


def _process_facts(pid: int) -> list[str]:
    """Returns the fields of Linux's /proc/PID/stat (see proc(5)) after the name, the state first; empty on errors."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return []


def is_as_old(process_age: float | None, silence: float) -> bool:
    """Returns whether a process existed when a file was last written. A younger one only reuses the writer's id.

    Args:
        process_age: seconds since the process began; None when unknown, which counts as old enough.
        silence: seconds since the file was written.
    """
    return process_age is None or process_age >= silence


ABANDONED_AFTER = 7 * 86400.0
"""Seconds without a write after which any file counts as abandoned, whoever owns it."""

KEPT_FOR = 7 * 86400.0
"""Seconds that a part file is kept for a later fetch to continue, counted from the last time it grew."""

SILENT_AFTER = 600.0
"""Seconds without a write after which any part file may be adopted. A stalled writer gives up long before."""

_WRITE_BACK = 16 << 20
"""Bytes written after which the system is told to begin writing them to the disk."""

_written_here: set[str] = set()
"""Names of the part files that this process has open. Its id alone does not tell, as it may have closed some."""

_TEMPORARY = re.compile(
    r"\.(catalog\.sqlite|run\.json|run\.holder\.json|FORMAT|CACHEDIR\.TAG)\.\d+\.[0-9a-f]+\.tmp(-journal)?"
)
_PART = re.compile(r"(?P<what>.+)\.(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>\d{1,18})\.[0-9a-f]+\.part(\.json)?")


class Part:
    """A new, empty part file in `incoming/` that nobody else writes to.

    Args:
        origin: describes the whole object. It is written to the sidecar before the first byte, so that a later process
            can continue the part file. Without an origin the part file is useless once its process is gone.
    """

    def __init__(self, folder: Path, modes: Modes, what: str = "weights", origin: Origin | None = None) -> None:
        self.path = folder / part_name(what)
        self.modes = modes
        self._origin = origin
        self._written = self._begun = 0
        make_directory(folder, modes)
        with no_space_named(self.path.name):
            self._stream: BinaryIO | None = create_exclusive(self.path, modes.file, exact=modes.exact)
            _written_here.add(self.path.name)
            if origin is not None:
                self._write_origin(origin)

    def _write_origin(self, origin: Origin) -> None:
        try:
            with create_exclusive(sidecar(self.path), self.modes.file, exact=self.modes.exact) as stream:
                write_all(stream, origin.encode())
        except BaseException:
            self.discard()
            raise

    @property
    def stream(self) -> BinaryIO:
        """The open file.

        Raises:
            ValueError: the file is closed.
        """
        if self._stream is None:
            raise ValueError(f"{self.path.name} is closed")
        return self._stream

    def write(self, data: bytes | memoryview) -> None:
        """Appends bytes to the file.

        Raises:
            NoSpaceError: the disk is full.
        """
        with no_space_named(self.path.name):
            write_all(self.stream, data)
        self._written += len(data)
        if self._written - self._begun >= _WRITE_BACK:
            begin_writing_back(self.stream, self._begun, self._written - self._begun)
            self._begun = self._written

    def beside(self) -> BinaryIO:
        """Opens a file without a name in the same folder, for bytes that arrive out of order.

        Raises:
            NoSpaceError: the disk is full.
        """
        with no_space_named(self.path.name):
            return unnamed(self.path.parent)

    def close(self) -> None:
        """Closes the file and removes its sidecar. Call it after renaming the file."""
        if self._close():
            _unlink(sidecar(self.path))

    def discard(self) -> None:
        """Closes and removes the file and its sidecar. May be called twice."""
        if self._close():
            _unlink(self.path)
            _unlink(sidecar(self.path))

    def keep(self) -> None:
        """Closes the file and leaves it for a later fetch to adopt. Without an origin, discards it."""
        if self._origin is None:
            self.discard()
        else:
            self._close()

    def _close(self) -> bool:
        if self._stream is None:
            return False
        self._stream.close()
        self._stream = None
        _written_here.discard(self.path.name)
        return True


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        unlink_in_folder(path)


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """A file in `incoming/`.

    Attributes:
        host, pid: the owner's; None when the file's name does not hold them.
        age: seconds since the file was written. A modification time in the future means that a clock was or is wrong;
            then this is the number of seconds until that time.
    """

    path: Path
    host: str | None
    pid: int | None
    age: float
    size: int = 0


def abandoned(found: IncomingFile, here: str, alive: Callable[[int], bool]) -> bool:
    """Returns whether nobody writes to a file any more: its process on this host is gone, or it is a week old.

    The week applies to a running process as well, because its id may belong to another process by now.
    """
    gone = found.host == here and found.pid is not None and not alive(found.pid)
    return gone or found.age > ABANDONED_AFTER


def is_abandoned(found: IncomingFile) -> bool:
    """Returns `abandoned` for a file, with the name and the processes of this host."""
    return abandoned(found, host_name(), lambda _: lives(found))


def adoptable(found: IncomingFile, here: str, alive: Callable[[int], bool]) -> bool:
    """Returns whether another fetch may continue a part file: its process on this host is gone, or it is silent.

    Silence for `SILENT_AFTER` must suffice where the process cannot be checked: a killed container restarts under
    another host name, or with another process under the old id. A writer that still lives loses its part file and
    tries again.
    """
    if found.pid is None:
        return False
    return found.age > SILENT_AFTER or (found.host == here and not alive(found.pid))


def is_adoptable(found: IncomingFile) -> bool:
    """Returns `adoptable` for a file, with the name and the processes of this host."""
    return adoptable(found, host_name(), lambda _: lives(found))


def lives(found: IncomingFile) -> bool:
    """Returns whether the process that owns a file runs, assuming that it is of this host.

    For a part file of this very process, returns whether the process still has the file open.
    """
    if found.pid == os.getpid() and sidecar(found.path).exists():
        return found.path.name in _written_here
    if found.pid is None or not process_lives(found.pid):
        return False
    # Compare ages only when the file is silent for minutes: the clock of a network share may differ from this host's,
    # and a clock that was just set makes a file look old until the next write.
    return found.age <= SILENT_AFTER or is_as_old(process_age(found.pid), found.age)


def coming_elsewhere(folder: Path) -> list[tuple[int, int]]:
    """Returns, for each part file that other processes are writing, its bytes so far and the bytes of the whole."""
    several = incoming_files(folder, lambda name: name.startswith("weights.") and not is_written_here(name))
    coming = []
    for found in several:
        if found.pid is not None and not found.path.name.endswith(SIDECAR) and not is_adoptable(found):
            origin = read_origin(sidecar(found.path))
            coming.append((found.size, max(found.size, origin.size if origin else 0)))
    return coming


def sweep(folder: Path) -> list[Path]:
    """Removes abandoned files of ours and returns their paths. Keeps part files that a later fetch can continue.

    A writer that was wrongly taken for dead fails and tries again.
    """
    removed = []
    for found in incoming_files(folder, is_ours):
        if is_abandoned(found) and not _is_kept(found):
            with contextlib.suppress(OSError):
                unlink_in_folder(found.path)
                removed.append(found.path)
                unlink_in_folder(sidecar(found.path))
    return removed


def _is_kept(found: IncomingFile) -> bool:
    """Returns whether an abandoned file is a part file that a later fetch can continue, or the sidecar of any."""
    if found.path.name.endswith(SIDECAR):
        return found.path.with_name(found.path.name.removesuffix(SIDECAR)).exists()
    origin = read_origin(sidecar(found.path))
    return origin is not None and 0 < found.size <= origin.size and not has_not_helped(found, origin)


def has_grown(found: IncomingFile, origin: Origin) -> bool:
    """Returns whether a part file has grown since a fetch last adopted it."""
    return origin.kept is not None and found.size > origin.kept


def has_not_helped(found: IncomingFile, origin: Origin) -> bool:
    """Returns whether a part file has not grown for a week and so should be removed.

    Each adoption copies the file and so renews its modification time. That time counts alone only when the file has
    grown since then; otherwise `started_at` in the sidecar counts as well, and a missing or future one counts as old.
    """
    if has_grown(found, origin):
        return found.age > KEPT_FOR
    began = parse_time(origin.started_at)
    since = None if began is None else (utc_now() - began).total_seconds()
    return since is None or not -SILENT_AFTER <= since <= KEPT_FOR or found.age > KEPT_FOR


def sweep_root(root: Path) -> None:
    """Removes temporary files of the root's own files that killed writers left before the rename.

    The caller holds the run lock, so no other run is about to rename one of them.
    """
    for leftover in root.glob(".*.tmp*"):
        if _TEMPORARY.fullmatch(leftover.name):
            with contextlib.suppress(OSError):
                leftover.unlink()


def is_ours(name: str) -> bool:
    """Returns whether a name in `incoming/` has the form that this package gives its files."""
    return _PART.fullmatch(name) is not None


def is_written_here(name: str) -> bool:
    """Returns whether this process has a part file of this name open."""
    return name in _written_here


def incoming_files(folder: Path, among: Callable[[str], bool] = lambda _name: True) -> list[IncomingFile]:
    """Returns the files in `incoming/`, sorted by name.

    Args:
        among: is called with a file's name and returns whether to include the file.
    """
    found = []
    try:
        names = sorted(filter(among, os.listdir(folder)))
    except FileNotFoundError:
        return []
    for name in names:
        with contextlib.suppress(OSError):  # the file may have been published or removed since
            path = folder / name
            owner = _PART.fullmatch(path.name)
            status = path.lstat()
            host, pid = (owner["host"], int(owner["pid"])) if owner else (None, None)
            found.append(IncomingFile(path, host, pid, abs(time.time() - status.st_mtime), status.st_size))
    return found
