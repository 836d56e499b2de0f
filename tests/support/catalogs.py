"""What a catalog holds, read from its file as the index takes it."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

from registry_mirror.model import BlobCheck, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_mirror.catalog import Catalog


@dataclass(frozen=True)
class Found:
    """A model's row with those that hang on it; weights whose blob is lost are left out. Times are microseconds."""

    model: SimpleNamespace
    weights: tuple[SimpleNamespace, ...]
    failures: tuple[SimpleNamespace, ...]
    evictions: tuple[SimpleNamespace, ...]
    pinned_at: int | None


def models_since(catalog: Catalog, revision: int | None) -> Iterator[Found]:
    """The models that changed after a revision, all of them for None."""
    lost = "EXISTS (SELECT 1 FROM checks k WHERE k.md5 = w.md5 AND k.format = w.format AND k.lost_at IS NOT NULL)"
    weights = f"SELECT * FROM weights w WHERE model_id = ? AND NOT {lost} ORDER BY format, md5"  # noqa: S608
    base = -1 if revision is None else revision
    with contextlib.closing(sqlite3.connect(catalog.path)) as database:
        for model in _rows(database, "SELECT * FROM models WHERE revision > ? ORDER BY id", base):
            held = _rows(database, weights, model.id)
            failed = _rows(database, "SELECT * FROM failures WHERE model_id = ? ORDER BY format", model.id)
            evicted = _rows(database, "SELECT * FROM evictions WHERE model_id = ? ORDER BY format", model.id)
            pins = _rows(database, "SELECT * FROM pins WHERE model_id = ?", model.id)
            yield Found(model, tuple(held), tuple(failed), tuple(evicted), pins[0].pinned_at if pins else None)


def checks_since(catalog: Catalog, revision: int | None) -> list[tuple[str, BlobCheck]]:
    """MD5 and check of the blobs whose check changed after a revision, all of them for None."""
    with contextlib.closing(sqlite3.connect(catalog.path)) as database:
        query = "SELECT * FROM checks WHERE revision > ? ORDER BY md5, format"
        rows = _rows(database, query, -1 if revision is None else revision)
    return [(row.md5, BlobCheck(moment(row.checked_at), row.size, row.mtime_ns, moment(row.lost_at))) for row in rows]


def _rows(database: sqlite3.Connection, query: str, value: object) -> list[SimpleNamespace]:
    cursor = database.execute(query, (value,))
    names = [column[0] for column in cursor.description]
    return [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in cursor]
