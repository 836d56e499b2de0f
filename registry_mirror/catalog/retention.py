"""What retention and `gc` ask of the catalog and record in it: rows that are let go, blobs without a name, pins."""

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
    """One file of a model that is on record, with all that decides how long it stays.

    Attributes:
        model_id, name: of the model.
        current: False once other weights of the format have taken its place, at `superseded_at`.
        status, archived_at, gone_at: of the model.
        pinned: whether the operator wants it kept.
        fresh: whether the model is still as it was when the upstream last gave these weights.
        failing: whether the upstream could not give them at the last try.

    Times are aware UTC; `superseded_at` is None where it is not known.
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
    """A blob that no row wants: why it was let go (None: nobody knows), and since when no index is seen to name it."""

    reason: str | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Pin:
    """A model whose weights stay."""

    model_id: str
    name: str
    pinned_at: datetime | None


def wanted_again(connection: Connection, several: Sequence[tuple[str, str, str]]) -> None:
    """Ends evictions, and the grace periods of blobs: the next time that nobody wants one, it has another.

    Args:
        several: model id, format and MD5 of each.
    """
    connection.execute(_EVICTION_OVER, [{"of": model_id, "in_format": each} for model_id, each, _ in several])
    starts = [f"{md5[:2]}/{md5}" for _, _, md5 in several]
    connection.execute(_NOTE_OVER, [{"first": f"{start}.", "end": f"{start}/"} for start in starts])


_EVICTION_OVER = delete(evictions).where(
    evictions.c.model_id == bindparam("of"), evictions.c.format == bindparam("in_format")
)
# A range, whatever format they are of ("/" comes after "."): the primary key finds them, and LIKE would read the whole
# table for each row.
_NOTE_OVER = delete(unnamed).where(unnamed.c.blob >= bindparam("first"), unnamed.c.blob < bindparam("end"))


class Retention:
    """What `gc` reads and writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def holdings(self) -> list[Holding]:
        """Every file on record."""
        with self._database.reading() as connection:
            return list(_holdings(connection))

    def notes(self) -> dict[str, Note]:
        """The blobs that no row wanted when `gc` last looked, by their names."""
        with self._database.reading() as connection:
            return {row.blob: Note(row.reason, moment(row.since)) for row in connection.execute(select(unnamed))}

    def let_go(
        self,
        reasons: Mapping[Holding, str],
        name_of: Callable[[Holding], str],
        *,
        evicted_at: datetime | None = None,
        rest: Callable[[float], None] = time.sleep,
    ) -> list[Holding]:
        """Takes rows off the record, so that the next index does not name them. Their blobs are noted and stay.

        Many go in several transactions, and other writers come in between. Each is whole: a kill between two leaves
        rows that are let go, and rows that are as they were.

        Args:
            reasons: what to let go and why. One that has changed in any way since is left as it is.
            name_of: the blob of a row.
            evicted_at: the weights make room for others, and a sync is not to fetch them again.
            rest: called with seconds to leave the catalog to others; may raise.

        Returns:
            What was let go.
        """
        done: list[Holding] = []
        for turn in in_turns(list(reasons), rest):
            with self._database.writing() as connection:
                present = set(_holdings(connection, {held.model_id for held in turn}))
                going = [held for held in turn if held in present]
                if going:
                    _let_go(connection, {held: (name_of(held), reasons[held]) for held in going}, evicted_at)
            done += going
        return done

    def note_unnamed(self, blobs: Collection[str], now: datetime, rest: Callable[[float], None] = time.sleep) -> None:
        """Begins the grace period of blobs that neither a row nor the published index names.

        One that has begun goes on. `rest` as for `let_go`.
        """
        since = micros(now)
        for turn in in_turns(list(blobs), rest):
            with self._database.writing() as connection:
                connection.execute(_BEGIN_GRACE, [{"blob": blob, "reason": None, "since": since} for blob in turn])

    def forget_notes(self, blobs: Iterable[str]) -> None:
        """Ends the grace period of blobs that are named again, or no longer there."""
        forgotten = list(blobs)
        if not forgotten:
            return
        with self._database.writing() as connection:
            for batch in batches(forgotten):
                connection.execute(delete(unnamed).where(unnamed.c.blob.in_(batch)))

    def release(self, blob: str, md5: str, since: datetime, take: Callable[[Collection[str]], bool]) -> bool:
        """Lets `take` take a blob out of the store while no row can come to want it.

        Args:
            since: when its grace period began; nothing is taken when another one has begun.
            take: is given the formats in which rows want this MD5, and says whether it took the blob.
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
    """The models whose weights stay, whatever retention says."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Pin]:
        """The pinned models by name."""
        chosen = select(pins.c.model_id, models.c.name, pins.c.pinned_at).join(models, models.c.id == pins.c.model_id)
        with self._database.reading() as connection:
            rows = connection.execute(chosen.order_by(models.c.name, pins.c.model_id))
            return [Pin(row.model_id, row.name, moment(row.pinned_at)) for row in rows]

    def add(self, ids: Sequence[str], now: datetime) -> list[str]:
        """Pins models that are in the catalog; says which were not pinned before."""
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
        """Takes pins away; says which there were."""
        with self._database.writing() as connection:
            before = set(connection.scalars(select(pins.c.model_id).where(pins.c.model_id.in_(ids))))
            if before:
                connection.execute(delete(pins).where(pins.c.model_id.in_(before)))
                touch(connection, sorted(before))
        return [each for each in dict.fromkeys(ids) if each in before]


def _holdings(connection: Connection, model_ids: Collection[str] | None = None) -> Iterator[Holding]:
    """The files on record of some models, of all for None."""
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
    """Takes rows off the record, each with the name of its blob and the reason; each statement once for all of them."""
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
