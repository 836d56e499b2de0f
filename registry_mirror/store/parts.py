"""Files on their way in. Each has one owner, whose host and process its name tells.

A part of weights has a sidecar that says what it is a part of, so that a later fetch can go on with it (`adopt`).
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
    """Whether a process of this host runs, be it somebody else's. One that nobody has waited for yet writes no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return _process_facts(pid)[:1] not in (["Z"], ["X"])


def process_age(pid: int) -> float | None:
    """Seconds for which a process of this host has run at most; None where the system does not tell.

    One that this account may not look at began after the boot like any other.
    """
    if sys.platform != "linux":
        return None
    facts = _process_facts(pid)
    began = int(facts[19]) / os.sysconf("SC_CLK_TCK") if len(facts) > 19 else 0.0
    # By the clock that counts from the boot, as the kernel dates processes: no wall clock that is set changes it.
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return age if age >= 0 else None


def _process_facts(pid: int) -> list[str]:
    """What Linux says of a process, from its state on: the fields of proc(5)'s `stat` after the name."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return []


def is_as_old(process_age: float | None, silence: float) -> bool:
    """Whether a process that runs was there when a file was last written; one that began later has the writer's number.

    Args:
        process_age: seconds; None where nothing tells, which speaks for it.
        silence: seconds since the file was written.
    """
    return process_age is None or process_age >= silence


ABANDONED_AFTER = 7 * 86400.0
"""Seconds of silence after which any file is taken for abandoned, whoever it seems to belong to."""

KEPT_FOR = 7 * 86400.0
"""Seconds that a part is kept for a later fetch to go on with, since it last grew."""

SILENT_AFTER = 600.0
"""Seconds of silence after which any part may be adopted; a stalled writer gives up long before."""

_WRITE_BACK = 16 << 20
"""Bytes after which the disk is told to begin."""

_written_here: set[str] = set()
"""Names of the parts that this process has open: its own id says nothing about those that it has let go."""

_TEMPORARY = re.compile(
    r"\.(catalog\.sqlite|run\.json|run\.holder\.json|FORMAT|CACHEDIR\.TAG)\.\d+\.[0-9a-f]+\.tmp(-journal)?"
)
_PART = re.compile(r"(?P<what>.+)\.(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>\d{1,18})\.[0-9a-f]+\.part(\.json)?")


class Part:
    """A new, empty file in `incoming/` that nobody else writes to.

    Args:
        origin: what it will be a part of. It is written beside the file before the first byte, and lets the part
            outlive its process; without it, the part is worth nothing once its process is gone.
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
            ValueError: it is closed.
        """
        if self._stream is None:
            raise ValueError(f"{self.path.name} is closed")
        return self._stream

    def write(self, data: bytes | memoryview) -> None:
        """Takes the next bytes.

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
        """A file without a name, for what comes before its turn.

        Raises:
            NoSpaceError: the disk is full.
        """
        with no_space_named(self.path.name):
            return unnamed(self.path.parent)

    def close(self) -> None:
        """Closes the file; for the one who has renamed it."""
        if self._close():
            _unlink(sidecar(self.path))

    def discard(self) -> None:
        """Removes the file. May be called twice."""
        if self._close():
            _unlink(self.path)
            _unlink(sidecar(self.path))

    def keep(self) -> None:
        """Closes the file and leaves it for a later fetch to adopt; one without an origin is discarded."""
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
        host, pid: of its owner; None when its name does not tell.
        age: seconds since it was written. Where its time is still to come, a clock was wrong then or is wrong now, and
            nobody has written to it since: the seconds until then.
    """

    path: Path
    host: str | None
    pid: int | None
    age: float
    size: int = 0


def abandoned(found: IncomingFile, here: str, alive: Callable[[int], bool]) -> bool:
    """Whether nobody writes to a file any more: its process on this host is gone, or nothing came for a week.

    The week holds for a process that lives as well: nobody can say for sure that it is not another one by now.
    """
    gone = found.host == here and found.pid is not None and not alive(found.pid)
    return gone or found.age > ABANDONED_AFTER


def is_abandoned(found: IncomingFile) -> bool:
    """The same, of a file as it is here and now."""
    return abandoned(found, host_name(), lambda _: lives(found))


def adoptable(found: IncomingFile, here: str, alive: Callable[[int], bool]) -> bool:
    """Whether another fetch may go on with a part: its process on this host is gone, or nothing came for minutes.

    Silence has to do where a process cannot be asked for: a container that was killed comes back as another host, or
    with somebody else under the old number. A writer that lives after all loses its part and tries again.
    """
    if found.pid is None:
        return False
    return found.age > SILENT_AFTER or (found.host == here and not alive(found.pid))


def is_adoptable(found: IncomingFile) -> bool:
    """The same, of a file as it is here and now."""
    return adoptable(found, host_name(), lambda _: lives(found))


def lives(found: IncomingFile) -> bool:
    """Whether a file's process runs, when it is one of this host. A part of this very process knows it is written."""
    if found.pid == os.getpid() and sidecar(found.path).exists():
        return found.path.name in _written_here
    if found.pid is None or not process_lives(found.pid):
        return False
    # Only of a file that is silent for minutes: the clock of a share may be another than this host's, and one that has
    # just been set makes a file look old until it is written to again.
    return found.age <= SILENT_AFTER or is_as_old(process_age(found.pid), found.age)


