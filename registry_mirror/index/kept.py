"""What the index says of pins and evictions. An index from before there were any lacks the tables: they are empty then.

Standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model import ModelStatus
from .entries import EvictedEntry
from .schema import moment, storable

if TYPE_CHECKING:
    import sqlite3


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether an index has a table that not every one of its format has."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def pinned(connection: sqlite3.Connection) -> frozenset[str]:
    """The ids of the pinned models."""
    if not has_table(connection, "pins"):
        return frozenset()
    return frozenset(model_id for (model_id,) in connection.execute("SELECT model_id FROM pins"))


def is_pinned(connection: sqlite3.Connection, model_id: str) -> bool:
    """Whether a model is one of them."""
    query = "SELECT 1 FROM pins WHERE model_id = ?"
    return has_table(connection, "pins") and connection.execute(query, (model_id,)).fetchone() is not None


def evicted(connection: sqlite3.Connection, model_id: str) -> list[EvictedEntry]:
    """Weights of a model that made room for others."""
    if not has_table(connection, "evicted"):
        return []
    query = "SELECT format, md5, size, evicted_at FROM evicted WHERE model_id = ? ORDER BY format"
    rows = [(*row[:3], moment(row[3])) for row in connection.execute(query, (storable(model_id),))]
    return [EvictedEntry(name, md5, size, at) for name, md5, size, at in rows if at is not None]


def count_evicted(connection: sqlite3.Connection) -> int:
    """How many files of live and ready models made room."""
    if not has_table(connection, "evicted"):
        return 0
    query = "SELECT count(*) FROM evicted e JOIN models m ON m.id = e.model_id WHERE m.status = ? AND m.gone_at IS NULL"
    (found,) = connection.execute(query, (str(ModelStatus.READY),)).fetchone()
    return int(found)
