"""A new catalog's first rows: what the published index names, so that a lost catalog loses no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from .rows import next_revision, set_fact
from .schema import evictions, models, pins, weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

TAKEN_OVER = ""
"""The stamp of what was taken over: no model has it, so the next listing looks at each of them again."""

_PART = 500


@dataclass(frozen=True, slots=True)
class Heirloom:
    """One model with what hangs on it, as rows of the tables, but for `model_id` and what follows from the taking over.

    Attributes:
        pinned_at: None when it is not pinned.
    """

    model: Mapping[str, Any]
    weights: Sequence[Mapping[str, Any]] = ()
    evictions: Sequence[Mapping[str, Any]] = ()
    pinned_at: str | None = None


class Heir:
    """The catalog's part for them."""

    if TYPE_CHECKING:

        def _writing(self) -> AbstractContextManager[Connection]: ...

    def take_over(self, found: Iterable[Heirloom], values: Mapping[str, str]) -> int:
        """Fills a catalog that has no model yet, all of it or nothing. Says how many models came.

        Weights come with the stamp `TAKEN_OVER`. They are on record, and nobody vouches for their bytes: those are
        hashed before a sync relies on them.

        Args:
            values: the facts to record.
        """
        count, part = 0, []
        with self._writing() as connection:
            for key, value in values.items():
                set_fact(connection, key, value)
            revision = next_revision(connection)
            for each in found:
                part.append(each)
                count += 1
                if len(part) == _PART:
                    _insert(connection, part, revision)
                    part = []
            _insert(connection, part, revision)
        return count


def _insert(connection: Connection, several: Sequence[Heirloom], revision: int) -> None:
    fresh = {"fingerprint": "", "stamp": TAKEN_OVER, "revision": revision}
    unknown = {"stamp": TAKEN_OVER, "declared_md5": 0}
    tables: tuple[tuple[Any, list[dict[str, Any]]], ...] = (
        (models, [{**each.model, **fresh} for each in several]),
        (weights, [{**row, **unknown, "model_id": each.model["id"]} for each in several for row in each.weights]),
        (evictions, [{**row, "model_id": each.model["id"]} for each in several for row in each.evictions]),
        (pins, [{"model_id": each.model["id"], "pinned_at": each.pinned_at} for each in several if each.pinned_at]),
    )
    for table, rows in tables:
        if rows:
            connection.execute(insert(table), rows)
