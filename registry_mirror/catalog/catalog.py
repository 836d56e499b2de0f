"""An open catalog: its database, and a small object for each kind of thing that is recorded in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checks import Checks
from .database import Database
from .models import Models
from .retention import Pins, Retention
from .runs import Runs
from .weights import WeightsTable

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self


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
        self.models = Models(self)
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