def coming_elsewhere(folder: Path) -> list[tuple[int, int]]:
    """The parts of weights that other processes write at this moment: bytes that are here, and bytes of the whole."""
    several = listing(folder, lambda name: name.startswith("weights.") and not is_written_here(name))
    coming = []
    for found in several:
        if found.pid is not None and not found.path.name.endswith(SIDECAR) and not is_adoptable(found):
            origin = read_origin(sidecar(found.path))
            coming.append((found.size, max(found.size, origin.size if origin else 0)))
    return coming


def sweep(folder: Path) -> list[Path]:
    """Removes abandoned files of ours and says which; a part that a later fetch can go on with is kept for a week.

    A writer that was wrongly taken for dead fails and tries again.
    """
    removed = []
    for found in listing(folder, is_ours):
        if is_abandoned(found) and not _is_kept(found):
            with contextlib.suppress(OSError):
                unlink_in_folder(found.path)
                removed.append(found.path)
                unlink_in_folder(sidecar(found.path))
    return removed


def _is_kept(found: IncomingFile) -> bool:
    """Whether a file of a dead process is a part to go on with, or the sidecar of one."""
    if found.path.name.endswith(SIDECAR):
        return found.path.with_name(found.path.name.removesuffix(SIDECAR)).exists()
    origin = read_origin(sidecar(found.path))
    return origin is not None and 0 < found.size <= origin.size and not has_not_helped(found, origin)


def has_grown(found: IncomingFile, origin: Origin) -> bool:
    """Whether a part has got bytes since a fetch last went on with it."""
    return origin.kept is not None and found.size > origin.kept


def has_not_helped(found: IncomingFile, origin: Origin) -> bool:
    """Whether a part is given up: nothing has come to it for a week.

    Its own time says so only where it has grown since it was last gone on with, which makes a new file of it each time;
    else the sidecar does. A date that is still to come, or none, is as good as an old one.
    """
    if has_grown(found, origin):
        return found.age > KEPT_FOR
    began = parse_time(origin.started_at)
    since = None if began is None else (utc_now() - began).total_seconds()
    return since is None or not -SILENT_AFTER <= since <= KEPT_FOR or found.age > KEPT_FOR


def sweep_root(root: Path) -> None:
    """Removes what killed writers left beside the root's own files: copies that had not got their name yet.

    The caller holds the run lock, so nobody else is about to name one of them.
    """
    for leftover in root.glob(".*.tmp*"):
        if _TEMPORARY.fullmatch(leftover.name):
            with contextlib.suppress(OSError):
                leftover.unlink()


def is_ours(name: str) -> bool:
    """Whether a name in `incoming/` is one that this package gives."""
    return _PART.fullmatch(name) is not None


def is_written_here(name: str) -> bool:
    """Whether this process has a part of this name open."""
    return name in _written_here


def listing(folder: Path, among: Callable[[str], bool] = lambda _name: True) -> list[IncomingFile]:
    """What lies in `incoming/`.

    Args:
        among: says by its name whether a file is looked at.
    """
    found = []
    try:
        names = sorted(filter(among, os.listdir(folder)))
    except FileNotFoundError:
        return []
    for name in names:
        with contextlib.suppress(OSError):  # it was published or removed in between
            path = folder / name
            owner = _PART.fullmatch(path.name)
            status = path.lstat()
            host, pid = (owner["host"], int(owner["pid"])) if owner else (None, None)
            found.append(IncomingFile(path, host, pid, abs(time.time() - status.st_mtime), status.st_size))
    return found
