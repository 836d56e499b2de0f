"""What retention and `gc` read from the catalog and record in it: deleted rows, blobs that no row names, and pins."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, exists, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from ..model import micros, moment
from .database import batches, in_turns, touch
from .schema import checks, evictions, failures, models, pins, unnamed, weights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from .database import Database


@dataclass(frozen=True, slots=True)
class Holding:
    """One row of weights, with all that decides how long it is kept.

    Attributes:
        model_id, name: of the model.
        current: False once other weights of the same format superseded these, at `superseded_at`.
        status, archived_at, gone_at: of the model.
        pinned: whether the operator wants the model's weights kept.
        fresh: whether the model's stamp is still the one with which these weights were recorded.
        failing: whether the last attempt to fetch this format failed.

    Times are aware UTC; `superseded_at` is None when it is unknown.
    """

    model_id: str
    name: str
    format: str
    md5: str
    size: int
    current: bool
    fetched_at: datetime | None
    superseded_at: datetime | None
    status: str
    archived_at: datetime | None
    gone_at: datetime | None
    pinned: bool
    fresh: bool
    failing: bool


@dataclass(frozen=True, slots=True)
class Note:
    """A blob that no row names: why its row was deleted (None: unknown), and since when no index names it either."""

    reason: str | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Pin:
    """A model whose weights are kept."""

    model_id: str
    name: str
    pinned_at: datetime | None


def wanted_again(connection: Connection, several: Sequence[tuple[str, str, str]]) -> None:
    """Ends evictions of weights and grace periods of blobs that a row names again. A later grace period starts anew.

    Args:
        several: model id, format and MD5 of each.
    """
    connection.execute(_EVICTION_OVER, [{"of": model_id, "in_format": each} for model_id, each, _ in several])
    starts = [f"{md5[:2]}/{md5}" for _, _, md5 in several]
    connection.execute(_NOTE_OVER, [{"first": f"{start}.", "end": f"{start}/"} for start in starts])


_EVICTION_OVER = delete(evictions).where(
    evictions.c.model_id == bindparam("of"), evictions.c.format == bindparam("in_format")
)
# The range covers a blob's name with any format's ending, as "/" comes after ".". SQLite finds a range by the primary
# key, while LIKE would read the whole table for each row.
_NOTE_OVER = delete(unnamed).where(unnamed.c.blob >= bindparam("first"), unnamed.c.blob < bindparam("end"))


class Retention:
    """The part of the catalog that `gc` reads and writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def holdings(self) -> list[Holding]:
        """Returns all rows of weights."""
        with self._database.reading() as connection:
            return list(_holdings(connection))

    def notes(self) -> dict[str, Note]:
        """Returns the notes about blobs that no row names, by the blobs' names."""
        with self._database.reading() as connection:
            return {row.blob: Note(row.reason, moment(row.since)) for row in connection.execute(select(unnamed))}

    def let_go(
        self,
        reasons: Mapping[Holding, str],
        name_of: Callable[[Holding], str],
        *,
        evicted_at: datetime | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> list[Holding]:
        """Deletes rows of weights, so that the next index does not name them. Their blobs stay and get a note.

        Many rows are deleted in several transactions, between which other writers may work. A kill between two leaves
        the remaining rows unchanged.

        Args:
            reasons: the rows to delete, with the reason for each. A row that has changed since is left as it is.
            name_of: returns the name of a row's blob.
            evicted_at: the time of the eviction, if the weights make room for others: a sync then does not fetch them
                again while the model is unchanged.
            pause: called with the seconds to pause between transactions; may raise.

        Returns:
            The rows that were deleted.
        """
        done: list[Holding] = []
        for turn in in_turns(list(reasons), pause):
            with self._database.writing() as connection:
                present = set(_holdings(connection, {held.model_id for held in turn}))
                going = [held for held in turn if held in present]
                if going:
                    _let_go(connection, {held: (name_of(held), reasons[held]) for held in going}, evicted_at)
            done += going
        return done

    def note_unnamed(self, blobs: Collection[str], now: datetime, pause: Callable[[float], None] = time.sleep) -> None:
        """Starts the grace period of blobs that neither a row nor the published index names.

        A grace period that has started already continues. `pause` is as in `let_go`.
        """
        since = micros(now)
        for turn in in_turns(list(blobs), pause):
            with self._database.writing() as connection:
                connection.execute(_BEGIN_GRACE, [{"blob": blob, "reason": None, "since": since} for blob in turn])

    def forget_notes(self, blobs: Iterable[str]) -> None:
        """Ends the grace periods of blobs that are named again or are no longer in the store."""
        forgotten = list(blobs)
        if not forgotten:
            return
        with self._database.writing() as connection:
            for batch in batches(forgotten):
                connection.execute(delete(unnamed).where(unnamed.c.blob.in_(batch)))

    def release(self, blob: str, md5: str, since: datetime, take: Callable[[Collection[str]], bool]) -> bool:
        """Calls `take` to remove a blob from the store, in a transaction that keeps others from adding a row for it.

        Args:
            since: when the blob's grace period began. If the catalog has another date, `take` is not called.
            take: gets the formats in which rows name this MD5, and returns whether it removed the blob.

        Returns:
            Whether the blob was removed.
        """
        with self._database.writing() as connection:
            noted = connection.scalar(select(unnamed.c.since).where(unnamed.c.blob == blob))
            if moment(noted) != since:
                return False
            formats = set(connection.scalars(select(weights.c.format).where(weights.c.md5 == md5)))
            if not take(formats):
                return False
            connection.execute(delete(unnamed).where(unnamed.c.blob == blob))
            if not formats:
                connection.execute(delete(checks).where(checks.c.md5 == md5))
        return True


class Pins:
    """The models whose weights are kept, whatever the rules of retention say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Pin]:
        """Returns the pins, sorted by the models' names."""
        chosen = select(pins.c.model_id, models.c.name, pins.c.pinned_at).join(models, models.c.id == pins.c.model_id)
        with self._database.reading() as connection:
            rows = connection.execute(chosen.order_by(models.c.name, pins.c.model_id))
            return [Pin(row.model_id, row.name, moment(row.pinned_at)) for row in rows]

    def add(self, ids: Sequence[str], now: datetime) -> list[str]:
        """Pins those models that are in the catalog. Returns the ids that were not pinned before."""
        with self._database.writing() as connection:
            known = set(connection.scalars(select(models.c.id).where(models.c.id.in_(ids))))
            before = set(connection.scalars(select(pins.c.model_id).where(pins.c.model_id.in_(ids))))
            fresh = [each for each in dict.fromkeys(ids) if each in known - before]
            if fresh:
                now_micros = micros(now)
                connection.execute(insert(pins), [{"model_id": each, "pinned_at": now_micros} for each in fresh])
                touch(connection, fresh)
        return fresh

    def remove(self, ids: Sequence[str]) -> list[str]:
        """Removes pins. Returns the ids that were pinned."""
        with self._database.writing() as connection:
            before = set(connection.scalars(select(pins.c.model_id).where(pins.c.model_id.in_(ids))))
            if before:
                connection.execute(delete(pins).where(pins.c.model_id.in_(before)))
                touch(connection, sorted(before))
        return [each for each in dict.fromkeys(ids) if each in before]


def _holdings(connection: Connection, model_ids: Collection[str] | None = None) -> Iterator[Holding]:
    """Yields the rows of weights of the given models, or of all when `model_ids` is None."""
    pinned = exists().where(pins.c.model_id == weights.c.model_id)
    failing = exists().where(failures.c.model_id == weights.c.model_id, failures.c.format == weights.c.format)
    columns = (
        weights, models.c.name, models.c.status, models.c.archived_at, models.c.gone_at,
        (models.c.stamp == weights.c.stamp).label("fresh"), pinned.label("pinned"), failing.label("failing"),
    )  # fmt: skip
    chosen = select(*columns).join(models, models.c.id == weights.c.model_id).order_by(*weights.primary_key)
    if model_ids is None:
        yield from map(_holding, connection.execute(chosen))
        return
    for batch in batches(sorted(model_ids)):
        yield from map(_holding, connection.execute(chosen.where(weights.c.model_id.in_(batch))))


def _holding(row: Row[Any]) -> Holding:
    return Holding(
        row.model_id,
        row.name,
        row.format,
        row.md5,
        row.size,
        bool(row.current),
        moment(row.fetched_at),
        moment(row.superseded_at),
        row.status,
        moment(row.archived_at),
        moment(row.gone_at),
        bool(row.pinned),
        bool(row.fresh),
        bool(row.failing),
    )


def _let_go(connection: Connection, going: Mapping[Holding, tuple[str, str]], evicted_at: datetime | None) -> None:
    """Deletes rows of weights, and notes their blobs with the reasons. Each statement runs once for all rows.

    Args:
        going: for each row, the name of its blob and the reason.
        evicted_at: also records evictions with this time, unless it is None.
    """
    keys = [{"of": held.model_id, "in_format": held.format, "under": held.md5, "bytes": held.size} for held in going]
    if evicted_at is not None:
        at = micros(evicted_at)
        connection.execute(_EVICTION_OVER, keys)
        connection.execute(_EVICT, [{**key, "at": at} for key in keys])
    connection.execute(_LET_GO, keys)
    notes = [{"blob": blob, "reason": reason, "since": None} for blob, reason in going.values()]
    connection.execute(_NOTE, notes)
    touch(connection, sorted({held.model_id for held in going}))


_LET_GO = delete(weights).where(
    weights.c.model_id == bindparam("of"),
    weights.c.format == bindparam("in_format"),
    weights.c.md5 == bindparam("under"),
)
_EVICT = insert(evictions).values(
    model_id=bindparam("of"),
    format=bindparam("in_format"),
    stamp=select(models.c.stamp).where(models.c.id == bindparam("of")).scalar_subquery(),
    md5=bindparam("under"),
    size=bindparam("bytes"),
    evicted_at=bindparam("at"),
)
_ANEW = upsert(unnamed)
_NOTE = _ANEW.on_conflict_do_update(set_={"reason": _ANEW.excluded.reason, "since": None})
_BEGIN_GRACE = _ANEW.on_conflict_do_update(set_={"since": _ANEW.excluded.since}, where=unnamed.c.since.is_(None))
