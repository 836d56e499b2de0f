"""Reads the index without a lock and without writing, always from one consistent snapshot. Standard library only.

The file is replaced and never changed. So SQLite opens it as immutable and reads it without locks, even from read-only
media. On a network share the old file may vanish while a reader has it open, so a failed read is tried once more on
the file that has the name now.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..errors import NoIndexError
from . import schema
from .queries import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .values import ModelRow, Selection

T = TypeVar("T")

_Identity = tuple[int, int, int, int]

NOT_SYNCED_HINT = "`mirror sync` has not run here yet, or --root names another folder"
_DAMAGED_HINT = "run `mirror sync` or `mirror verify` where it is synced: they see damage, and publish it anew"
# Errors that a query of a damaged file may raise: SQLite notices some damage, and returns odd values for other.
_SIGNS = (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Handle:
    connection: sqlite3.Connection
    identity: _Identity
    snapshot: Snapshot
    """Kept with the connection: the file never changes, so the answers that it remembers stay true."""


class IndexReader:
    """Reads the index at `path`, opened at the first read. Threads may share it: each read has its own connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[_Handle] = []
        self._closed = False

    def close(self) -> None:
        """Closes idle connections now, and those in use when their reads end. Later reads raise ValueError."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def __del__(self) -> None:
        # A one-line lookup such as `Mirror(root).models.path(name)` never calls close(), yet must leave nothing open.
        for handle in self.__dict__.get("_idle", ()):
            handle.connection.close()

    def read(self, query: Callable[[Snapshot], T]) -> T:
        """Returns the result of `query`, which gets one snapshot of the index. May call `query` twice.

        Raises:
            NoIndexError: the index is missing, damaged or of a format that this version cannot read.
        """
        try:
            return self._once(query)
        except _SIGNS as error:
            self._raise_unless_unreadable(error)
            self._drop_idle()
        try:
            return self._once(query)
        except _SIGNS as error:
            self._raise_unless_unreadable(error)
            raise self._unreadable(error) from error

    def stream(self, selection: Selection, weights_format: str) -> Iterator[ModelRow]:
        """Yields models newest first, from one snapshot of the index however long the caller takes.

        When the snapshot is lost (a stale handle on a network share), continues after the last model in a new one.

        Raises:
            NoIndexError: as `read` does.
        """
        last: tuple[int, int, str] | None = None
        lost = 0
        while True:
            try:
                with self._handle() as handle:
                    for row in handle.snapshot.models(selection, weights_format):
                        if last is None or row.order < last:
                            last, lost = row.order, 0
                            yield row
                    return
            except _SIGNS as error:
                self._raise_unless_unreadable(error)
                lost += 1
                if lost > 1:
                    raise self._unreadable(error) from error

    def _once(self, query: Callable[[Snapshot], T]) -> T:
        # Does the same as `_handle` without a generator, because these steps are most of the cost of a lookup.
        handle = self._take()
        try:
            answer = query(handle.snapshot)
        except sqlite3.Error:
            handle.connection.close()
            raise
        except Exception:  # such as NotFoundError: the connection is still good
            self._give_back(handle)
            raise
        except BaseException:
            handle.connection.close()
            raise
        self._give_back(handle)
        return answer

    @contextlib.contextmanager
    def _handle(self) -> Iterator[_Handle]:
        """Yields a connection to the present index for this caller alone. Closes it when the block fails."""
        handle = self._take()
        try:
            yield handle
        except BaseException:
            handle.connection.close()
            raise
        self._give_back(handle)

    def _take(self) -> _Handle:
        identity = self._identity()
        stale: list[_Handle] = []
        taken = None
        with self._lock:
            if self._closed:
                raise ValueError("this mirror was closed")
            while self._idle and taken is None:
                found = self._idle.pop()
                if found.identity == identity:
                    taken = found
                else:
                    stale.append(found)
        for handle in stale:
            handle.connection.close()
        if taken is not None:
            return taken
        connection = self._open()
        return _Handle(connection, identity, Snapshot(connection))

    def _give_back(self, handle: _Handle) -> None:
        handle.snapshot.forget()
        with self._lock:
            if not self._closed:
                self._idle.append(handle)
                return
        handle.connection.close()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for handle in idle:
            handle.connection.close()

    def _identity(self) -> _Identity:
        try:
            found = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NoIndexError(f"no index in {self._path.parent}", hint=NOT_SYNCED_HINT) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise NoIndexError(f"the index {self._path} cannot be read: {error}") from error
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would block
            raise NoIndexError(
                f"the index {self._path} is no file",
                hint="move it away and run `mirror sync`, which publishes a new one",
            )
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _open(self) -> sqlite3.Connection:
        uri = schema.uri(self._path, "mode=ro&immutable=1")
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")  # the file may come from an untrusted disk
            connection.execute("PRAGMA temp_store = MEMORY")
            self._check_marks(*schema.marks(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_marks(self, application_id: int, version: int) -> None:
        if application_id != schema.APPLICATION_ID:
            raise NoIndexError(
                f"{self._path} is not an index of registry-mirror",
                hint="move it away and run `mirror sync`, which publishes a new one",
            )
        if version > schema.USER_VERSION:
            raise NoIndexError(
                f"the index {self._path} is of format {version}, and this version reads {schema.USER_VERSION}",
                hint="upgrade registry-mirror on this machine",
            )
        if version < schema.USER_VERSION:
            raise NoIndexError(
                f"the index {self._path} is of the old format {version}, and this version reads {schema.USER_VERSION}",
                hint="run `mirror sync` with this version, which publishes it anew",
            )

    def _unreadable(self, error: Exception) -> NoIndexError:
        return NoIndexError(f"the index {self._path} cannot be read: {error}", hint=_DAMAGED_HINT)

    def _raise_unless_unreadable(self, error: Exception) -> None:
        """Returns when the index is unreadable; otherwise raises `error`, because a wrong query is a bug of ours."""
        if type(error) in (sqlite3.DatabaseError, sqlite3.OperationalError, UnicodeDecodeError):
            return
        from ..damage import damage_of  # imported only here, as readers of a sound index do not need it

        if isinstance(error, sqlite3.Error) or damage_of(self._path, "mode=ro&immutable=1") is None:
            raise error
