"""Probes of the catalog, the index, the runs on record and what was left behind. Everything is opened to read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ...catalog import needs_migration
from ...damage import damage_of
from ...errors import MirrorError
from ...index.reader import IndexReader
from ...status import folder_size, last_verify, read_last_run
from ...store.incoming import is_abandoned, listing
from ...units import format_size
from .finding import ok, problem, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...index.values import CheckTotals
    from .finding import Answer, Patient

_ANEW = "move it away and run `mirror sync`, which publishes it anew"
_REBUILT = (
    "move it away and run `mirror sync`: it is built anew from the index and the upstream, and blobs are recognised"
)


def index(patient: Patient) -> Iterable[Answer]:
    """Can readers open the index, and is every page of it sound?"""
    path = patient.layout.index
    if not path.exists():
        return [skipped("there is no index yet")]
    with contextlib.closing(IndexReader(path)) as reader:
        meta, checks = reader.read(lambda snapshot: (snapshot.meta(), snapshot.check_totals()))
    fault = damage_of(path, "mode=ro&immutable=1")
    if fault is not None:
        return [problem(f"the index is damaged: {fault}", _ANEW)]
    return [
        ok(f"the index is sound, published {meta.get('published_at', 'at an unknown time')}"),
        *_checked(meta, checks),
    ]


def _checked(meta: dict[str, str], checks: CheckTotals) -> list[Answer]:
    if checks.lost:
        cure = "run `mirror sync`, or `mirror verify --repair`; superseded files cannot be had again"
        return [warning(f"{checks.lost} stored files are damaged or missing", cure)]
    if last_verify(meta) is None:
        return [ok("the stored files were never verified; `mirror verify` hashes them")]
    return []


def catalog(patient: Patient) -> Iterable[Answer]:
    """Can the catalog be opened, and is every page of it sound?"""
    path = patient.layout.catalog
    if not path.exists():
        return [skipped("there is no catalog here: this is a copy to read from, or nothing was synced yet")]
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists() and journal.stat().st_size:
        return [warning("the catalog is being written, or a killed run has left that undone", "run `mirror sync`")]
    fault = damage_of(path, "mode=ro")
    if fault is not None and "locked" in fault:
        return [skipped("the catalog is being written at this moment")]
    if fault is not None:
        return [problem(f"the catalog is damaged: {fault}", _REBUILT)]
    try:
        old = needs_migration(path)
    except MirrorError as error:
        return [problem(error.message, error.hint)]
    return [ok(f"the catalog is sound{'; the next sync brings it up to date' if old else ''}")]


def leftovers(patient: Patient) -> Iterable[Answer]:
    """What interrupted runs have left, and what was put aside."""
    parts = [each for each in listing(patient.layout.incoming) if is_abandoned(each)]
    files, size = folder_size(patient.layout.quarantine)
    found: list[Answer] = []
    if parts:
        found.append(
            warning(
                f"{len(parts)} abandoned files are in incoming/",
                "the next `mirror sync` goes on with what it can use, and removes the rest",
            )
        )
    if files:
        cure = "find out why they went bad, then remove them: nothing needs them"
        found.append(warning(f"{files} bad files are in quarantine/, {format_size(size)}", cure))
    return found or [ok("nothing was left behind")]


def runs(patient: Patient) -> Iterable[Answer]:
    """How did the last run end?"""
    last = read_last_run(patient.layout.run_record)
    if last.problem is not None:
        return [problem(last.problem, "the next run writes it anew")]
    if last.record is None:
        return [skipped("no run has ended yet")]
    outcome, reason = last.record.get("outcome"), last.record.get("error")
    if outcome == "ok":
        return [ok(f"the last run ended well, {last.record.get('finished_at')}")]
    failed = last.record.get("failed")
    count = f"{len(failed)} models failed" if isinstance(failed, list) and failed else "see its last line"
    return [warning(f"the last run was {outcome}: {reason or count}", "run `mirror sync` and read what it says")]
