"""The index file: its marks, its tables, how values are written in it, and which model a name means.

MODEL on a command line or in a call is an id or a name:

1. An id wins over a name.
2. Names are exact and case-sensitive. Among the models of one name: live and ready first, then live ones in any other
   state (with cached weights before without), then archived ones, then those gone from the upstream.
3. Within one rank the newest wins: by creation, then by update, then by id, so that the answer is always the same.

The index stores the rank, so changing these rules needs a new `USER_VERSION`. Standard library only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..model import ModelStatus

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


READY = 0
LIVE_CACHED = 1
LIVE = 2
ARCHIVED = 3
GONE = 4


_CACHED = "EXISTS (SELECT 1 FROM main.weights r WHERE r.model_id = m.id AND r.current)"
RANK = f"""CASE
    WHEN m.gone_at IS NOT NULL THEN {GONE}
    WHEN m.status = '{ModelStatus.ARCHIVED}' THEN {ARCHIVED}
    WHEN m.status = '{ModelStatus.READY}' THEN {READY}
    WHEN {_CACHED} THEN {LIVE_CACHED}
    ELSE {LIVE} END"""
"""SQL for the rank of a row `m` of models among those of its name; the lowest wins. It reads the index's `weights`."""


def shadowed(model_id: str, namesakes: list[tuple[str, int]]) -> tuple[str, ...]:
    """Returns the ids of the live and ready models that `model_id` hides, newest first.

    `namesakes` holds id and rank of every model of the name, best first. Only the first one hides others, since the
    others are found only by their ids.
    """
    if not namesakes or namesakes[0][0] != model_id:
        return ()
    return tuple(other for other, place in namesakes[1:] if place == READY)


APPLICATION_ID = 0x52474D31  # "RGM1"; `file` and the reader recognise the index by it
USER_VERSION = 1
# A document with its metrics fits one page, and a network share gets half the reads of SQLite's default 4096.
PAGE_SIZE = 8192

CATALOG_ID, REVISION, PUBLISHED_AT, BUILT_AT = "catalog_id", "revision", "published_at", "built_at"
BUILT_BEFORE = "built_before"
DATES = frozenset({PUBLISHED_AT, BUILT_AT, BUILT_BEFORE})

# Times are integers, microseconds since 1970 in UTC. `document` is last, since columns after a long value read slowly.
TABLES = """
CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE models (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    model_type TEXT,
    architecture TEXT,
    created INTEGER,
    updated INTEGER,
    rank INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    gone_at INTEGER,
    document TEXT NOT NULL
);
CREATE TABLE weights (
    model_id TEXT NOT NULL,
    format TEXT NOT NULL,
    version TEXT,
    md5 TEXT NOT NULL,
    sha256 TEXT,
    size INTEGER NOT NULL,
    fetched_at INTEGER NOT NULL,
    current INTEGER NOT NULL
);
CREATE TABLE failures (
    model_id TEXT NOT NULL,
    format TEXT NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    first_failed_at INTEGER NOT NULL,
    last_failed_at INTEGER NOT NULL
);
"""

# Added after format 1 without a new format: a reader that does not know the table does not need it.
CHECKS = """
CREATE TABLE IF NOT EXISTS checks (
    md5 TEXT NOT NULL,
    format TEXT NOT NULL,
    checked_at INTEGER,
    size INTEGER,
    mtime_ns INTEGER,
    lost_at INTEGER,
    PRIMARY KEY (md5, format)
) WITHOUT ROWID;
"""

# Added after format 1 without a new format: a reader treats missing tables as empty, and a writer adds them.
PINS_AND_EVICTED = """
CREATE TABLE IF NOT EXISTS pins (
    model_id TEXT NOT NULL PRIMARY KEY,
    pinned_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evicted (
    model_id TEXT NOT NULL,
    format TEXT NOT NULL,
    md5 TEXT NOT NULL,
    size INTEGER NOT NULL,
    evicted_at INTEGER NOT NULL,
    PRIMARY KEY (model_id, format)
) WITHOUT ROWID;
"""

# Created after the rows are loaded: sorting once is several times faster than inserting in place.
INDEXES = """
CREATE UNIQUE INDEX models_by_id ON models (id);
CREATE INDEX models_by_name ON models (name, rank, created DESC, updated DESC, id DESC);
CREATE INDEX models_in_order ON models (created DESC, updated DESC, id DESC);
CREATE INDEX models_by_status ON models (status, created DESC, updated DESC, id DESC);
CREATE INDEX models_by_type ON models (model_type, created DESC, updated DESC, id DESC);
CREATE INDEX weights_by_model ON weights (model_id, format, current);
CREATE INDEX weights_by_md5 ON weights (md5);
CREATE INDEX failures_by_model ON failures (model_id);
"""


def storable(text: str) -> str:
    r"""Returns `text` in a form that UTF-8 can encode.

    JSON may hold half a surrogate pair, and so may an argument with bytes that the locale cannot decode. Such a half
    becomes the text `\udXXX`. In JSON that means the same, and elsewhere it keeps two names distinct.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def uri(path: Path, parameters: str) -> str:
    """Returns a URI with `path` for SQLite, whatever characters the path holds."""
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}?{parameters}"


def marks(connection: sqlite3.Connection) -> tuple[int, int]:
    """Returns `application_id` and `user_version` of an open file."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (user_version,) = connection.execute("PRAGMA user_version").fetchone()
    return application_id, user_version


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Returns whether an index has a table. Some tables were added without a new format."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None
