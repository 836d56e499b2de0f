"""Checks of the stored bytes: one row a blob, whichever models have it.

A blob that is lost keeps its weights on record, and is left out of the index until it comes again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, exists, insert, select, tuple_, update

from ..model import format_time
from .rows import batches, next_revision, put_failure, touch
from .schema import checks, models, weights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Row

    Name = tuple[str, str]  # MD5 and format

_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Check:
    """What the last check found.

    Attributes:
        checked_at: when its bytes were last hashed and right; None when never, or when its file has changed since.
        size, mtime_ns: of the file then.
        lost_at, reason: since when it is known to be damaged or missing, and how it was.
    """

    checked_at: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    lost_at: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that weights on record name.

    Attributes:
        sha256: every SHA-256 that is recorded for it; more than one is a fault of the record.
    """

    md5: str
    format: str
    size: int
    sha256: tuple[str, ...]
    check: Check


@dataclass(frozen=True, slots=True)
class Verified:
    """A blob whose bytes were hashed and right, and what its file was like."""

    md5: str
    format: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A model that has a blob, now (`current`) or from before."""

    model_id: str
    name: str
    current: bool


@dataclass(frozen=True, slots=True)
class CheckRow:
    """A check as the index takes it."""

    md5: str
    format: str
    check: Check


def is_lost() -> ColumnElement[bool]:
    """The condition that the blob of a row of `weights` is lost."""
    return exists().where(
        checks.c.md5 == weights.c.md5, checks.c.format == weights.c.format, checks.c.lost_at.is_not(None)
    )


def found_again(connection: Connection, names: Sequence[Name]) -> None:
    """Ends the loss of blobs whose bytes have come; they wait for their first check."""
    lost = checks.c.lost_at.is_not(None)
    for batch in batches(list(dict.fromkeys(names))):
        key = tuple_(checks.c.md5, checks.c.format).in_(batch)
        again = [(row.md5, row.format) for row in connection.execute(select(checks).where(key, lost))]
        if again:
            values = {"lost_at": None, "reason": None, "checked_at": None, "size": None, "mtime_ns": None}
            _set(connection, again, values)
            _touch_holders(connection, again)


class Checks:
    """The catalog's part for them."""

    if TYPE_CHECKING:

        def _reading(self) -> AbstractContextManager[Connection]: ...

        def _writing(self) -> AbstractContextManager[Connection]: ...

    def blobs(self, model_ids: Collection[str] | None = None) -> list[Blob]:
        """Every blob on record, or those of some models."""
        joined = weights.outerjoin(checks, (checks.c.md5 == weights.c.md5) & (checks.c.format == weights.c.format))
        columns = (weights.c.md5, weights.c.format, weights.c.model_id, weights.c.size, weights.c.sha256)
        checked = (checks.c.checked_at, checks.c.size.label("then"), checks.c.mtime_ns, checks.c.lost_at)
        found: dict[Name, Blob] = {}
        with self._reading() as connection:
            for row in connection.execute(select(*columns, *checked, checks.c.reason).select_from(joined)):
                if model_ids is None or row.model_id in model_ids:
                    older = found.get((row.md5, row.format))
                    digests = sorted({row.sha256, *(older.sha256 if older else ())})
                    check = Check(row.checked_at, row.then, row.mtime_ns, row.lost_at, row.reason)
                    found[row.md5, row.format] = Blob(row.md5, row.format, row.size, tuple(digests), check)
        return list(found.values())

    def ids_of(self, model: str) -> list[str]:
        """The models that an id or a name means, gone ones included; an id wins."""
        with self._reading() as connection:
            by_id = list(connection.scalars(select(models.c.id).where(models.c.id == model)))
            return by_id or list(connection.scalars(select(models.c.id).where(models.c.name == model)))

    def record_checks(self, several: Sequence[Verified], now: datetime) -> None:
        """Records blobs whose bytes are right. One that was taken for lost is lost no more."""
        if not several:
            return
        names = [(each.md5, each.format) for each in several]
        with self._writing() as connection:
            found_again(connection, names)
            revision = next_revision(connection)
            for batch in batches(names):
                connection.execute(delete(checks).where(tuple_(checks.c.md5, checks.c.format).in_(batch)))
            values = {"checked_at": format_time(now), "lost_at": None, "reason": None, "revision": revision}
            connection.execute(
                insert(checks),
                [
                    {"md5": each.md5, "format": each.format, "size": each.size, "mtime_ns": each.mtime_ns, **values}
                    for each in several
                ],
            )

    def record_doubts(self, names: Sequence[Name]) -> None:
        """Forgets the last check of blobs whose files have changed since, so that they are checked first."""
        if not names:
            return
        with self._writing() as connection:
            _set(connection, names, {"checked_at": None})

    def record_lost(self, md5: str, weights_format: str, reason: str, now: datetime) -> None:
        """Records that a blob is damaged or missing. The index leaves it out from now on, and a sync fetches it.

        The models whose present weights it was have a failure on record until it comes.
        """
        name, moment = (md5, weights_format), format_time(now)
        current = select(weights.c.model_id).where(weights.c.md5 == md5, weights.c.format == weights_format)
        with self._writing() as connection:
            _put(connection, name, {"lost_at": moment, "reason": reason, "checked_at": None})
            _mark(connection, [name])
            _touch_holders(connection, [name])
            for model_id in list(connection.scalars(current.where(weights.c.current == 1))):
                put_failure(connection, model_id, weights_format, reason, moment)

    def holders(self, md5: str, weights_format: str) -> list[Holder]:
        """The models that have a blob or had it, by name."""
        joined = weights.join(models, models.c.id == weights.c.model_id)
        chosen = select(models.c.id, models.c.name, weights.c.current).select_from(joined)
        chosen = chosen.where(weights.c.md5 == md5, weights.c.format == weights_format)
        with self._reading() as connection:
            rows = connection.execute(chosen.order_by(models.c.name, models.c.id))
            return [Holder(row.id, row.name, bool(row.current)) for row in rows]

    def checks_since(self, revision: int | None) -> Iterator[CheckRow]:
        """The checks that changed after a revision, all of them for None; read in parts, as `models_since` does."""
        name = tuple_(checks.c.md5, checks.c.format)
        chosen = select(checks).order_by(*checks.primary_key).limit(_AT_ONCE)
        if revision is not None:
            chosen = chosen.where(checks.c.revision > revision)
        last = ("", "")
        while True:
            with self._reading() as connection:
                found = [
                    CheckRow(row.md5, row.format, _check(row)) for row in connection.execute(chosen.where(name > last))
                ]
            yield from found
            if len(found) < _AT_ONCE:
                return
            last = found[-1].md5, found[-1].format


