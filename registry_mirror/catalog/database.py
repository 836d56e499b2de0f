"""The open catalog: its connections, its transactions, its facts, and its revision.

Every change of a model raises the revision and is stored with the model. So any index can be brought up to date by the
rows that changed after its revision, even if writers were killed in between.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event, insert, select, update
from sqlalchemy.exc import DatabaseError

from ..errors import CatalogError, too_few_descriptors
from ..files import database_full
from .migration import DAMAGED_HINT
from .schema import facts, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from ..errors import MirrorError

T = TypeVar("T")

_BUSY = 30
_BATCH = 500
_TURN = 5000
_LET_IN = 0.15
"""Seconds of pause between two transactions, so that a waiting writer gets its turn: SQLite retries every 0.1 s."""

# The driver's own errors are listed too, because some statements read rows directly from the driver.
_FAULTS = (DatabaseError, sqlite3.DatabaseError, UnicodeDecodeError)


class Database:
    """The connections to one catalog file. Transactions are short; each ends before a method of the catalog returns.

    Every transaction raises CatalogError when the database fails, and NoSpaceError when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._engine = connect(path, create=False)
        self.path, self._identity = path, _identity(path)

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Opens a transaction that sees one state of the catalog. Writers cannot commit until it ends."""
        # After a mount is lost, SQLite would go on with the old file but look for its journal under the new path.
        self._check_there()
        with self._errors_named(), self._engine.connect().execution_options(reading=True) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Opens a transaction that takes the write lock at once and commits at the end of the block."""
        self._check_there()
        with self._errors_named(), self._engine.begin() as connection:
            self._check_there()  # again, because a migration may have held the lock and replaced the file
            yield connection

    def facts(self) -> dict[str, str]:
        """Returns all facts: `catalog_id`, `revision` and more, such as `base_url` once a listing was read.

        Makes a `catalog_id` for a catalog that has none.
        """
        with self.reading() as connection:
            found = {row.key: row.value for row in connection.execute(select(facts))}
        if "catalog_id" not in found:
            found = {"revision": "0", **found, "catalog_id": uuid.uuid4().hex}
            self.set_facts(found)
        return found

    def set_facts(self, values: Mapping[str, str]) -> None:
        """Records facts, replacing the older values."""
        with self.writing() as connection:
            for key, value in values.items():
                set_fact(connection, key, value)

    def revision(self) -> int:
        """Returns the catalog's present revision."""
        return int(self.facts()["revision"])

    def rename_if_behind(self, catalog_id: str, revision: int) -> bool:
        """Takes a new `catalog_id` when the index made from this catalog has a higher revision. Returns whether it did.

        Such a catalog was restored from a backup. Its next changes would get revisions that the index already has, so
        the index would not be updated.
        """
        found = self.facts()
        if found["catalog_id"] != catalog_id or int(found["revision"]) >= revision:
            return False
        self.set_facts({"catalog_id": uuid.uuid4().hex})
        return True

    def _check_there(self) -> None:
        if _identity(self.path) != self._identity:
            raise CatalogError(
                f"the catalog {self.path} is no longer the file that it was",
                hint="see that its disk is mounted, then run again",
            )

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except _FAULTS as error:
            self._check_there()
            raise catalog_error(self.path, getattr(error, "orig", None) or error) from error


def catalog_error(path: Path, reason: Exception) -> MirrorError:
    """Returns the error to raise when SQLite fails on the catalog: for a full disk, for damage, or for any other."""
    if full := database_full(reason, path.parent, "the catalog"):
        return full
    code = getattr(reason, "sqlite_errorcode", 0) & 0xFF
    undecodable = isinstance(reason, UnicodeDecodeError) or "Could not decode to UTF-8" in str(reason)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or undecodable:
        return CatalogError(f"the catalog failed: {path} is damaged: {reason}", hint=DAMAGED_HINT)
    return CatalogError(f"the catalog failed: {reason}", hint=too_few_descriptors(reason))


def _identity(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def connect(path: Path, *, create: bool = True) -> Engine:
    """Returns an engine whose transactions take the write lock at once.

    A transaction that reads first and writes later would fail, not wait, when another process writes in between.

    Args:
        path: the catalog. A path may hold any bytes, so it is passed to SQLite directly. The name in SQLAlchemy's URL
            only says that it is a file with an absolute path, so that the working folder need not exist.
        create: whether to create a missing file. If not, a missing file is an error.
    """

    def opened() -> sqlite3.Connection:
        uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode={'rwc' if create else 'rw'}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY, check_same_thread=False)

    engine = create_engine(URL.create("sqlite", database="/catalog"), creator=opened)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_on_begin` begins transactions, not the driver
    # A rollback journal leaves a single file between transactions; a write-ahead log is unreadable in a read-only
    # folder. EXTRA syncs the folder after the journal is deleted. With FULL, a power cut could bring the journal back
    # and undo a commit that the index already reflects, or after which gc has removed a file.
    for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yields the items in batches that fit one statement."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def in_turns(items: Sequence[T], pause: Callable[[float], None]) -> Iterator[Sequence[T]]:
    """Yields the items in batches for one transaction each, and pauses in between so that other writers can work.

    Args:
        pause: called with the seconds to pause; may raise.
    """
    for start in range(0, len(items), _TURN):
        if start:
            pause(_LET_IN)
        yield items[start : start + _TURN]


def set_fact(connection: Connection, key: str, value: str) -> None:
    """Records a fact, replacing the older value."""
    if connection.execute(update(facts).where(facts.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(insert(facts), {"key": key, "value": value})


def next_revision(connection: Connection) -> int:
    """Raises the catalog's revision by one and returns it."""
    present = connection.scalar(select(facts.c.value).where(facts.c.key == "revision"))
    revision = int(present or 0) + 1
    set_fact(connection, "revision", str(revision))
    return revision


def touch(connection: Connection, ids: Sequence[str]) -> None:
    """Marks models as changed, so that the next index copies them."""
    revision = next_revision(connection)
    for batch in batches(ids):
        connection.execute(update(models).where(models.c.id.in_(batch)).values(revision=revision))
