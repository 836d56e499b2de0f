"""What the mirror knows, history included. Only writers open it; readers have the index.

Every change of a model raises the catalog's revision and marks the model with it, so that an index can be brought up to
date from what changed since it was made, whoever made it and whatever was killed in between.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError

from ..descriptors import too_few_descriptors
from ..errors import CatalogError
from ..files import database_full
from ..model import ModelStatus, format_time
from .checks import Checks, found_again, is_lost
from .current import make_current
from .engine import connect
from .heir import TAKEN_OVER, Heir
from .memory import Memory
from .retention import Retention
from .rows import batches, clear_failure, next_revision, put_failure, set_fact, touch
from .schema import absences, evictions, facts, failures, models, pins, runs, weights
from .upgrade import DAMAGED_HINT
from .values import CatalogModel, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from sqlalchemy import ColumnElement, Connection, Row

_RUNS_KEPT = 1000

# The driver's own too: where its rows are taken as they are.
_FAULTS = (DatabaseError, sqlite3.DatabaseError, UnicodeDecodeError)


class Catalog(Memory, Checks, Retention, Heir):
    """An open catalog. Its transactions are short; each ends before a method returns.

    Raises, from every method: CatalogError when the database fails, NoSpaceError when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._engine = connect(path, create=False)
        self._path, self._identity = path, _identity(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    # -- facts ----------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, str]:
        """`catalog_id`, `revision`, and, once a listing was read, `base_url` and `organization_id`."""
        with self._reading() as connection:
            found = {row.key: row.value for row in connection.execute(select(facts))}
        if "catalog_id" not in found:
            found = {"revision": "0", **found, "catalog_id": uuid.uuid4().hex}
            self.set_facts(found)
        return found

    def part_from(self, catalog_id: str, revision: int) -> bool:
        """Takes a new `catalog_id` when an index with the present one is of a later revision than the catalog is.

        Such a catalog was put back. What it records from now on would get numbers that the index knows already, and
        the index would not follow.
        """
        found = self.facts()
        if found["catalog_id"] != catalog_id or int(found["revision"]) >= revision:
            return False
        self.set_facts({"catalog_id": uuid.uuid4().hex})
        return True

    def set_facts(self, values: Mapping[str, str]) -> None:
        """Records facts, each in the place of an older one."""
        with self._writing() as connection:
            for key, value in values.items():
                set_fact(connection, key, value)

    # -- models ---------------------------------------------------------------------------------------------------

    def record_models(self, rows: Sequence[Mapping[str, Any]], now: datetime) -> None:
        """Adds or replaces models; one that was gone is back.

        Args:
            rows: `id`, `name`, `status`, `model_type`, `architecture`, `version`, `created_at`, `updated_at`,
                `document`, `fingerprint`, `stamp`; `text_digest` where it is known.
        """
        if not rows:
            return
        with self._writing() as connection:
            revision = next_revision(connection)
            present = _present(connection, [row["id"] for row in rows])
            marked = [
                {
                    "text_digest": None,
                    **row,
                    "revision": revision,
                    "gone_at": None,
                    "archived_at": _archived_at(row, present, now),
                }
                for row in rows
            ]
            fresh = [{**row, "first_seen": format_time(now)} for row in marked if row["id"] not in present]
            stale = [{**row, "key": row["id"]} for row in marked if row["id"] in present]
            if fresh:
                connection.execute(insert(models), fresh)
            if stale:
                names: dict[str, Any] = {name: bindparam(name) for name in stale[0] if name not in ("key", "id")}
                connection.execute(update(models).where(models.c.id == bindparam("key")).values(names), stale)

    def mark_gone(self, ids: Iterable[str], now: datetime) -> None:
        """Marks models that the upstream answers 404 for. Their weights stay."""
        gone = list(ids)
        if not gone:
            return
        with self._writing() as connection:
            values = {"gone_at": format_time(now), "revision": next_revision(connection)}
            for batch in batches(gone):
                connection.execute(update(models).where(models.c.id.in_(batch)).values(values))

    # -- weights --------------------------------------------------------------------------------------------------

    def weights_with(self, md5: str) -> tuple[str, int] | None:
        """SHA-256 and size of weights that were verified here under this MD5, whichever model they came with.

        None also for a blob that is lost, or that this catalog has only taken over: whatever lies under its name must
        be hashed before it counts.
        """
        chosen = select(weights.c.sha256, weights.c.size).where(weights.c.md5 == md5, _verified_here(), ~is_lost())
        with self._reading() as connection:
            row = connection.execute(chosen).first()
        return None if row is None else (row.sha256, row.size)

    def sha256_of(self, md5: str) -> set[str]:
        """Every SHA-256 on record under an MD5, also of blobs that are lost: the same bytes must come again."""
        with self._reading() as connection:
            return set(connection.scalars(_SHA256_OF, {"under": md5}))

    def record_weights(
        self, several: Sequence[Weights], there: Callable[[Weights], bool] | None = None
    ) -> list[Weights]:
        """Makes each the model's current weights in its format; older ones stay on record. Failures of it are over.

        A blob that was lost is found again by this, for every model that has it.

        Args:
            there: whether the blob is in the store. It is asked inside the transaction: a `gc` that takes a blob asks
                inside one of its own whether a row wants it, so one of the two sees what the other has done.

        Returns:
            Those that were not recorded, because their blob is no longer there.
        """
        if not several:
            return []
        with self._writing() as connection:
            lost = [found for found in several if there is not None and not there(found)]
            kept = [found for found in several if found not in lost]
            if kept:
                touch(connection, [found.model_id for found in kept])
                make_current(connection, kept)
            found_again(connection, [(found.md5, found.format) for found in kept])
        return lost

    def record_absence(self, model_id: str, weights_format: str, stamp: str) -> None:
        """Records that the upstream has no weights of a model in a format, until the model changes."""
        with self._writing() as connection:
            key = (absences.c.model_id == model_id) & (absences.c.format == weights_format)
            connection.execute(delete(absences).where(key))
            connection.execute(insert(absences), {"model_id": model_id, "format": weights_format, "stamp": stamp})
            clear_failure(connection, model_id, weights_format)
            touch(connection, [model_id])

    def record_failure(self, model_id: str, weights_format: str, error: str, now: datetime) -> None:
        """Records that weights could not be had; counts the attempts since they last could."""
        with self._writing() as connection:
            touch(connection, [model_id])
            put_failure(connection, model_id, weights_format, error, format_time(now))

    def clear_failures(self, model_ids: Iterable[str]) -> None:
        """Forgets the failures of models of which nothing is to be fetched any more."""
        with self._reading() as connection:
            failed = set(connection.scalars(select(failures.c.model_id)))
        over = failed & set(model_ids)
        if not over:
            return
        with self._writing() as connection:
            touch(connection, sorted(over))
            for batch in batches(sorted(over)):
                connection.execute(delete(failures).where(failures.c.model_id.in_(batch)))

    # -- runs and the index ---------------------------------------------------------------------------------------

    def record_run(self, record: Mapping[str, Any]) -> None:
        """Keeps the record of a run, the last thousand of them."""
        with self._writing() as connection:
            values = {"finished_at": record["finished_at"], "outcome": record["outcome"], "record": json.dumps(record)}
            connection.execute(insert(runs), values)
            newest = connection.scalar(select(func.max(runs.c.id))) or 0
            connection.execute(delete(runs).where(runs.c.id <= newest - _RUNS_KEPT))

    def revision(self) -> int:
        """The catalog's present revision."""
        return int(self.facts()["revision"])

    def models_since(self, revision: int | None) -> Iterator[CatalogModel]:
        """Every model that changed after a revision, all of them for None, in batches of constant memory.

        Weights whose blob is lost are left out. Writers wait for no more than one batch: each is read by itself, so a
        model may come as it has become meanwhile. It has a later revision then, and comes again after that of today.
        """
        chosen = select(models.c.id).order_by(models.c.id)
        if revision is not None:
            chosen = chosen.where(models.c.revision > revision)
        with self._reading() as connection:
            ids = list(connection.scalars(chosen))
        for batch in batches(ids):
            with self._reading() as connection:
                found = list(_with_details(connection, batch))
            yield from found

    # -- transactions ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        # Where a mount went away, SQLite would go on with the old file and look for its journal in the new place.
        self._check_there()
        with self._errors_named(), self._engine.connect().execution_options(reading=True) as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._check_there()
        with self._errors_named(), self._engine.begin() as connection:
            self._check_there()  # once more: a migration may have held the write lock and put another file in its place
            yield connection

    def _check_there(self) -> None:
        if _identity(self._path) != self._identity:
            raise CatalogError(
                f"the catalog {self._path} is no longer the file that it was",
                hint="see that its disk is mounted, then run again",
            )

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except _FAULTS as error:
            self._check_there()
            reason = getattr(error, "orig", None) or error
            full = database_full(reason, self._path.parent, "the catalog")
            raise (
                full
                or self._damaged(reason)
                or CatalogError(f"the catalog failed: {reason}", hint=too_few_descriptors(reason))
            ) from error

    def _damaged(self, reason: BaseException) -> CatalogError | None:
        """The error for one that SQLite cannot make sense of; None where it is another's fault."""
        code = getattr(reason, "sqlite_errorcode", 0) & 0xFF
        undecodable = isinstance(reason, UnicodeDecodeError) or "Could not decode to UTF-8" in str(reason)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or undecodable:
            return CatalogError(f"the catalog failed: {self._path} is damaged: {reason}", hint=DAMAGED_HINT)
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _verified_here() -> ColumnElement[bool]:
    return weights.c.stamp != TAKEN_OVER


_SHA256_OF = select(weights.c.sha256).where(weights.c.md5 == bindparam("under"), _verified_here())


def _present(connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
    """Those of the ids that are there, and since when they are archived."""
    found: dict[str, str | None] = {}
    for batch in batches(ids):
        rows = connection.execute(select(models.c.id, models.c.archived_at).where(models.c.id.in_(batch)))
        found.update((row.id, row.archived_at) for row in rows)
    return found


def _archived_at(row: Mapping[str, Any], present: Mapping[str, str | None], now: datetime) -> str | None:
    if row["status"] != ModelStatus.ARCHIVED:
        return None
    return present.get(row["id"]) or format_time(now)


def _with_details(connection: Connection, ids: Sequence[str]) -> Iterator[CatalogModel]:
    def of_models(table: Any, *conditions: Any) -> dict[str, tuple[Row[Any], ...]]:
        found: dict[str, tuple[Row[Any], ...]] = {}
        chosen = select(table).where(table.c.model_id.in_(ids), *conditions)
        for row in connection.execute(chosen.order_by(*table.primary_key)):
            found[row.model_id] = (*found.get(row.model_id, ()), row)
        return found

    held, failed = of_models(weights, ~is_lost()), of_models(failures)
    evicted, pinned = of_models(evictions), of_models(pins)
    for row in connection.execute(select(models).where(models.c.id.in_(ids)).order_by(models.c.id)):
        (pin,) = pinned.get(row.id, (None,))
        details = held.get(row.id, ()), failed.get(row.id, ()), evicted.get(row.id, ())
        yield CatalogModel(row, *details, None if pin is None else pin.pinned_at)