def _check(row: Row[Any]) -> Check:
    return Check(row.checked_at, row.size, row.mtime_ns, row.lost_at, row.reason)


def _put(connection: Connection, name: Name, values: dict[str, Any]) -> None:
    """Sets values of one check, which may be the first of its blob. The caller marks the revision."""
    key = (checks.c.md5 == name[0]) & (checks.c.format == name[1])
    if connection.execute(update(checks).where(key).values(values)).rowcount == 0:
        connection.execute(insert(checks), {"md5": name[0], "format": name[1], "revision": 0, **values})


def _set(connection: Connection, names: Sequence[Name], values: dict[str, Any]) -> None:
    """Sets values of checks that there are."""
    key = (checks.c.md5 == bindparam("key_md5")) & (checks.c.format == bindparam("key_format"))
    keys = [{"key_md5": md5, "key_format": weights_format} for md5, weights_format in names]
    marked = {**values, "revision": next_revision(connection)}
    connection.execute(update(checks).where(key).values(marked), keys)


def _mark(connection: Connection, names: Sequence[Name]) -> None:
    _set(connection, names, {})


def _touch_holders(connection: Connection, names: Iterable[Name]) -> None:
    """Marks the models that have one of these blobs, so that the index takes them anew."""
    for batch in batches(list(names)):
        key = tuple_(weights.c.md5, weights.c.format).in_(batch)
        ids = list(connection.scalars(select(weights.c.model_id).where(key).distinct()))
        touch(connection, ids)
