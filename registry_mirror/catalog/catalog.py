"""An open catalog: its database, the records of the last runs, and a small object for each other kind of thing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from ..model import micros, moment, parse_time
from .checks import Checks
from .database import Database
from .models import ModelsTable
from .retention import Pins, Retention
from .schema import runs
from .weights import WeightsTable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self


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


class Catalog(Database):
    """The catalog at `path`, which must exist and have the present schema.

    Attributes:
        models: the models of the listing, and what is known of each before a sync.
        weights: the files of models, and the failures to fetch them.
        checks: whether the stored bytes are right, one row a blob.
        retention: what `gc` lets go, and the grace periods of blobs without a name.
        pins: the models whose weights stay.
        runs: the records of the last syncs.

    Raises, from every method: CatalogError when the database fails, NoSpaceError when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.models = ModelsTable(self)
        self.weights = WeightsTable(self)
        self.checks = Checks(self)
        self.retention = Retention(self)
        self.pins = Pins(self)
        self.runs = Runs(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
