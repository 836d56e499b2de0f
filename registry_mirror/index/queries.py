"""The queries of the index, as methods of one open snapshot of it. Standard library only."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..model import CLOCK_SKEW, BlobCheck, BlobRecord, ModelStatus, known_moment, micros, moment, utc_now
from .schema import has_table, shadowed, storable
from .search import TALLY, Search, State
from .values import (
    CheckTotals,
    Condition,
    Document,
    EvictedEntry,
    FailureEntry,
    ModelRow,
    OpenFailure,
    Place,
    Record,
    Selection,
    Totals,
    WeightsEntry,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator

_LIST_ORDER = "m.created DESC, m.updated DESC, m.id DESC"
_OLDEST = -(1 << 63)

_MODELS = """
SELECT m.id, m.name, m.status, m.rank, m.created, m.updated, m.first_seen, m.gone_at,
       EXISTS (SELECT 1 FROM models o WHERE o.name = m.name AND o.id <> m.id) AS shared,
       w.format, w.version, w.md5, w.sha256, w.size, w.fetched_at, w.current, m.document
FROM models m LEFT JOIN weights w ON w.rowid = (
    SELECT c.rowid FROM weights c WHERE c.model_id = m.id AND c.current
    ORDER BY c.format = :format DESC, c.format, c.fetched_at DESC LIMIT 1)
