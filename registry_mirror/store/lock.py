"""The run lock: politeness between two syncs of one root.

Some file systems grant a lock to everybody, so nothing depends on it: blobs, index and catalog stay right without.
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
    """Holds the root for one run. The kernel frees it with the process, also after kill -9.

    Args:
        wait: called with seconds to wait while another run holds it; may raise. None: do not wait.

    Raises:
        LockedError: another run holds the root; the message names its host, process and start.
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
    """Says who holds the lock. That it cannot, on a full disk, is no reason not to run: the run says what is wrong."""
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
    """Who holds the run lock, as far as its file tells."""
    try:
        holder = json.loads(read_regular(layout.run_holder))
        return f"process {holder['pid']} on {holder['host']} since {holder['started_at']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not said its name yet"


@contextlib.contextmanager
def publish_lock(layout: Layout, modes: Modes, wait: Callable[[float], None]) -> Iterator[None]:
    """Keeps two writers from publishing the index at once. Held for the length of one publish.

    One that is held for half a minute is held by something that hangs, or by a file system that lies: then publishing
    goes on without. The index is replaced by a rename either way; at worst the next publication does the work again.

    Args:
        wait: called with seconds to wait; may raise.
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
    """No soft lock where the file system has none: a file that is there for good would then be held for good."""
    return filelock.FileLock(path, thread_local=False, fallback_to_soft=False)


def _take(lock: filelock.BaseFileLock, path: Path, modes: Modes) -> None:
    """Takes the lock, or raises `filelock.Timeout`. The library would insist on the mode of a file that it makes."""
    with contextlib.suppress(FileExistsError):
        create_exclusive(path, modes.file, exact=modes.exact).close()
    lock.acquire(timeout=0)
