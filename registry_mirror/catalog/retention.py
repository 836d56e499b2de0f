"""What retention and `gc` ask of the catalog and record in it: rows that are let go, blobs without a name, pins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, exists, insert, select, update

from ..model import format_time, parse_time
from .rows import batches, touch
from .schema import checks, evictions, failures, models, pins, runs, unnamed, weights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from .values import Weights


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


def wanted_again(connection: Connection, several: Sequence[Weights]) -> None:
    """Ends evictions, and the grace periods of blobs: the next time that nobody wants one, it has another."""
    connection.execute(_EVICTION_OVER, [{"of": each.model_id, "in_format": each.format} for each in several])
    connection.execute(_NOTE_OVER, [{"start": f"{each.md5[:2]}/{each.md5}."} for each in several])


_EVICTION_OVER = delete(evictions).where(
    evictions.c.model_id == bindparam("of"), evictions.c.format == bindparam("in_format")
)
_NOTE_OVER = delete(unnamed).where(unnamed.c.blob.startswith(bindparam("start")))


class Retention:
    """The catalog's part for them."""

    if TYPE_CHECKING:

        def _reading(self) -> AbstractContextManager[Connection]: ...

        def _writing(self) -> AbstractContextManager[Connection]: ...

    def holdings(self) -> list[Holding]:
        """Every file on record."""
        with self._reading() as connection:
            return _holdings(connection)

    def notes(self) -> dict[str, Note]:
        """The blobs that no row wanted when `gc` last looked, by their names."""
        with self._reading() as connection:
            return {row.blob: Note(row.reason, parse_time(row.since)) for row in connection.execute(select(unnamed))}

    def last_ok_run(self) -> datetime | None:
        """When the last run ended that fetched all there was to fetch."""
        chosen = select(runs.c.finished_at).where(runs.c.outcome == "ok").order_by(runs.c.id.desc()).limit(1)
        with self._reading() as connection:
            return parse_time(connection.scalar(chosen))

    def last_run(self) -> datetime | None:
        """When the last run ended, however it did."""
        with self._reading() as connection:
            return parse_time(connection.scalar(select(runs.c.finished_at).order_by(runs.c.id.desc()).limit(1)))

    def last_listing(self) -> datetime | None:
        """When the last run ended, if it read the whole listing and did not fail; None otherwise."""
        with self._reading() as connection:
            found = connection.scalar(select(runs.c.record).order_by(runs.c.id.desc()).limit(1))
        run = json.loads(found or "{}")
        return parse_time(run["finished_at"]) if run.get("whole_listing") and run["outcome"] != "failed" else None

    # -- letting go -----------------------------------------------------------------------------------------------

    def let_go(
        self, reasons: Mapping[Holding, str], name_of: Callable[[Holding], str], *, evicted_at: datetime | None = None
    ) -> list[Holding]:
        """Takes rows off the record, so that the next index does not name them. Their blobs are noted and stay.

        Args:
            reasons: what to let go and why. One that has changed in any way since is left as it is.
            name_of: the blob of a row.
            evicted_at: the weights make room for others, and a sync is not to fetch them again.

        Returns:
            What was let go.
        """
        if not reasons:
            return []
        with self._writing() as connection:
            present = set(_holdings(connection))
            done = [held for held in reasons if held in present]
            for held in done:
                if evicted_at is not None:
                    _record_eviction(connection, held, evicted_at)
                connection.execute(delete(weights).where(*_key(held)))
                _note(connection, name_of(held), reasons[held])
            if done:
                touch(connection, sorted({held.model_id for held in done}))
        return done

    def note_unnamed(self, blobs: Collection[str], now: datetime) -> None:
        """Begins the grace period of blobs that neither a row nor the published index names."""
        if not blobs:
            return
        with self._writing() as connection:
            for blob in blobs:
                _note(connection, blob, None)
                key = (unnamed.c.blob == blob) & unnamed.c.since.is_(None)
                # To the microsecond: a time cut to whole seconds would end the grace period too soon.
                connection.execute(update(unnamed).where(key).values(since=now.isoformat()))

    def forget_notes(self, blobs: Iterable[str]) -> None:
        """Ends the grace period of blobs that are named again, or no longer there."""
        forgotten = list(blobs)
        if not forgotten:
            return
        with self._writing() as connection:
            for batch in batches(forgotten):
                connection.execute(delete(unnamed).where(unnamed.c.blob.in_(batch)))

    def release(self, blob: str, md5: str, since: datetime, take: Callable[[Collection[str]], bool]) -> bool:
        """Lets `take` take a blob out of the store while no row can come to want it.

        Args:
            since: when its grace period began; nothing is taken when another one has begun.
            take: is given the formats in which rows want this MD5, and says whether it took the blob.
        """
        with self._writing() as connection:
            noted = connection.scalar(select(unnamed.c.since).where(unnamed.c.blob == blob))
            if parse_time(noted) != since:
                return False
            formats = set(connection.scalars(select(weights.c.format).where(weights.c.md5 == md5)))
            if not take(formats):
                return False
            connection.execute(delete(unnamed).where(unnamed.c.blob == blob))
            if not formats:
                connection.execute(delete(checks).where(checks.c.md5 == md5))
        return True

    # -- pins -----------------------------------------------------------------------------------------------------

    def pins(self) -> list[Pin]:
        """The pinned models by name."""
        chosen = select(pins.c.model_id, models.c.name, pins.c.pinned_at).join(models, models.c.id == pins.c.model_id)
        with self._reading() as connection:
            rows = connection.execute(chosen.order_by(models.c.name, pins.c.model_id))
            return [Pin(row.model_id, row.name, parse_time(row.pinned_at)) for row in rows]

    def pin(self, ids: Sequence[str], now: datetime) -> list[str]:
        """Pins models that are in the catalog; says which were not pinned before."""
        with self._writing() as connection:
            known = set(connection.scalars(select(models.c.id).where(models.c.id.in_(ids))))
            before = set(connection.scalars(select(pins.c.model_id).where(pins.c.model_id.in_(ids))))
            fresh = [each for each in dict.fromkeys(ids) if each in known - before]
            if fresh:
                moment = format_time(now)
                connection.execute(insert(pins), [{"model_id": each, "pinned_at": moment} for each in fresh])
                touch(connection, fresh)
        return fresh

    def unpin(self, ids: Sequence[str]) -> list[str]:
        """Takes pins away; says which there were."""
        with self._writing() as connection:
            before = set(connection.scalars(select(pins.c.model_id).where(pins.c.model_id.in_(ids))))
            if before:
                connection.execute(delete(pins).where(pins.c.model_id.in_(before)))
                touch(connection, sorted(before))
        return [each for each in dict.fromkeys(ids) if each in before]