"""
_DOCUMENTS = "SELECT m.document, m.first_seen, m.created, m.updated, m.id FROM models m"
_COUNT = "SELECT count(*) FROM models m"
# One row per blob. The columns of `checks` are NULL when the blob was never checked or the index lacks that table.
_BLOBS = """
SELECT w.md5, w.format, max(w.size), group_concat(DISTINCT w.sha256), c.checked_at, c.size, c.mtime_ns, c.lost_at
FROM weights w LEFT JOIN {checks} c ON c.md5 = w.md5 AND c.format = w.format
"""
_NO_CHECKS = (
    "(SELECT NULL AS md5, NULL AS format, NULL AS checked_at, NULL AS size, NULL AS mtime_ns, NULL AS lost_at WHERE 0)"
)
_TALLY = f"SELECT {TALLY} FROM models m"  # noqa: S608 - nothing in it comes from outside
# An id wins over a name, and a name means its best-ranked model. SQLite answers both subqueries from an index alone.
_CURRENT = """
SELECT md5, size FROM weights WHERE model_id = coalesce(
    (SELECT id FROM models WHERE id = ?),
    (SELECT id FROM models WHERE name = ? ORDER BY rank, created DESC, updated DESC, id DESC LIMIT 1)
) AND format = ? AND current
"""
_RECORD = """
SELECT document, first_seen, gone_at IS NOT NULL FROM models WHERE id = coalesce(
    (SELECT id FROM models WHERE id = ?),
    (SELECT id FROM models WHERE id = ?),
    (SELECT id FROM models WHERE name = ? ORDER BY rank, created DESC, updated DESC, id DESC LIMIT 1)
)
"""
_REMEMBERED = 10_000
# Characters of documents to remember in all, and what each answer counts besides its document and name.
_RECORDS = 4 << 20
_RECORD_COSTS = 1 << 10
_LARGEST_RECORD = _RECORDS // 8
_ASKED_SINGLY = 8
_WEIGHTS = "SELECT format, version, md5, sha256, size, fetched_at, current FROM weights"


# An index of an older version may lack the tables of pins, evictions or checks. They count as empty then.
class Snapshot:
    """One snapshot of the index. Its answers are consistent with each other, whatever is published meanwhile."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._namesakes: dict[str, list[tuple[str, int]]] = {}
        self._pinned: frozenset[str] | None = None
        self._singly = _ASKED_SINGLY
        self._current: dict[tuple[str, str], tuple[str, int] | None] = {}
        self._records: dict[tuple[tuple[str, ...], str], Record | None] = {}
        self._room = _RECORDS

    def forget(self) -> None:
        """Forgets the namesakes that a listing collected, whose number has no limit. The other caches stay."""
        self._namesakes.clear()

    def meta(self) -> dict[str, str]:
        """Returns the writer's texts about the index: `catalog_id`, `revision`, `published_at` and more."""
        return dict(self._connection.execute("SELECT key, value FROM meta"))

    def by_id(self, model_id: str, weights_format: str) -> ModelRow | None:
        """Returns the model with this id, or None."""
        values = {"id": storable(model_id), "format": weights_format}
        row = self._connection.execute(f"{_MODELS} WHERE m.id = :id", values).fetchone()
        return None if row is None else self._model(row)

    def by_name(self, name: str, weights_format: str, limit: int = 100) -> list[ModelRow]:
        """Returns the models with this name. The first is the one that the name means."""
        values = {"name": storable(name), "format": weights_format, "limit": limit}
        query = f"{_MODELS} WHERE m.name = :name ORDER BY m.rank, {_LIST_ORDER} LIMIT :limit"
        return [self._model(row) for row in self._connection.execute(query, values)]

    def record(self, ids: tuple[str, ...], name: str) -> Record | None:
        """Returns the document of the first of up to two ids that exists, else of the model that the name means.

        This finds the same model as `by_id` and then `by_name`, in one query and without its weights. A few MiB of
        answers are remembered, because many machines ask for the same few models.
        """
        asked = (ids, name)
        if asked in self._records:
            return self._records[asked]
        first, second = (*map(storable, ids), None, None)[:2]
        row = self._connection.execute(_RECORD, (first, second, storable(name))).fetchone()
        found = None if row is None else Record(row[0], known_moment(row[1]), bool(row[2]))
        cost = _RECORD_COSTS + len(name) + (0 if found is None else len(found.text))
        if cost > _LARGEST_RECORD:
            return found
        if cost > self._room:
            self._records.clear()
            self._room = _RECORDS
        self._room -= cost
        self._records[asked] = found
        return found

    def models(self, selection: Condition, weights_format: str, limit: int = -1, offset: int = 0) -> Iterator[ModelRow]:
        """Yields models newest first, reading each row when the caller asks for it."""
        where, values = selection.where()
        query = f"{_MODELS} WHERE {where} ORDER BY {_LIST_ORDER} LIMIT :limit OFFSET :offset"
        for row in self._connection.execute(
            query, {**values, "format": weights_format, "limit": limit, "offset": offset}
        ):
            yield self._model(row)

    def documents(
        self, selection: Selection, limit: int, offset: int = 0, after: Place | None = None
    ) -> list[Document]:
        """Returns the JSON texts of models, newest first.

        When a name is selected, the model that it means comes first: SDKs before 1.61.0 read only the first row.

        Args:
            after: starts behind this place, which is as fast at the end of the list as at its beginning. It may be
                given only when every model has a place (`all_dated`), and not together with a name.
        """
        where, values = selection.where()
        bounds: dict[str, Any] = {"limit": limit, "offset": offset}
        if after is not None:
            where += " AND (m.created, m.updated, m.id) < (:created, :updated, :id)"
            bounds |= {"created": after[0], "updated": after[1], "id": after[2]}
        order = _LIST_ORDER if selection.name is None else f"m.rank, {_LIST_ORDER}"
        query = f"{_DOCUMENTS} WHERE {where} ORDER BY {order} LIMIT :limit OFFSET :offset"
        rows = self._connection.execute(query, {**values, **bounds})
        return [
            Document(text, known_moment(seen), (created, updated, key)) for text, seen, created, updated, key in rows
        ]

    def all_dated(self) -> bool:
        """Returns whether every model has both its times, and so its own place in lists."""
        query = "SELECT EXISTS (SELECT 1 FROM models WHERE created IS NULL OR updated IS NULL)"
        return not self._connection.execute(query).fetchone()[0]

    def count(self, selection: Selection) -> int:
        """Returns how many models a selection has."""
        where, values = selection.where()
        return int(self._connection.execute(f"{_COUNT} WHERE {where}", values).fetchone()[0])

    def tally(self, text: str) -> dict[State, int]:
        """Returns, for each state, how many models a search for `text` finds in it."""
        where, values = Search(text, None).where()
        row = self._connection.execute(f"{_TALLY} WHERE {where}", values).fetchone()
        return dict(zip(State, row, strict=True))

    def has_type(self, model_type: str) -> bool:
        """Returns whether any model is of this type."""
        query = "SELECT EXISTS (SELECT 1 FROM models WHERE model_type = ?)"
        return bool(self._connection.execute(query, (storable(model_type),)).fetchone()[0])

    def weights(self, model_id: str) -> list[WeightsEntry]:
        """Returns every file of a model that the index names: current ones first, then the newest."""
        query = f"{_WEIGHTS} WHERE model_id = ? ORDER BY current DESC, fetched_at DESC, format"
        return [_weights(row) for row in self._connection.execute(query, (storable(model_id),))]

    def current(self, model: str, weights_format: str) -> tuple[str, int] | None:
        """Returns MD5 and size of the current weights of the model that an id or a name means.

        This finds what `lookup.choose` finds, in one query and without the document. Answers are remembered, because a
        program asks for the same few models again and again.

        Returns:
            None unless exactly one row matches.
        """
        if (model, weights_format) not in self._current:
            if len(self._current) >= _REMEMBERED:
                self._current.clear()
            asked = storable(model)
            rows = self._connection.execute(_CURRENT, (asked, asked, weights_format)).fetchall()
            self._current[model, weights_format] = rows[0] if len(rows) == 1 else None
        return self._current[model, weights_format]

    def by_md5(self, md5: str, weights_format: str) -> WeightsEntry | None:
        """Returns one file with this MD5, of any model that has or had it; None when there is none."""
        query = f"{_WEIGHTS} WHERE md5 = ? AND format = ? LIMIT 1"
        row = self._connection.execute(query, (storable(md5), weights_format)).fetchone()
        return None if row is None else _weights(row)

    def blobs(self, model_ids: Collection[str] | None = None) -> Iterator[BlobRecord]:
        """Yields every blob that weights name, or only the blobs of the given models."""
        table = "checks" if has_table(self._connection, "checks") else _NO_CHECKS
        where = "" if model_ids is None else "WHERE w.model_id IN (SELECT value FROM json_each(:ids))"
        query = f"{_BLOBS.format(checks=table)} {where} GROUP BY w.md5, w.format"
        for row in self._connection.execute(query, {"ids": json.dumps(sorted(model_ids or ()))}):
            yield _blob(row)

    def holders(self, md5: str, weights_format: str) -> list[tuple[str, str, bool]]:
        """Returns id and name of each model that has a blob, and whether the blob is its current one."""
        query = (
            "SELECT m.id, m.name, w.current FROM weights w JOIN models m ON m.id = w.model_id"
            " WHERE w.md5 = ? AND w.format = ? ORDER BY m.name, m.id"
        )
        return [(row[0], row[1], bool(row[2])) for row in self._connection.execute(query, (md5, weights_format))]

    def check_totals(self) -> CheckTotals:
        """Returns how many blobs were never checked or are lost, and when the oldest check was."""
        if not has_table(self._connection, "checks"):
            (never,) = self._connection.execute("SELECT count(DISTINCT md5 || format) FROM weights").fetchone()
            return CheckTotals(never)
        never, oldest = self._connection.execute(
            "SELECT sum(c.checked_at IS NULL), min(c.checked_at) FROM (SELECT DISTINCT md5, format FROM weights) w"
            " LEFT JOIN checks c ON c.md5 = w.md5 AND c.format = w.format AND c.checked_at <= ?",
            (
                micros(utc_now() + timedelta(seconds=CLOCK_SKEW)),
            ),  # a check in the future does not count: a clock was wrong
        ).fetchone()
        (lost,) = self._connection.execute("SELECT count(*) FROM checks WHERE lost_at IS NOT NULL").fetchone()
        return CheckTotals(never or 0, moment(oldest), lost)

    def failures(self, model_id: str) -> list[FailureEntry]:
        """Returns the open failures of a model, the latest first."""
        query = "SELECT format, error, attempts, first_failed_at, last_failed_at FROM failures WHERE model_id = ?"
        rows = self._connection.execute(f"{query} ORDER BY last_failed_at DESC", (storable(model_id),))
        return [_failure(row) for row in rows]

    def evicted(self, model_id: str) -> list[EvictedEntry]:
        """Returns the weights of a model that were evicted to make room."""
        if not has_table(self._connection, "evicted"):
            return []
        query = "SELECT format, md5, size, evicted_at FROM evicted WHERE model_id = ? ORDER BY format"
        rows = self._connection.execute(query, (storable(model_id),))
        return [EvictedEntry(name, md5, size, known_moment(at)) for name, md5, size, at in rows]

    def pinned(self) -> frozenset[str]:
        """Returns the ids of the pinned models."""
        if self._pinned is None:
            there = has_table(self._connection, "pins")
            rows = self._connection.execute("SELECT model_id FROM pins") if there else ()
            self._pinned = frozenset(model_id for (model_id,) in rows)
        return self._pinned

    def blob_keys(self) -> set[tuple[str, str]]:
        """Returns MD5 and format of every file that the index names, superseded ones included."""
        return set(self._connection.execute("SELECT DISTINCT md5, format FROM weights"))

    def open_failures(self, limit: int = -1) -> list[OpenFailure]:
        """Returns up to `limit` open failures, the latest first; all of them when it is -1."""
        query = (
            "SELECT f.model_id, m.name, f.format, f.error, f.attempts, f.first_failed_at, f.last_failed_at"
            " FROM failures f JOIN models m ON m.id = f.model_id ORDER BY f.last_failed_at DESC, f.model_id, f.format"
            " LIMIT ?"
        )
        return [OpenFailure(row[0], row[1], _failure(row[2:])) for row in self._connection.execute(query, (limit,))]

    def count_failures(self) -> int:
        """Returns how many failures are open."""
        query = "SELECT count(*) FROM failures f JOIN models m ON m.id = f.model_id"
        return int(self._connection.execute(query).fetchone()[0])

    def names(self, like: str, limit: int) -> list[str]:
        """Returns names to suggest for a mistyped one: names equal but for ASCII case, then up to `limit` others."""
        same = self._connection.execute(
            "SELECT DISTINCT name FROM models WHERE name = ? COLLATE NOCASE LIMIT 10", (storable(like),)
        )
        rest = self._connection.execute("SELECT DISTINCT name FROM models LIMIT ?", (limit,))
        return [*dict.fromkeys(name for rows in (same, rest) for (name,) in rows)]

    def totals(self) -> Totals:
        """Returns sums over the whole index."""
        ask = self._connection.execute
        (gone,) = ask("SELECT count(*) FROM models WHERE gone_at IS NOT NULL").fetchone()
        statuses = dict(ask("SELECT status, count(*) FROM models WHERE gone_at IS NULL GROUP BY status"))
        files, size = ask(
            "SELECT count(*), coalesce(sum(size), 0) FROM (SELECT max(size) AS size FROM weights GROUP BY md5, format)"
        ).fetchone()
        (cached,) = ask("SELECT count(DISTINCT model_id) FROM weights WHERE current").fetchone()
        (waiting,) = ask(
            "SELECT count(*) FROM models m WHERE status = ? AND gone_at IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM weights w WHERE w.model_id = m.id AND w.current)",
            (str(ModelStatus.READY),),
        ).fetchone()
        return Totals(statuses, gone, files, size, cached, waiting, self._count_evicted(), len(self.pinned()))

    def _count_evicted(self) -> int:
        """Returns how many files of live and ready models were evicted to make room."""
        if not has_table(self._connection, "evicted"):
            return 0
        query = (
            "SELECT count(*) FROM evicted e JOIN models m ON m.id = e.model_id WHERE m.status = ? AND m.gone_at IS NULL"
        )
        return int(self._connection.execute(query, (str(ModelStatus.READY),)).fetchone()[0])

    def _model(self, row: tuple[Any, ...]) -> ModelRow:
        model_id, name, status, place, created, updated, first_seen, gone_at, shared, *weights, document = row
        return ModelRow(
            id=model_id,
            name=name,
            status=status,
            rank=place,
            order=(_OLDEST if created is None else created, _OLDEST if updated is None else updated, model_id),
            first_seen=moment(first_seen),
            gone_at=moment(gone_at),
            weights=None if weights[0] is None else _weights(tuple(weights)),
            shadows=self._shadows(model_id, name) if shared else (),
            document=document,
            pinned=self._is_pinned(model_id),
        )

    def _is_pinned(self, model_id: str) -> bool:
        # Query the first few models singly: a single lookup should not read thousands of pins.
        if self._pinned is None and self._singly > 0:
            self._singly -= 1
            query = "SELECT 1 FROM pins WHERE model_id = ?"
            pins = has_table(self._connection, "pins")
            return pins and self._connection.execute(query, (model_id,)).fetchone() is not None
        return model_id in self.pinned()

    def _shadows(self, model_id: str, name: str) -> tuple[str, ...]:
        # Query once for each name. Otherwise a name shared by thousands of models would cost quadratic time.
        if name not in self._namesakes:
            query = "SELECT id, rank FROM models WHERE name = ? ORDER BY rank, created DESC, updated DESC, id DESC"
            self._namesakes[name] = self._connection.execute(query, (name,)).fetchall()
        namesakes = self._namesakes[name]
        return shadowed(model_id, namesakes) if namesakes[0][0] == model_id else ()


def _weights(row: tuple[Any, ...]) -> WeightsEntry:
    weights_format, version, md5, sha256, size, fetched_at, current = row
    return WeightsEntry(weights_format, version, md5, sha256, size, known_moment(fetched_at), bool(current))


def _blob(row: tuple[Any, ...]) -> BlobRecord:
    md5, weights_format, size, digests, checked_at, then, mtime_ns, lost_at = row
    check = BlobCheck(moment(checked_at), then, mtime_ns, moment(lost_at))
    return BlobRecord(md5, weights_format, size, tuple(sorted(digests.split(","))) if digests else (), check)


def _failure(row: tuple[Any, ...]) -> FailureEntry:
    weights_format, error, attempts, first, last = row
    return FailureEntry(weights_format, error, attempts, known_moment(first), known_moment(last))
