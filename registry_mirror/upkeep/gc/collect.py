"""Carries out a `GcPlan`. Readers can use the root after each step, wherever the process is killed.

First, blobs that an earlier `gc` let go are removed from the disk. Then rows are removed from the record, then the
index is published without them, and only then does the grace period of their blobs begin.

A blob is removed inside a transaction of the catalog that has checked that no row wants it. The writers of rows check
in their own transaction that the blob is there. So the run lock is not needed for safety here.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ... import catalog as catalogs
from ...errors import CatalogError, ConfigurationError, NoSpaceError
from ...files import Modes, fsync_directory, make_directory, part_name, refuse_linked, unlink_in_folder
from ...model import utc_now
from ...store.faults import store_error
from ...store.layout import Layout, blob_name
from ...store.lock import run_lock
from ...store.root import RootWatch, check_format
from ...writer import Writer, open_catalog
from .plan import GcPlan, RemovalStep, RowStep, plan
from .survey import TRASH, file_time, look_at_index, md5_of, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime
    from pathlib import Path

    from ...catalog import Holding
    from ...config import RetentionSettings, Settings
    from ...errors import MirrorError
    from .plan import IndexView, Survey

_TICK = 0.02
"""A file's change time may lag the clock by this many seconds, because the kernel uses the time of its last tick."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a `gc` has done.

    Attributes:
        plan: the plan it followed.
        let_go, evicted: rows that were removed from the record and the index.
        removed: files that were removed from the disk.
        spared: names of files that were kept after all, because they were wanted again or had changed.
        problems: errors that kept single files from being removed, or ended the work early.
    """

    plan: GcPlan
    let_go: tuple[RowStep, ...] = ()
    evicted: tuple[RowStep, ...] = ()
    removed: tuple[RemovalStep, ...] = ()
    spared: tuple[str, ...] = ()
    problems: tuple[MirrorError, ...] = ()


def look(settings: Settings, retention: RetentionSettings) -> GcPlan:
    """Returns the plan of a `gc` without carrying it out. Writes nothing and takes no lock.

    Raises:
        ConfigurationError: the root has no catalog.
        CatalogError: the catalog cannot be read, or must be migrated first.
    """
    layout = _layout(settings)
    if catalogs.needs_migration(layout.catalog):
        raise CatalogError("the catalog is of an older schema", hint="run `mirror sync` once, which migrates it")
    with contextlib.closing(catalogs.Catalog(layout.catalog)) as catalog:
        return plan(survey(layout, catalog), retention, settings.store)


def collect(
    settings: Settings, retention: RetentionSettings, sleep: Callable[[float], None], *, wait: bool = False
) -> Collected:
    """Makes the plan of a `gc` and carries it out.

    Args:
        settings: of the root.
        retention: the retention to apply, which may differ from the settings' own.
        sleep: called with seconds to wait for another writer; may raise.
        wait: whether to wait until another run ends, instead of raising LockedError.

    Raises:
        LockedError: another run holds the root.
        MirrorError: the `gc` ended early. Everything done until then stays done.
    """
    layout, modes = _layout(settings), Modes.for_sharing(settings.store.shared)
    with (
        run_lock(layout, modes, wait=sleep if wait else None),
        contextlib.closing(open_catalog(layout, modes, locked=True)) as catalog,
    ):
        return _Collector(Writer(layout, modes, catalog, sleep, RootWatch(layout.root))).run(retention, settings)


def _layout(settings: Settings) -> Layout:
    layout = Layout(settings.root)
    check_format(layout)
    if not layout.catalog.exists():
        raise ConfigurationError(
            f"no catalog in {layout.root}",
            hint="`mirror gc` runs in the root that `mirror sync` writes, not in a copy of it; or --root names another",
        )
    return layout


class _Collector:
    def __init__(self, writer: Writer) -> None:
        self._writer, self._sleep = writer, writer.wait
        self._layout, self._modes, self._catalog = writer.layout, writer.modes, writer.catalog
        self._index: tuple[tuple[int, ...], IndexView | None] | None = None
        self._spared: list[str] = []
        self._problems: list[MirrorError] = []

    def run(self, retention: RetentionSettings, settings: Settings) -> Collected:
        found = survey(self._layout, self._catalog)
        decided = plan(found, retention, settings.store)
        # Files first: on a full disk, everything below needs the space that this frees.
        removed = [step for step in decided.sweep if self._attempt(step, self._sweep)]
        removed += [step for step in decided.delete if self._attempt(step, self._delete, retention.grace, found)]
        let_go: tuple[RowStep, ...] = ()
        evicted: tuple[RowStep, ...] = ()
        try:
            self._catalog.retention.forget_notes(decided.forget)
            let_go = self._let_go(decided.let_go)
            evicted = self._let_go(decided.evict, evicted_at=found.now)
            self._writer.publish_index()
            self._begin_grace([*decided.begin, *(row.blob for row in (*let_go, *evicted))])
        except NoSpaceError as error:  # reported, because files may have been removed; the next gc continues
            self._problems.append(error)
        return Collected(decided, let_go, evicted, tuple(removed), tuple(self._spared), tuple(self._problems))

    def _let_go(self, rows: Collection[RowStep], evicted_at: datetime | None = None) -> tuple[RowStep, ...]:
        reasons = {row.held: row.verdict.reason for row in rows}
        done = set(self._catalog.retention.let_go(reasons, _blob_of, evicted_at=evicted_at, pause=self._sleep))
        self._spared += [row.blob for row in rows if row.held not in done]
        return tuple(row for row in rows if row.held in done)

    def _begin_grace(self, blobs: Collection[str]) -> None:
        """Starts the grace period of those blobs that neither the published index nor a row names."""
        index = self._published()
        if index is None or not index.follows:
            return
        wanted = {_blob_of(held) for held in self._catalog.retention.holdings()}
        named = index.blobs | wanted
        self._catalog.retention.note_unnamed([blob for blob in blobs if blob not in named], utc_now(), self._sleep)

    def _attempt(self, step: RemovalStep, act: Callable[..., bool], *more: object) -> bool:
        self._sleep(0)  # a signal may end the work between two files
        try:
            return act(step, *more)
        except OSError as error:
            self._problems.append(store_error(error, f"cannot remove {step.name}"))
        except NoSpaceError as error:
            self._problems.append(error)
        return False

    # -- blobs ----------------------------------------------------------------------------------------------------

    def _delete(self, step: RemovalStep, grace: float, found: Survey) -> bool:
        name = step.name.removeprefix("blobs/")
        trash = self._layout.incoming / part_name(f"{TRASH}{os.path.basename(name)}")
        make_directory(trash.parent, self._modes)

        def take(formats: Collection[str]) -> bool:
            wanted = name in {blob_name(md5_of(name), each) for each in formats}
            return not wanted and not self._is_named(name) and self._take(name, trash, found.now, grace)

        assert step.since is not None  # noqa: S101 - the plan deletes only blobs whose note has a date
        try:
            released = self._catalog.retention.release(name, md5_of(name), step.since, take)
        except NoSpaceError:
            # The disk is full, so the transaction failed. If `take` had already moved the blob, no row wants it and it
            # can be removed; only its note stays.
            released = trash.exists()
            if not released:
                raise
        if not released:
            self._spared.append(name)
            return False
        # After the transaction: removing gigabytes takes a while, and other writers wait for the catalog.
        fsync_directory((self._layout.blobs / name).parent)
        with contextlib.suppress(FileNotFoundError):
            unlink_in_folder(trash)
        return True

    def _take(self, name: str, trash: Path, now: datetime, grace: float) -> bool:
        """Moves a blob to `trash`, and back if it was touched meanwhile. Returns whether the blob is gone.

        The catalog is locked meanwhile. A sync that reuses the blob touches it before it waits for that lock to write
        its row.
        """
        blob = self._layout.blobs / name
        try:
            before = os.lstat(blob)
        except FileNotFoundError:
            return True
        if (now - file_time(before.st_ctime)).total_seconds() < max(grace, _TICK):
            return False
        refuse_linked(blob.parent, trash.parent)
        os.rename(blob, trash)
        if _traits(os.lstat(trash)) != _traits(before):
            os.rename(trash, blob)
            fsync_directory(blob.parent)
            return False
        return True

    def _is_named(self, name: str) -> bool:
        index = self._published()
        return index is None or name in index.blobs

    def _published(self) -> IndexView | None:
        """The published index, read again only if its file has changed; None if it cannot be read."""
        try:
            state = os.stat(self._layout.index)
        except OSError:
            return None
        identity = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        if self._index is None or self._index[0] != identity:
            self._index = identity, look_at_index(self._layout, self._catalog.facts())
        return self._index[1]

    # -- leftovers ------------------------------------------------------------------------------------------------

    def _sweep(self, step: RemovalStep) -> bool:
        path = self._layout.root / step.name
        state = os.lstat(path)
        if step.since is not None and file_time(state.st_mtime) > step.since:
            self._spared.append(step.name)  # it was written to since the survey
            return False
        unlink_in_folder(path)
        return True


def _blob_of(held: Holding) -> str:
    return blob_name(held.md5, held.format)


def _traits(state: os.stat_result) -> tuple[int, ...]:
    """Values that change when a file is replaced, adopted or read, but not when it is renamed."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_atime_ns
