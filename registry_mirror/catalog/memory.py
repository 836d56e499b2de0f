"""What a sync asks of the catalog before it looks at the upstream, for a hundred thousand models in a second.

Rows are the driver's own tuples: SQLAlchemy's take twice as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, union_all

from .checks import is_lost
from .rows import batches
from .schema import absences, evictions, failures, models, weights
from .values import Known, KnownWeights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager
    from typing import Any

    from sqlalchemy import Connection, Select, Table

    Stamps = dict[str, frozenset[tuple[str, str]]]


Recorded = tuple[str, str, str, str, "bytes | None"]
"""A model as it was recorded: id, status, stamp, fingerprint, digest of its text in the listing.

The fingerprint is empty where the model was not recorded whole; the next run asks for it again. The digest is None
where it is not known.
"""

Held = tuple[str, str, int, str]
"""Current weights of a model, whose blob is not lost as far as is known: the model's id, MD5, size, stamp."""


class Memory:
    """The catalog's part for it."""

    if TYPE_CHECKING:

        def _reading(self) -> AbstractContextManager[Connection]: ...

    def known(self, ids: Collection[str] | None = None) -> dict[str, Known]:
        """Models by id, gone ones included: those of some ids, every one for None."""
        with self._reading() as connection:
            if ids is None:
                return _known(connection, None)
            found: dict[str, Known] = {}
            for batch in batches(list(ids)):
                found |= _known(connection, batch)
            return found

    def recorded(self) -> Iterator[Recorded]:
        """Every model that is not gone. Writers wait while they are taken, so nothing else is done meanwhile."""
        of = models.c
        chosen = select(of.id, of.status, of.stamp, of.fingerprint, of.text_digest).where(of.gone_at.is_(None))
        with self._reading() as connection:
            yield from _rows(connection, chosen)

    def held(self, weights_format: str) -> Iterator[Held]:
        """Current weights in a format. Writers wait, as for `recorded`."""
        chosen = select(weights.c.model_id, weights.c.md5, weights.c.size, weights.c.stamp)
        chosen = chosen.where(weights.c.format == weights_format, weights.c.current == 1, ~is_lost())
        with self._reading() as connection:
            yield from _rows(connection, chosen)

    def waived(self, weights_format: str) -> set[tuple[str, str]]:
        """Models by id and stamp at which nothing is to be fetched in a format: absent upstream, or evicted here."""
        chosen = union_all(
            *(select(each.c.model_id, each.c.stamp).where(each.c.format == weights_format) for each in _WAIVING)
        )
        with self._reading() as connection:
            return {(model_id, stamp) for model_id, stamp in connection.execute(chosen)}

    def failing(self) -> set[str]:
        """The models that have an open failure."""
        with self._reading() as connection:
            return set(connection.scalars(select(failures.c.model_id)))


_WAIVING = (absences, evictions)


def _rows(connection: Connection, chosen: Select[Any]) -> Iterator[Any]:
    """Tuples of columns that the driver gives as they are to be."""
    cursor: Any = connection.execute(chosen).cursor
    yield from cursor


def _known(connection: Connection, ids: Collection[str] | None) -> dict[str, Known]:
    columns = (models.c.id, models.c.name, models.c.status, models.c.fingerprint, models.c.stamp, models.c.gone_at)
    current = _current_weights(connection, ids)
    absent, evicted = (_stamps(connection, each, ids) for each in _WAIVING)
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
        for model_id, name, status, fingerprint, stamp, gone_at in _rows(
            connection, _of(select(*columns), models.c.id, ids)
        )
    }


def _of(chosen: Select[Any], column: Any, ids: Collection[str] | None) -> Select[Any]:
    return chosen if ids is None else chosen.where(column.in_(ids))


def _current_weights(connection: Connection, ids: Collection[str] | None) -> dict[str, tuple[KnownWeights, ...]]:
    of = weights.c
    chosen = select(of.model_id, of.format, of.md5, of.sha256, of.size, of.stamp, is_lost())
    found: dict[str, tuple[KnownWeights, ...]] = {}
    for row in _rows(connection, _of(chosen.where(of.current == 1), of.model_id, ids)):
        model_id, weights_format, md5, sha256, size, stamp, lost = row
        each = KnownWeights(weights_format, md5, sha256, size, stamp, bool(lost))
        found[model_id] = (*found.get(model_id, ()), each)
    return found


def _stamps(connection: Connection, table: Table, ids: Collection[str] | None) -> Stamps:
    """Pairs of a format and a stamp by model."""
    chosen = _of(select(table.c.model_id, table.c.format, table.c.stamp), table.c.model_id, ids)
    found: Stamps = {}
    for model_id, weights_format, stamp in _rows(connection, chosen):
        found[model_id] = found.get(model_id, frozenset()) | {(weights_format, stamp)}
    return found
