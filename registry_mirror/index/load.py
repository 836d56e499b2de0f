"""Rows of the index from entries of the catalog, in constant memory. Standard library only."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ..model import parse_time
from .rank import rank
from .schema import micros, storable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from .entries import CheckEntry, ModelEntry

_BATCH = 1000


def insert(connection: sqlite3.Connection, entries: Iterable[ModelEntry]) -> None:
    """Adds models that are not there yet."""
    for batch in _batches(entries):
        _insert(connection, batch)


def replace(connection: sqlite3.Connection, entries: Iterable[ModelEntry]) -> None:
    """Puts each model in the place of what is there of it, weights and failures included."""
    for batch in _batches(entries):
        _delete(connection, batch)
        _insert(connection, batch)


def put_checks(connection: sqlite3.Connection, entries: Iterable[CheckEntry]) -> None:
    """Puts each check in the place of an older one of its blob."""
    rows = (
        (one.md5, one.format, micros(one.checked_at), one.size, one.mtime_ns, micros(one.lost_at)) for one in entries
    )
    connection.executemany("INSERT OR REPLACE INTO checks VALUES (?, ?, ?, ?, ?, ?)", rows)


def _batches(entries: Iterable[ModelEntry]) -> Iterator[list[ModelEntry]]:
    remaining = iter(entries)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _delete(connection: sqlite3.Connection, batch: list[ModelEntry]) -> None:
    ids = [(storable(entry.id),) for entry in batch]
    connection.executemany("DELETE FROM models WHERE id = ?", ids)
    connection.executemany("DELETE FROM weights WHERE model_id = ?", ids)
    connection.executemany("DELETE FROM failures WHERE model_id = ?", ids)
    connection.executemany("DELETE FROM pins WHERE model_id = ?", ids)
    connection.executemany("DELETE FROM evicted WHERE model_id = ?", ids)


def _insert(connection: sqlite3.Connection, batch: list[ModelEntry]) -> None:
    connection.executemany("INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_model, batch))
    weights = (row for entry in batch for row in _weights(entry))
    connection.executemany("INSERT INTO weights VALUES (?, ?, ?, ?, ?, ?, ?, ?)", weights)
    failures = (row for entry in batch for row in _failures(entry))
    connection.executemany("INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?)", failures)
    pins = ((storable(entry.id), micros(entry.pinned_at)) for entry in batch if entry.pinned_at is not None)
    connection.executemany("INSERT INTO pins VALUES (?, ?)", pins)
    evicted = (row for entry in batch for row in _evicted(entry))
    connection.executemany("INSERT INTO evicted VALUES (?, ?, ?, ?, ?)", evicted)


def _model(entry: ModelEntry) -> tuple[object, ...]:
    cached = any(weights.current for weights in entry.weights)
    return (
        storable(entry.id),
        storable(entry.name),
        storable(entry.status),
        _storable(entry.model_type),
        _storable(entry.architecture),
        micros(parse_time(entry.created_at)),
        micros(parse_time(entry.updated_at)),
        rank(entry.status, gone=entry.gone_at is not None, cached=cached),
        micros(entry.first_seen),
        micros(entry.gone_at),
        storable(entry.document),
    )


def _weights(entry: ModelEntry) -> Iterator[tuple[object, ...]]:
    model_id = storable(entry.id)
    for one in entry.weights:
        version = _storable(one.version)
        yield model_id, one.format, version, one.md5, one.sha256, one.size, micros(one.fetched_at), one.current


def _failures(entry: ModelEntry) -> Iterator[tuple[object, ...]]:
    model_id = storable(entry.id)
    for one in entry.failures:
        first, last = micros(one.first_failed_at), micros(one.last_failed_at)
        yield model_id, one.format, storable(one.error), one.attempts, first, last


def _evicted(entry: ModelEntry) -> Iterator[tuple[object, ...]]:
    for one in entry.evicted:
        yield storable(entry.id), one.format, one.md5, one.size, micros(one.evicted_at)


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)
