"""The records of the last syncs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from ..model import micros, moment, parse_time
from .schema import runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .database import Database

_KEPT = 1000
_NEWEST_FIRST = runs.c.id.desc()


class Runs:
    """One row a run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, record: Mapping[str, Any]) -> None:
        """Keeps the record of a run, the last thousand of them."""
        finished_at = micros(parse_time(record["finished_at"]))
        with self._database.writing() as connection:
            values = {"finished_at": finished_at, "outcome": record["outcome"], "record": json.dumps(record)}
            connection.execute(insert(runs), values)
            newest = connection.scalar(select(func.max(runs.c.id))) or 0
            connection.execute(delete(runs).where(runs.c.id <= newest - _KEPT))

    def last_ok(self) -> datetime | None:
        """When the last run ended that fetched all there was to fetch."""
        chosen = select(runs.c.finished_at).where(runs.c.outcome == "ok").order_by(_NEWEST_FIRST).limit(1)
        with self._database.reading() as connection:
            return moment(connection.scalar(chosen))

    def last(self) -> datetime | None:
        """When the last run ended, however it did."""
        with self._database.reading() as connection:
            return moment(connection.scalar(select(runs.c.finished_at).order_by(_NEWEST_FIRST).limit(1)))

    def last_listing(self) -> datetime | None:
        """When the last run ended, if it read the whole listing and did not fail; None otherwise."""
        with self._database.reading() as connection:
            found = connection.scalar(select(runs.c.record).order_by(_NEWEST_FIRST).limit(1))
        run = json.loads(found or "{}")
        return parse_time(run["finished_at"]) if run.get("whole_listing") and run["outcome"] != "failed" else None
