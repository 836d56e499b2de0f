"""The files of models: which are current, which the upstream does not have, and which could not be fetched.

Each statement handles many rows at once. Otherwise a sync of many small files would spend as long on its rows as on
their bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, insert, select, union_all, update

from ..model import micros
from .checks import clear_failure, found_again, is_lost, put_failure
from .database import batches, touch
from .models import driver_rows
from .retention import wanted_again
from .schema import absences, evictions, failures, weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from .database import Database

REBUILT = ""
"""The stamp of weights that were taken over from an index. No model has it, so the next sync looks at them again."""

Held = tuple[str, str, int, str]
"""Current weights of a model, whose blob is not known to be lost: the model's id, MD5, size, stamp."""


@dataclass(frozen=True, slots=True)
class WeightsRecord:
    """Weights to record as current.

    Attributes:
        version: the upstream's name for this version; None when it has none.
        size: bytes.
        stamp: the model's stamp when the weights were fetched or recognised.
        declared_md5: whether storage declared the MD5; otherwise only we computed it.
        fetched_at: aware UTC.
    """

    model_id: str
    format: str
    version: str | None
    md5: str
    sha256: str
    size: int
    stamp: str
    declared_md5: bool
    fetched_at: datetime


class WeightsTable:
    """The tables of weights (one row for each file that a model has or had), of absences and of failures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def with_md5(self, md5: str) -> tuple[str, int] | None:
        """Returns SHA-256 and size of weights that were verified here with this MD5, of whichever model.

        Returns None when there are none, and for a blob that is lost or was taken over from an index: such a blob must
        be hashed before it is used.
        """
        chosen = select(weights.c.sha256, weights.c.size).where(weights.c.md5 == md5, _verified_here(), ~is_lost())
        with self._database.reading() as connection:
            row = connection.execute(chosen).first()
        return None if row is None else (row.sha256, row.size)

    def sha256_of(self, md5: str) -> set[str]:
        """Returns every SHA-256 that was verified here with this MD5, also of lost blobs: they must come back equal."""
        with self._database.reading() as connection:
            return set(connection.scalars(_SHA256_OF, {"under": md5}))

    def record(
        self, several: Sequence[WeightsRecord], there: Callable[[WeightsRecord], bool] | None = None
    ) -> list[WeightsRecord]:
        """Makes each record the model's current weights in its format, and ends failures of that model and format.

        Older weights stay in the table as superseded. A blob that was lost is no longer lost, for all its models.

        Args:
            there: returns whether the blob is in the store. It is called inside the transaction. A `gc` that removes a
                blob checks inside its own transaction that no row names it, so one of the two sees the other's change.

        Returns:
            The records that were not written, because their blob is no longer in the store.
        """
        if not several:
            return []
        with self._database.writing() as connection:
            lost = [found for found in several if there is not None and not there(found)]
            kept = [found for found in several if found not in lost]
            if kept:
                touch(connection, [found.model_id for found in kept])
                _make_current(connection, kept)
            found_again(connection, [(found.md5, found.format) for found in kept])
        return lost

    def record_absence(self, model_id: str, weights_format: str, stamp: str) -> None:
        """Records that the upstream has no weights of a model in a format. It holds while the model has this stamp."""
        with self._database.writing() as connection:
            key = (absences.c.model_id == model_id) & (absences.c.format == weights_format)
            connection.execute(delete(absences).where(key))
            connection.execute(insert(absences), {"model_id": model_id, "format": weights_format, "stamp": stamp})
            clear_failure(connection, model_id, weights_format)
            touch(connection, [model_id])

    def record_failure(self, model_id: str, weights_format: str, error: str, now: datetime) -> None:
        """Records that weights could not be fetched, and counts the failed attempts since the last success."""
        with self._database.writing() as connection:
            touch(connection, [model_id])
            put_failure(connection, model_id, weights_format, error, micros(now))

    def clear_failures(self, model_ids: Iterable[str]) -> None:
        """Deletes the failures of models for which nothing needs to be fetched any more."""
        over = self.failing() & set(model_ids)
        if not over:
            return
        with self._database.writing() as connection:
            touch(connection, sorted(over))
            for batch in batches(sorted(over)):
                connection.execute(delete(failures).where(failures.c.model_id.in_(batch)))

    def failing(self) -> set[str]:
        """Returns the ids of models that have an open failure."""
        with self._database.reading() as connection:
            return set(connection.scalars(select(failures.c.model_id)))

    def held(self, weights_format: str) -> Iterator[Held]:
        """Yields the current weights in a format that are not lost. Writers wait meanwhile."""
        chosen = select(weights.c.model_id, weights.c.md5, weights.c.size, weights.c.stamp)
        chosen = chosen.where(weights.c.format == weights_format, weights.c.current == 1, ~is_lost())
        with self._database.reading() as connection:
            yield from driver_rows(connection, chosen)

    def waived(self, weights_format: str) -> set[tuple[str, str]]:
        """Returns pairs of model id and stamp for which a format is not fetched: absent upstream, or evicted here."""
        chosen = union_all(
            *(
                select(each.c.model_id, each.c.stamp).where(each.c.format == weights_format)
                for each in (absences, evictions)
            )
        )
        with self._database.reading() as connection:
            return {(model_id, stamp) for model_id, stamp in connection.execute(chosen)}


def _verified_here() -> ColumnElement[bool]:
    return weights.c.stamp != REBUILT


_SHA256_OF = select(weights.c.sha256).where(weights.c.md5 == bindparam("under"), _verified_here())
_THOSE = (weights.c.model_id == bindparam("of")) & (weights.c.format == bindparam("in_format"))
_SUPERSEDE = (
    update(weights)
    .where(_THOSE, weights.c.md5 != bindparam("under"), weights.c.current == 1)
    .values(current=0, superseded_at=bindparam("since"))
)
_FORGET = delete(weights).where(_THOSE, weights.c.md5 == bindparam("under"))
_FAILURE_OVER = delete(failures).where(
    failures.c.model_id == bindparam("of"), failures.c.format == bindparam("in_format")
)


def _make_current(connection: Connection, several: Sequence[WeightsRecord]) -> None:
    """Records weights as current. Ends their failures and evictions, and the grace periods of their blobs."""
    for part in _once_each(several):
        keys = [{"of": each.model_id, "in_format": each.format} for each in part]
        among = [{**key, "under": each.md5} for key, each in zip(keys, part, strict=True)]
        since = [{**row, "since": micros(each.fetched_at)} for row, each in zip(among, part, strict=True)]
        connection.execute(_SUPERSEDE, since)
        connection.execute(_FORGET, among)
        connection.execute(insert(weights), [_values(found) for found in part])
        connection.execute(_FAILURE_OVER, keys)
        wanted_again(connection, [(each.model_id, each.format, each.md5) for each in part])


def _once_each(several: Sequence[WeightsRecord]) -> Iterator[list[WeightsRecord]]:
    """Splits records so that no part has a model and format twice. Of two, the later one becomes current."""
    part: dict[tuple[str, str], WeightsRecord] = {}
    for found in several:
        if (found.model_id, found.format) in part:
            yield list(part.values())
            part = {}
        part[found.model_id, found.format] = found
    yield list(part.values())


def _values(found: WeightsRecord) -> dict[str, Any]:
    return {
        "model_id": found.model_id,
        "format": found.format,
        "version": found.version,
        "md5": found.md5,
        "sha256": found.sha256,
        "size": found.size,
        "stamp": found.stamp,
        "declared_md5": int(found.declared_md5),
        "fetched_at": micros(found.fetched_at),
        "current": 1,
    }
