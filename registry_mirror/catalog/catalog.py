"""An open catalog: its database, with one object for each group of tables, and the records of the last runs."""

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
    """The records of the last runs, one row per run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, record: Mapping[str, Any]) -> None:
        """Adds the record of a run, and deletes all but the last thousand."""
        finished_at = micros(parse_time(record["finished_at"]))
        with self._database.writing() as connection:
            values = {"finished_at": finished_at, "outcome": record["outcome"], "record": json.dumps(record)}
            connection.execute(insert(runs), values)
            newest = connection.scalar(select(func.max(runs.c.id))) or 0
            connection.execute(delete(runs).where(runs.c.id <= newest - _KEPT))

    def last_ok(self) -> datetime | None:
        """Returns when the last run ended whose outcome was ok; None when there was none."""
        chosen = select(runs.c.finished_at).where(runs.c.outcome == "ok").order_by(_NEWEST_FIRST).limit(1)
        with self._database.reading() as connection:
            return moment(connection.scalar(chosen))

    def last(self) -> datetime | None:
        """Returns when the last run ended, whatever its outcome; None when there was none."""
        with self._database.reading() as connection:
            return moment(connection.scalar(select(runs.c.finished_at).order_by(_NEWEST_FIRST).limit(1)))

    def last_listing(self) -> datetime | None:
        """Returns when the last run ended, if that run read the whole listing and did not fail; None otherwise."""
        with self._database.reading() as connection:
            found = connection.scalar(select(runs.c.record).order_by(_NEWEST_FIRST).limit(1))
        run = json.loads(found or "{}")
        return parse_time(run["finished_at"]) if run.get("whole_listing") and run["outcome"] != "failed" else None


class Catalog(Database):
    """The catalog at `path`, which must exist and have the present schema.

    Attributes:
        models: the models of the listing, and what a sync must know of each.
        weights: the files of models, and the failures to fetch them.
        checks: whether the stored bytes are right, one row per blob.
        retention: the rows that `gc` deletes, and the grace periods of blobs that no row names.
        pins: the models whose weights are kept.
        runs: the records of the last syncs.

    Every method raises CatalogError when the database fails, and NoSpaceError when the disk is full.
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