def _holdings(connection: Connection) -> list[Holding]:
    pinned = exists().where(pins.c.model_id == weights.c.model_id)
    failing = exists().where(failures.c.model_id == weights.c.model_id, failures.c.format == weights.c.format)
    columns = (
        weights, models.c.name, models.c.status, models.c.archived_at, models.c.gone_at,
        (models.c.stamp == weights.c.stamp).label("fresh"), pinned.label("pinned"), failing.label("failing"),
    )  # fmt: skip
    chosen = select(*columns).join(models, models.c.id == weights.c.model_id)
    rows = connection.execute(chosen.order_by(*weights.primary_key))
    return [
        Holding(
            row.model_id,
            row.name,
            row.format,
            row.md5,
            row.size,
            bool(row.current),
            parse_time(row.fetched_at),
            parse_time(row.superseded_at),
            row.status,
            parse_time(row.archived_at),
            parse_time(row.gone_at),
            bool(row.pinned),
            bool(row.fresh),
            bool(row.failing),
        )
        for row in rows
    ]


def _key(held: Holding) -> tuple[ColumnElement[bool], ...]:
    return (
        weights.c.model_id == held.model_id, weights.c.format == held.format, weights.c.md5 == held.md5,
    )  # fmt: skip


def _record_eviction(connection: Connection, held: Holding, now: datetime) -> None:
    key = (evictions.c.model_id == held.model_id) & (evictions.c.format == held.format)
    connection.execute(delete(evictions).where(key))
    stamp = connection.scalar(select(models.c.stamp).where(models.c.id == held.model_id))
    values = {"model_id": held.model_id, "format": held.format, "md5": held.md5, "size": held.size, "stamp": stamp}
    connection.execute(insert(evictions), {**values, "evicted_at": format_time(now)})


def _note(connection: Connection, blob: str, reason: str | None) -> None:
    """Notes a blob; one that is noted already keeps what is known of it, but for a reason that is new."""
    key = unnamed.c.blob == blob
    anew = {"reason": reason, "since": None}
    if reason is not None and connection.execute(update(unnamed).where(key).values(anew)).rowcount:
        return
    if connection.scalar(select(unnamed.c.blob).where(key)) is None:
        connection.execute(insert(unnamed), {"blob": blob, "reason": reason, "since": None})
