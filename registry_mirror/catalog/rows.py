"""What every table's statements share: the revision, and lists in batches that one statement takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import delete, insert, select, update

from .schema import facts, failures, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

T = TypeVar("T")

_BATCH = 500
_TURN = 5000
_LET_IN = 0.15
"""Seconds between two transactions in which a writer that waits gets its turn: SQLite's asks every 0.1 s."""


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, as many at a time as one statement takes."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def in_turns(items: Sequence[T], rest: Callable[[float], None]) -> Iterator[Sequence[T]]:
    """The items, as many at a time as one transaction takes. Between two, the catalog is left to others for a moment.

    Args:
        rest: called with the seconds to leave it to them; may raise.
    """
    for start in range(0, len(items), _TURN):
        if start:
            rest(_LET_IN)
        yield items[start : start + _TURN]


def set_fact(connection: Connection, key: str, value: str) -> None:
    """Records a fact in the place of an older one."""
    if connection.execute(update(facts).where(facts.c.key == key).values(value=value)).rowcount == 0:
        connection.execute(insert(facts), {"key": key, "value": value})


def next_revision(connection: Connection) -> int:
    """Raises the catalog's revision by one."""
    present = connection.scalar(select(facts.c.value).where(facts.c.key == "revision"))
    revision = int(present or 0) + 1
    set_fact(connection, "revision", str(revision))
    return revision


def touch(connection: Connection, ids: Sequence[str]) -> None:
    """Marks models as changed, so that the index follows."""
    revision = next_revision(connection)
    for batch in batches(ids):
        connection.execute(update(models).where(models.c.id.in_(batch)).values(revision=revision))


def put_failure(connection: Connection, model_id: str, weights_format: str, error: str, moment: str | None) -> None:
    """Records that weights could not be had; counts the attempts since they last could."""
    key = (failures.c.model_id == model_id) & (failures.c.format == weights_format)
    older = connection.execute(select(failures).where(key)).first()
    clear_failure(connection, model_id, weights_format)
    values = {
        "model_id": model_id,
        "format": weights_format,
        "error": error,
        "attempts": 1 if older is None else older.attempts + 1,
        "first_failed_at": moment if older is None else older.first_failed_at,
        "last_failed_at": moment,
    }
    connection.execute(insert(failures), values)


def clear_failure(connection: Connection, model_id: str, weights_format: str) -> None:
    """Forgets the failure of one model in one format."""
    connection.execute(delete(failures).where(failures.c.model_id == model_id, failures.c.format == weights_format))
