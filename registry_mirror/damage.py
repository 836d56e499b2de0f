"""Finds damage in the mirror's SQLite files: in pages, schema, types, texts and JSON. Standard library only.

SQLite itself checks little of what it reads: a page of zeros or a flipped bit in a text goes unnoticed until it is
used, and SQLite would run a view or a trigger that somebody added.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KINDS = {"TEXT": "text", "VARCHAR": "text", "INTEGER": "integer", "BIGINT": "integer", "BLOB": "blob"}
_TIMES = ("created", "updated", "first_seen")
_DIGITS = {"md5": 32, "sha256": 64}
_LAST_TIME = 253_402_300_799_999_999  # microseconds; the end of the year 9999


def damage_of(path: Path, parameters: str) -> str | None:
    """Returns what is wrong with a file; None when nothing is.

    Args:
        parameters: parameters of SQLite's URI, such as `mode=ro`.
    """
    if not path.is_file():  # opening a pipe would block
        return "it is no file"
    try:
        with contextlib.closing(sqlite3.connect(_uri(path, parameters), uri=True, timeout=5)) as connection:
            return fault_in(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)


def _uri(path: Path, parameters: str) -> str:
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}?{parameters}"


def contradiction(catalog: Path, index: Path) -> str | None:
    """Returns which weights of the published index its catalog lacks; None when it lacks none.

    A digest with a flipped bit still looks like a digest, so only comparing the two files reveals it. Returns None as
    well when the index was made from another revision or another catalog.
    """
    with contextlib.closing(sqlite3.connect(_uri(catalog, "mode=rw"), uri=True)) as both:
        both.execute("ATTACH ? AS published", (_uri(index, "mode=ro&immutable=1"),))
        told = both.execute("SELECT value FROM published.meta WHERE key IN ('catalog_id', 'revision') ORDER BY key")
        own = both.execute("SELECT value FROM main.facts WHERE key IN ('catalog_id', 'revision') ORDER BY key")
        if told.fetchall() != own.fetchall():
            return None  # the catalog has another revision, or the index is of another catalog
        columns = "model_id, format, md5, sha256, size"
        missing = both.execute(
            f"SELECT {columns} FROM published.weights EXCEPT SELECT {columns} FROM main.weights LIMIT 1"  # noqa: S608
        ).fetchone()
    return None if missing is None else f"it has no such weights of model {missing[0]} as the index"


def fault_in(connection: sqlite3.Connection) -> str | None:
    """Returns what is wrong with an open file; None when nothing is.

    Raises:
        sqlite3.Error, UnicodeDecodeError: the damage keeps the file from being read.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        return str(said)
    things = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
    odd = next((f"it has a {kind} {name!r}" for kind, name in things if kind not in ("table", "index")), None)
    return odd or next(
        (problem for kind, table in things if kind == "table" for problem in _values(connection, table)), None
    )


def _values(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    """Yields what is wrong with the values of a table, at most once per column."""
    for _, column, declared, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
        kind = _KINDS.get(declared.partition("(")[0].upper())
        wrong = [] if kind is None else [f"typeof({column}) NOT IN ('{kind}', 'null')"]
        if column == "document":
            wrong.append(f"NOT json_valid({column})")
        if column in _DIGITS:
            wrong.append(f"length({column}) != {_DIGITS[column]} OR {column} GLOB '*[^0-9a-f]*'")
        if kind == "integer" and (column in _TIMES or column.endswith("_at")):
            wrong.append(f"abs({column}) > {_LAST_TIME}")
        if kind == "text":  # reading decodes each value, which raises an error for invalid UTF-8
            for _ in connection.execute(f'SELECT {column} FROM "{table}" WHERE {column} IS NOT NULL'):  # noqa: S608
                pass
        if wrong and connection.execute(f'SELECT 1 FROM "{table}" WHERE {" OR ".join(wrong)} LIMIT 1').fetchone():  # noqa: S608
            yield f"a value of {table}.{column} is none that was written there"
