"""Connections to a catalog in a SQLite file."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

_BUSY = 30


def connect(path: Path, *, create: bool = True) -> Engine:
    """An engine whose transactions take the write lock at once.

    Without `create`, a file that is absent is an error: SQLite would make an empty database of it.

    The path may be of any bytes, so it goes to SQLite itself. The name in SQLAlchemy's address only says: a file,
    and nothing relative, for which the present folder would have to be there.

    A transaction that reads first and writes later would fail, not wait, when another process writes in between.
    """

    def opened() -> sqlite3.Connection:
        uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode={'rwc' if create else 'rw'}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY, check_same_thread=False)

    engine = create_engine(URL.create("sqlite", database="/catalog"), creator=opened)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    # A rollback journal leaves one file at rest; a write-ahead log could not be read from a read-only folder.
    # EXTRA: the folder is synced after the journal has gone. With FULL, a power cut could bring the journal back, and
    # with it undo a commit that the index has followed already, or after which gc has removed a file.
    for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
