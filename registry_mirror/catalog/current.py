"""Making weights the current ones of their models: each statement once for all of them.

A sync of many small files would otherwise spend as long on its rows as on their bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, insert, update

from ..model import format_time
from .retention import wanted_again
from .schema import failures, weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from .values import Weights

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


def make_current(connection: Connection, several: Sequence[Weights]) -> None:
    """Records weights as current, and ends what was noted while they were not to be had."""
    for part in _once_each(several):
        keys = [{"of": each.model_id, "in_format": each.format} for each in part]
        among = [{**key, "under": each.md5} for key, each in zip(keys, part, strict=True)]
        since = [{**row, "since": format_time(each.fetched_at)} for row, each in zip(among, part, strict=True)]
        connection.execute(_SUPERSEDE, since)
        connection.execute(_FORGET, among)
        connection.execute(insert(weights), [_values(found) for found in part])
        connection.execute(_FAILURE_OVER, keys)
        wanted_again(connection, part)


def _once_each(several: Sequence[Weights]) -> Iterator[list[Weights]]:
    """In parts that have no model twice in a format: of two, the later is the current one."""
    part: dict[tuple[str, str], Weights] = {}
    for found in several:
        if (found.model_id, found.format) in part:
            yield list(part.values())
            part = {}
        part[found.model_id, found.format] = found
    yield list(part.values())


def _values(found: Weights) -> dict[str, Any]:
    return {
        "model_id": found.model_id,
        "format": found.format,
        "version": found.version,
        "md5": found.md5,
        "sha256": found.sha256,
        "size": found.size,
        "stamp": found.stamp,
        "declared_md5": int(found.declared_md5),
        "fetched_at": format_time(found.fetched_at),
        "current": 1,
    }
