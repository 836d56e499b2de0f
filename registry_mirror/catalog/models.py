"""The models of the listing, and what a sync must know of them before it reads the listing.

Rows are the driver's own tuples, because SQLAlchemy's rows take twice as long. That way a hundred thousand models are
read in a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, select, update

from ..model import ModelStatus, micros
from .checks import is_lost
from .database import batches, next_revision
from .schema import absences, evictions, models, weights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Select, Table

    from .database import Database

    Stamps = dict[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """Current weights of a model in one format.

    Attributes:
        size: bytes.
        stamp: the model's stamp when these weights were last fetched or recognised.
        lost: whether their blob was found damaged or missing, and was not stored again since.
    """

    format: str
    md5: str
    sha256: str
    size: int
    stamp: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What a plan must know about a model that the catalog has.

    Attributes:
        absent: pairs of a format and the model's stamp when the upstream had no weights in that format.
        evicted: pairs of a format and the model's stamp when its weights were evicted to make room.
    """

    name: str
    status: str
    fingerprint: str
    stamp: str
    gone: bool
    weights: tuple[KnownWeights, ...] = ()
    absent: frozenset[tuple[str, str]] = frozenset()
    evicted: frozenset[tuple[str, str]] = frozenset()

    def weights_of(self, weights_format: str) -> KnownWeights | None:
        """Returns the current weights in a format, or None."""
        return next((each for each in self.weights if each.format == weights_format), None)


Recorded = tuple[str, str, str, str, "bytes | None"]
"""A model as it was recorded: id, status, stamp, fingerprint, digest of its text in the listing.

The fingerprint is empty when the model was recorded without its details; then the next run asks for it again. The
digest is None when it is unknown.
"""


class ModelsTable:
    """The table of models: one row per model, gone ones included."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, rows: Sequence[Mapping[str, Any]], now: datetime) -> None:
        """Adds or replaces models. A model that was gone is no longer gone.

        Args:
            rows: `id`, `name`, `status`, `model_type`, `architecture`, `created_at` and `updated_at` in microseconds,
                `document`, `fingerprint`, `stamp`; and `text_digest` when it is known.
        """
        if not rows:
            return
        with self._database.writing() as connection:
            revision = next_revision(connection)
            present = _present(connection, [row["id"] for row in rows])
            marked = [
                {
                    "text_digest": None,
                    **row,
                    "revision": revision,
                    "gone_at": None,
                    "archived_at": _archived_at(row, present, now),
                }
                for row in rows
            ]
            fresh = [{**row, "first_seen": micros(now)} for row in marked if row["id"] not in present]
            stale = [{**row, "key": row["id"]} for row in marked if row["id"] in present]
            if fresh:
                connection.execute(insert(models), fresh)
            if stale:
                names: dict[str, Any] = {name: bindparam(name) for name in stale[0] if name not in ("key", "id")}
                connection.execute(update(models).where(models.c.id == bindparam("key")).values(names), stale)

    def mark_gone(self, ids: Iterable[str], now: datetime) -> None:
        """Marks models as gone, for which the upstream answers 404. Their weights stay."""
        gone = list(ids)
        if not gone:
            return
        with self._database.writing() as connection:
            values = {"gone_at": micros(now), "revision": next_revision(connection)}
            for batch in batches(gone):
                connection.execute(update(models).where(models.c.id.in_(batch)).values(values))

    def ids_of(self, model: str) -> list[str]:
        """Returns the ids of the models with this id or else this name, gone ones included."""
        with self._database.reading() as connection:
            by_id = list(connection.scalars(select(models.c.id).where(models.c.id == model)))
            return by_id or list(connection.scalars(select(models.c.id).where(models.c.name == model)))

    def known(self, ids: Collection[str] | None = None) -> dict[str, Known]:
        """Returns models by id, gone ones included: those with the given ids, or all when `ids` is None."""
        with self._database.reading() as connection:
            if ids is None:
                return _known(connection, None)
            found: dict[str, Known] = {}
            for batch in batches(list(ids)):
                found |= _known(connection, batch)
            return found

    def recorded(self) -> Iterator[Recorded]:
        """Yields every model that is not gone. Writers wait meanwhile, so the caller should not work in between."""
        of = models.c
        chosen = select(of.id, of.status, of.stamp, of.fingerprint, of.text_digest).where(of.gone_at.is_(None))
        with self._database.reading() as connection:
            yield from driver_rows(connection, chosen)


def driver_rows(connection: Connection, chosen: Select[Any]) -> Iterator[Any]:
    """Yields the driver's own tuples of the chosen columns."""
    cursor: Any = connection.execute(chosen).cursor
    yield from cursor


def _present(connection: Connection, ids: Sequence[str]) -> dict[str, int | None]:
    """Returns which of the ids exist, with the time since when each is archived, or None."""
    found: dict[str, int | None] = {}
    for batch in batches(ids):
        rows = connection.execute(select(models.c.id, models.c.archived_at).where(models.c.id.in_(batch)))
        found.update((row.id, row.archived_at) for row in rows)
    return found


def _archived_at(row: Mapping[str, Any], present: Mapping[str, int | None], now: datetime) -> int | None:
    if row["status"] != ModelStatus.ARCHIVED:
        return None
    return present.get(row["id"]) or micros(now)


def _known(connection: Connection, ids: Collection[str] | None) -> dict[str, Known]:
    columns = (models.c.id, models.c.name, models.c.status, models.c.fingerprint, models.c.stamp, models.c.gone_at)
    current = _current_weights(connection, ids)
    absent, evicted = (_stamps(connection, each, ids) for each in (absences, evictions))
    none: frozenset[tuple[str, str]] = frozenset()
    return {
        model_id: Known(
            name,
            status,
            fingerprint,
            stamp,
            gone_at is not None,
            current.get(model_id, ()),
            absent.get(model_id, none),
            evicted.get(model_id, none),
        )
        for model_id, name, status, fingerprint, stamp, gone_at in driver_rows(
            connection, _of(select(*columns), models.c.id, ids)
        )
    }


def _of(chosen: Select[Any], column: Any, ids: Collection[str] | None) -> Select[Any]:
    return chosen if ids is None else chosen.where(column.in_(ids))


def _current_weights(connection: Connection, ids: Collection[str] | None) -> dict[str, tuple[KnownWeights, ...]]:
    of = weights.c
    chosen = select(of.model_id, of.format, of.md5, of.sha256, of.size, of.stamp, is_lost())
    found: dict[str, tuple[KnownWeights, ...]] = {}
    for row in driver_rows(connection, _of(chosen.where(of.current == 1), of.model_id, ids)):
        model_id, weights_format, md5, sha256, size, stamp, lost = row
        each = KnownWeights(weights_format, md5, sha256, size, stamp, bool(lost))
        found[model_id] = (*found.get(model_id, ()), each)
    return found


def _stamps(connection: Connection, table: Table, ids: Collection[str] | None) -> Stamps:
    """Returns pairs of a format and a stamp, by model id."""
    chosen = _of(select(table.c.model_id, table.c.format, table.c.stamp), table.c.model_id, ids)
    found: Stamps = {}
    for model_id, weights_format, stamp in driver_rows(connection, chosen):
        found[model_id] = found.get(model_id, frozenset()) | {(weights_format, stamp)}
    return found
