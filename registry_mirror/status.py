"""The state of the mirror, as `Mirror.status()` returns it. Standard library only."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .files import read_regular
from .model import ModelStatus, format_time, is_to_come, parse_time
from .store.layout import blob_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from .index.values import CheckTotals, OpenFailure, Totals
    from .model import BlobRecord
    from .store.layout import Layout

LONGEST_LOOK = 2.0
"""Seconds that a status may spend on checking files. On a slow network share that suffices only for some."""

COARSEST_TIME = 2_000_000_000
"""Nanoseconds by which copying may change a file's time: FAT stores only even seconds."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The content of `run.json`.

    Attributes:
        record: the run record; None when no run has ended yet, or the file cannot be read.
        last_synced_at: end of the last run that read the whole listing, did not fail and did not end early.
        problem: why the file cannot be read; None when it can be read or does not exist.
    """

    record: Mapping[str, Any] | None = None
    last_synced_at: datetime | None = None
    problem: str | None = None

    @property
    def gaps(self) -> list[Mapping[str, Any]]:
        """The gaps in the record: listings that gave fewer models than they say they have."""
        found = (self.record or {}).get("listing_gaps")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


@dataclass(frozen=True, slots=True)
class Files:
    """Counts of the blobs' files, compared with their records. No file is opened.

    Attributes:
        looked_at: how many of the `of` files were compared; on a slow mount that may be fewer than all.
        damaged: files that are missing or have another size.
        touched: files whose modification time differs from their last check. They count as unchecked.
    """

    looked_at: int = 0
    of: int = 0
    damaged: int = 0
    touched: int = 0


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The state of the stored bytes: their checks, their files, and the quarantine.

    Attributes:
        checks: sums over the checks of single blobs.
        last: the summary of the last verify; None when there was none.
        quarantine_files, quarantine_bytes: number and total size of the files in `quarantine/`.
    """

    checks: CheckTotals
    last: Mapping[str, Any] | None = None
    files: Files = field(default_factory=Files)
    quarantine_files: int = 0
    quarantine_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The object under "verify"."""
        return {
            "last": self.last,
            "oldest_check": format_time(self.checks.oldest),
            "never_checked": self.checks.never,
            "lost": self.checks.lost,
            "looked_at": {"files": self.files.looked_at, "of": self.files.of},
            "damaged": self.files.damaged,
            "touched": self.files.touched,
        }


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """Counts, sizes and ages of one root, as of `at`."""

    root: Path
    at: datetime
    totals: Totals
    failures: tuple[OpenFailure, ...]
    last_run: LastRun
    upkeep: Upkeep

    @property
    def last_synced_at(self) -> datetime | None:
        """End of the last run that read the whole listing, did not fail and did not end early; aware UTC."""
        return self.last_run.last_synced_at

    @property
    def age_seconds(self) -> float | None:
        """Seconds since `last_synced_at`; None when there was no such run, or when its date is in the future.

        A date in the future by at most a minute gives 0, since the clocks of two machines may differ by that much.
        """
        if self.last_synced_at is None or self.ahead:
            return None
        return max(0.0, (self.at - self.last_synced_at).total_seconds())

    @property
    def ahead(self) -> bool:
        """Whether the last sync is dated in the future, so that the mirror's age is unknown."""
        return self.last_synced_at is not None and is_to_come(self.last_synced_at, self.at)

    def stale(self, max_age: float) -> bool:
        """Returns whether the mirror is older than `max_age` seconds, was never synced, or has an unknown age."""
        return self.age_seconds is None or self.age_seconds > max_age

    def counts(self) -> dict[str, int]:
        """Returns the number of models by status. A gone model counts as gone, whatever its status was."""
        statuses, gone = self.totals.statuses, self.totals.gone
        known = {str(status): statuses.get(status, 0) for status in ModelStatus}
        live = sum(statuses.values())
        return {
            "total": live + gone,
            "ready": known["ready"],
            "training": known["training"],
            "failed": known["failed"],
            "archived": known["archived"],
            "gone": gone,
            "other": live - sum(known.values()),
        }

    def as_json(self, max_age: float | None = None) -> dict[str, Any]:
        """Returns the object that `status --json` prints. "stale" is null unless `max_age` (in seconds) is given."""
        age = self.age_seconds
        return {
            "root": str(self.root),
            "last_synced_at": format_time(self.last_synced_at),
            "age_seconds": None if age is None else round(age),
            "stale": None if max_age is None else self.stale(max_age),
            "models": self.counts(),
            "weights": {
                "files": self.totals.files,
                "bytes": self.totals.bytes,
                "cached_models": self.totals.cached_models,
                "ready_not_cached": self.totals.ready_not_cached,
                "evicted": self.totals.evicted,
                "pinned_models": self.totals.pinned,
            },
            "failures": [_failure_json(one) for one in self.failures],
            "last_run": self.last_run.record,
            "listing_gaps": self.last_run.gaps,
            "verify": self.upkeep.as_json(),
            "quarantine": {"files": self.upkeep.quarantine_files, "bytes": self.upkeep.quarantine_bytes},
        }


def _failure_json(one: OpenFailure) -> dict[str, Any]:
    return {
        "id": one.model_id,
        "name": one.name,
        "format": one.failure.format,
        "error": one.failure.error,
        "attempts": one.failure.attempts,
        "last_failed_at": format_time(one.failure.last_failed_at),
    }


def look_at_files(layout: Layout, blobs: Iterable[BlobRecord], seconds: float = LONGEST_LOOK) -> Files:
    """Compares size and modification time of each blob's file with its record, for at most so many seconds.

    Times may differ by two seconds, because FAT stores no finer ones.
    """
    until = time.monotonic() + seconds
    folder = f"{layout.blobs}{os.sep}"  # a string, because making a `Path` for each file takes longer than the stat
    looked = of = damaged = touched = 0
    for blob in blobs:
        of += 1
        if time.monotonic() > until:
            continue
        looked += 1
        try:
            found = os.stat(folder + blob_name(blob.md5, blob.format))
        except (OSError, ValueError):
            damaged += 1
            continue
        then = blob.check.mtime_ns
        damaged += found.st_size != blob.size
        touched += found.st_size == blob.size and then is not None and abs(found.st_mtime_ns - then) > COARSEST_TIME
    return Files(looked, of, damaged, touched)


def last_verify(meta: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Returns the summary of the last verify from the index's meta; None when it is missing or unreadable."""
    try:
        found = json.loads(meta.get("last_verify", "null"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def folder_size(folder: Path) -> tuple[int, int]:
    """Returns the number of files in a folder and their bytes. A missing or unreadable folder counts as empty."""
    files = size = 0
    try:
        with os.scandir(folder) as entries:
            for each in entries:
                files += 1
                size += each.stat(follow_symlinks=False).st_size
    except OSError:
        return files, size
    return files, size


def read_last_run(path: Path) -> LastRun:
    """Reads `run.json`. Never raises for a missing or damaged file, because a status must always be given."""
    try:
        content = json.loads(read_regular(path))
    except FileNotFoundError:
        return LastRun()
    except (OSError, ValueError, RecursionError) as error:
        return LastRun(problem=f"{path.name} cannot be read: {error}")
    if not isinstance(content, dict):
        return LastRun(problem=f"{path.name} does not hold a run record")
    record = content.get("run")
    if not isinstance(record, dict):
        return LastRun(None, parse_time(content.get("last_synced_at")), f"{path.name} does not hold a run record")
    return LastRun(record, parse_time(content.get("last_synced_at")))
