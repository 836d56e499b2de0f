"""The run lock: politeness between two syncs of one root.

Some file systems grant a lock to everybody, so nothing depends on it: blobs, index and catalog stay right without.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

import filelock

from ..errors import ConfigurationError, LockedError, NoSpaceError
from ..files import host_name, write_atomically
from ..model import format_time, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..files import Modes
    from .layout import Layout

_POLL = 0.5


@contextlib.contextmanager
def run_lock(layout: Layout, modes: Modes, *, wait: Callable[[float], None] | None = None) -> Iterator[None]:
    """Holds the root for one run. The kernel frees it with the process, also after kill -9.

    Args:
        wait: called with seconds to wait while another run holds it; may raise. None: do not wait.

    Raises:
        LockedError: another run holds the root; the message names its host, process and start.
    """
    lock = filelock.FileLock(layout.run_lock, mode=modes.file, thread_local=False)
    _acquire(lock, layout, wait)
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


def _acquire(lock: filelock.BaseFileLock, layout: Layout, wait: Callable[[float], None] | None) -> None:
    while True:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if wait is None:
                raise LockedError(
                    f"another run holds the root {layout.root}: {holder_of(layout)}",
                    hint="let it finish, or wait for it with --wait",
                ) from None
            wait(_POLL)
        except OSError as error:
            raise ConfigurationError(
                f"cannot lock {layout.run_lock}: {error.strerror or error}",
                hint="the account that syncs needs the right to write to the root",
            ) from error
        else:
            return


def holder_of(layout: Layout) -> str:
    """Who holds the run lock, as far as its file tells."""
    try:
        holder = json.loads(layout.run_holder.read_bytes())
        return f"process {holder['pid']} on {holder['host']} since {holder['started_at']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not said its name yet"


@contextlib.contextmanager
def publish_lock(layout: Layout, modes: Modes) -> Iterator[None]:
    """Keeps two writers from publishing the index at once. Held for the length of one publish."""
    with filelock.FileLock(layout.publish_lock, mode=modes.file, thread_local=False):
        yield
