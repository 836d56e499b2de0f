"""The whole of a published index, as it was handed to it: what a writer has to go by whose catalog is lost.

Standard library only.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from ..damage import fault_in
from . import schema
from .entries import EvictedEntry, ModelEntry, WeightsEntry
from .kept import has_table
from .schema import moment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

_MODELS = "SELECT id, name, status, model_type, architecture, first_seen, gone_at, document FROM models"
_WEIGHTS = "SELECT format, version, md5, sha256, size, fetched_at, current FROM weights WHERE model_id = ?"


class Whole:
    """An open index, read from its beginning to its end. A damaged one raises `sqlite3.DatabaseError`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def fault(self) -> str | None:
        """What is wrong with it; None when nothing. Nothing is built on an index that has not been asked."""
        return fault_in(self._connection)

    def meta(self) -> dict[str, str]:
        """What the writer said of the whole."""
        return dict(self._connection.execute("SELECT key, value FROM meta"))

    def entries(self) -> Iterator[ModelEntry]:
        """Every model without its failures. The upstream's own texts of its times are in the document only."""
        pinned, evicted = self._pinned(), self._evicted()
        for row in self._connection.execute(_MODELS):
            model_id, name, status, model_type, architecture, first_seen, gone_at, document = row
            yield ModelEntry(
                document=document,
                id=model_id,
                name=name,
                status=status,
                model_type=model_type,
                architecture=architecture,
                created_at=None,
                updated_at=None,
                first_seen=_dated(first_seen),
                gone_at=moment(gone_at),
                weights=tuple(self._weights(model_id)),
                evicted=tuple(evicted.get(model_id, ())),
                pinned_at=pinned.get(model_id),
            )

    def _weights(self, model_id: str) -> Iterator[WeightsEntry]:
        for row in self._connection.execute(_WEIGHTS, (model_id,)):
            weights_format, version, md5, sha256, size, fetched_at, current = row
            yield WeightsEntry(weights_format, version, md5, sha256, size, _dated(fetched_at), bool(current))

    def _pinned(self) -> dict[str, datetime]:
        if not has_table(self._connection, "pins"):
            return {}
        return {
            model_id: _dated(at) for model_id, at in self._connection.execute("SELECT model_id, pinned_at FROM pins")
        }

    def _evicted(self) -> dict[str, list[EvictedEntry]]:
        found: dict[str, list[EvictedEntry]] = {}
        if has_table(self._connection, "evicted"):
            query = "SELECT model_id, format, md5, size, evicted_at FROM evicted"
            for model_id, weights_format, md5, size, at in self._connection.execute(query):
                found.setdefault(model_id, []).append(EvictedEntry(weights_format, md5, size, _dated(at)))
        return found


@contextlib.contextmanager
def open_whole(path: Path) -> Iterator[Whole | None]:
    """Opens the index at `path`; None where there is none of this very format."""
    if not path.is_file():
        yield None
        return
    with contextlib.closing(sqlite3.connect(schema.uri(path, "mode=ro&immutable=1"), uri=True)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")  # the file may have come on somebody's stick
        ours = schema.marks(connection) == (schema.APPLICATION_ID, schema.USER_VERSION)
        yield Whole(connection) if ours else None


def _dated(micros: int) -> datetime:
    found = moment(micros)
    assert found is not None  # noqa: S101 - the column is NOT NULL
    return found
