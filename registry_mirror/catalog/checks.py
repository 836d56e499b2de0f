"""Checks of the stored bytes: one row per blob, however many models have it.

Weights of a lost blob stay in the catalog, and are left out of the index until the blob is fetched again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, exists, insert, select, tuple_, update

from ..model import BlobCheck, BlobRecord, micros, moment
from .database import batches, next_revision, touch
from .schema import checks, failures, models, weights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from .database import Database

    Name = tuple[str, str]  # MD5 and format


@dataclass(frozen=True, slots=True)
class Verified:
    """A blob whose bytes matched their digests, with the size and the modification time of its file."""

    md5: str
    format: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A model that has a blob as its current weights (`current`) or as superseded ones."""

    model_id: str
    name: str
    current: bool


def is_lost() -> ColumnElement[bool]:
    """Returns the SQL condition that the blob of a row of `weights` is lost."""
    return exists().where(
        checks.c.md5 == weights.c.md5, checks.c.format == weights.c.format, checks.c.lost_at.is_not(None)
    )


def found_again(connection: Connection, names: Sequence[Name]) -> None:
    """Marks lost blobs as no longer lost, after they were stored again. They count as never checked."""
    lost = checks.c.lost_at.is_not(None)
    for batch in batches(list(dict.fromkeys(names))):
        key = tuple_(checks.c.md5, checks.c.format).in_(batch)
        again = [(row.md5, row.format) for row in connection.execute(select(checks).where(key, lost))]
        if again:
            values = {"lost_at": None, "reason": None, "checked_at": None, "size": None, "mtime_ns": None}
            _set(connection, again, values)
            _touch_holders(connection, again)


class Checks:
    """The results of checks of the stored bytes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def blobs(self, model_ids: Collection[str] | None = None) -> list[BlobRecord]:
        """Returns every blob that weights name, or only the blobs of the given models."""
        joined = weights.outerjoin(checks, (checks.c.md5 == weights.c.md5) & (checks.c.format == weights.c.format))
        columns = (weights.c.md5, weights.c.format, weights.c.model_id, weights.c.size, weights.c.sha256)
        checked = (checks.c.checked_at, checks.c.size.label("then"), checks.c.mtime_ns, checks.c.lost_at)
        found: dict[Name, BlobRecord] = {}
        with self._database.reading() as connection:
            for row in connection.execute(select(*columns, *checked).select_from(joined)):
                if model_ids is None or row.model_id in model_ids:
                    older = found.get((row.md5, row.format))
                    digests = sorted({row.sha256, *(older.sha256 if older else ())})
                    check = BlobCheck(moment(row.checked_at), row.then, row.mtime_ns, moment(row.lost_at))
                    found[row.md5, row.format] = BlobRecord(row.md5, row.format, row.size, tuple(digests), check)
        return list(found.values())

    def record(self, several: Sequence[Verified], now: datetime) -> None:
        """Records blobs whose bytes are right. A blob that was recorded as lost is no longer lost."""
        if not several:
            return
        names = [(each.md5, each.format) for each in several]
        with self._database.writing() as connection:
            found_again(connection, names)
            revision = next_revision(connection)
            for batch in batches(names):
                connection.execute(delete(checks).where(tuple_(checks.c.md5, checks.c.format).in_(batch)))
            values = {"checked_at": micros(now), "lost_at": None, "reason": None, "revision": revision}
            connection.execute(
                insert(checks),
                [
                    {"md5": each.md5, "format": each.format, "size": each.size, "mtime_ns": each.mtime_ns, **values}
                    for each in several
                ],
            )

    def record_doubts(self, names: Sequence[Name]) -> None:
        """Forgets the last check of blobs whose files changed since then, so that they are checked first."""
        if not names:
            return
        with self._database.writing() as connection:
            _set(connection, names, {"checked_at": None})

    def record_lost(self, md5: str, weights_format: str, reason: str, now: datetime) -> None:
        """Records that a blob is damaged or missing. The index then leaves it out, and a sync fetches it again.

        Also records a failure for each model whose current weights it holds. The failure ends with the next fetch.
        """
        name, now_micros = (md5, weights_format), micros(now)
        current = select(weights.c.model_id).where(weights.c.md5 == md5, weights.c.format == weights_format)
        with self._database.writing() as connection:
            _put(connection, name, {"lost_at": now_micros, "reason": reason, "checked_at": None})
            _mark(connection, [name])
            _touch_holders(connection, [name])
            for model_id in list(connection.scalars(current.where(weights.c.current == 1))):
                put_failure(connection, model_id, weights_format, reason, now_micros)

    def holders(self, md5: str, weights_format: str) -> list[Holder]:
        """Returns the models that have or had a blob, sorted by name."""
        joined = weights.join(models, models.c.id == weights.c.model_id)
        chosen = select(models.c.id, models.c.name, weights.c.current).select_from(joined)
        chosen = chosen.where(weights.c.md5 == md5, weights.c.format == weights_format)
        with self._database.reading() as connection:
            rows = connection.execute(chosen.order_by(models.c.name, models.c.id))
            return [Holder(row.id, row.name, bool(row.current)) for row in rows]


def _put(connection: Connection, name: Name, values: dict[str, Any]) -> None:
    """Sets values of a blob's check, and inserts the row if it is missing. The caller must set the revision."""
    key = (checks.c.md5 == name[0]) & (checks.c.format == name[1])
    if connection.execute(update(checks).where(key).values(values)).rowcount == 0:
        connection.execute(insert(checks), {"md5": name[0], "format": name[1], "revision": 0, **values})


def _set(connection: Connection, names: Sequence[Name], values: dict[str, Any]) -> None:
    """Sets values of existing checks, and gives them a new revision."""
    key = (checks.c.md5 == bindparam("key_md5")) & (checks.c.format == bindparam("key_format"))
    keys = [{"key_md5": md5, "key_format": weights_format} for md5, weights_format in names]
    marked = {**values, "revision": next_revision(connection)}
    connection.execute(update(checks).where(key).values(marked), keys)


def _mark(connection: Connection, names: Sequence[Name]) -> None:
    _set(connection, names, {})


def _touch_holders(connection: Connection, names: Iterable[Name]) -> None:
    """Marks the models that have one of these blobs as changed, so that the next index copies them again."""
    for batch in batches(list(names)):
        key = tuple_(weights.c.md5, weights.c.format).in_(batch)
        ids = list(connection.scalars(select(weights.c.model_id).where(key).distinct()))
        touch(connection, ids)


def put_failure(connection: Connection, model_id: str, weights_format: str, error: str, at: int | None) -> None:
    """Records that weights could not be fetched, and counts the failed attempts since the last success."""
    key = (failures.c.model_id == model_id) & (failures.c.format == weights_format)
    older = connection.execute(select(failures).where(key)).first()
    clear_failure(connection, model_id, weights_format)
    values = {
        "model_id": model_id,
        "format": weights_format,
        "error": error,
        "attempts": 1 if older is None else older.attempts + 1,
        "first_failed_at": at if older is None else older.first_failed_at,
        "last_failed_at": at,
    }
    connection.execute(insert(failures), values)


def clear_failure(connection: Connection, model_id: str, weights_format: str) -> None:
    """Deletes the failure of one model in one format."""
    connection.execute(delete(failures).where(failures.c.model_id == model_id, failures.c.format == weights_format))
