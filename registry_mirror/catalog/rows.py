"""What every table's statements share: the revision, and lists in batches that one statement takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import insert, select, update

from .schema import facts, models

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

T = TypeVar("T")

_BATCH = 500


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, as many at a time as one statement takes."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


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
