"""The run lock, which keeps two syncs of one root apart, and the publish lock.

Some file systems grant a lock to everybody. So the locks are only a courtesy: without them, blobs, index and catalog
still stay correct.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from typing import TYPE_CHECKING

import filelock

from ..errors import ConfigurationError, LockedError, NoSpaceError
from ..files import create_exclusive, host_name, no_space, read_regular, write_atomically
from ..log import logger
from ..model import format_time, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..files import Modes
    from .layout import Layout

_log = logger()
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})
_POLL = 0.2
_PATIENCE = 30.0


@contextlib.contextmanager
def run_lock(layout: Layout, modes: Modes, *, wait: Callable[[float], None] | None = None) -> Iterator[None]:
    """Holds the run lock. The kernel releases it when the process ends, also after kill -9.

    Args:
        wait: called with the seconds to wait while another run holds the lock; may raise. None means not to wait.

    Raises:
        LockedError: another run holds the lock. The message names its host, process and start.
        ConfigurationError: the lock file cannot be written.
        NoSpaceError: the disk is full.
    """
    lock = _lock(layout.run_lock)
    _acquire(lock, layout, modes, wait)
    try:
        _sign(layout, modes)
        yield
    finally:
        with contextlib.suppress(OSError):
            layout.run_holder.unlink()
        lock.release()


def _sign(layout: Layout, modes: Modes) -> None:
    """Writes who holds the lock to a file. A failure, as on a full disk, is ignored: the run itself will report it."""
    holder = {"host": host_name(), "pid": os.getpid(), "started_at": format_time(utc_now())}
    with contextlib.suppress(OSError, NoSpaceError):
        write_atomically(layout.run_holder, json.dumps(holder).encode(), modes)


def _acquire(lock: filelock.BaseFileLock, layout: Layout, modes: Modes, wait: Callable[[float], None] | None) -> None:
    while True:
        try:
            _take(lock, layout.run_lock, modes)
        except filelock.Timeout:
            if wait is None:
                raise LockedError(
                    f"another run holds the root {layout.root}: {holder_of(layout)}",
                    hint="let it finish, or wait for it with --wait",
                ) from None
            wait(_POLL)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                _log.warning(
                    "%s: this file system has no locks (%s); going on without", layout.run_lock, error.strerror
                )
                return
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise no_space(f"while writing {layout.run_lock}", error) from error
            raise ConfigurationError(
                f"cannot lock {layout.run_lock}: {error.strerror or error}",
                hint="the account that syncs needs the right to write to the root",
            ) from error
        else:
            return


def holder_of(layout: Layout) -> str:
    """Returns in words who holds the run lock, as read from its file."""
    try:
        holder = json.loads(read_regular(layout.run_holder))
        return f"process {holder['pid']} on {holder['host']} since {holder['started_at']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not said its name yet"


@contextlib.contextmanager
def publish_lock(layout: Layout, modes: Modes, wait: Callable[[float], None]) -> Iterator[None]:
    """Keeps two writers from publishing the index at once. A writer holds this lock during one publication.

    If the lock is not free within half a minute, its holder hangs or the file system reports it wrongly. The writer
    then publishes without the lock. A rename replaces the index in any case, so at worst the next publication repeats
    the work.

    Args:
        wait: called with the seconds to wait; may raise.
    """
    lock = _lock(layout.publish_lock)
    until = time.monotonic() + _PATIENCE
    held = False
    while not held and time.monotonic() < until:
        try:
            _take(lock, layout.publish_lock, modes)
            held = True
        except filelock.Timeout:
            wait(_POLL)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            break
    try:
        yield
    finally:
        if held:
            lock.release()


def _lock(path: Path) -> filelock.BaseFileLock:
    """Returns a lock object without the fallback to a soft lock: our lock file always exists, so that would block."""
    return filelock.FileLock(path, thread_local=False, fallback_to_soft=False)


def _take(lock: filelock.BaseFileLock, path: Path, modes: Modes) -> None:
    """Takes the lock, or raises `filelock.Timeout`. Creates the file first, as the library would set its own mode."""
    with contextlib.suppress(FileExistsError):
        create_exclusive(path, modes.file, exact=modes.exact).close()
    lock.acquire(timeout=0)
