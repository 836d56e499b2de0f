"""The record of one run: models listed, files fetched and reused, failures, and gaps in the listing.

`run.json` holds the record of the last run.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..files import read_regular, write_atomically
from ..model import format_time, json_bytes
from ..units import counted, format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ..files import Modes
    from ..sources.source import ListingSummary
    from ..store.layout import Layout


FACT = "listing_gaps"
"""The fact that holds the gaps of the last run, as JSON: by listing, the gap and how many runs in a row had it."""

_PATIENCE = 3


@dataclass(frozen=True, slots=True)
class Gap:
    """A listing that is incomplete by its own account.

    Attributes:
        listing: "live" or "archived".
        total: how many models the listing says it has; None when it says only that there are more.
        received: how many different models were received, over all readings.
        size: the value of `ListingSummary.gap`.
        usual: whether the three runs before had the same gap.
    """

    listing: str
    total: int | None
    received: int
    size: str
    usual: bool

    def as_json(self) -> dict[str, Any]:
        """Returns the gap as the run's record shows it."""
        return {"listing": self.listing, "total": self.total, "received": self.received, "usual": self.usual}

    def __str__(self) -> str:
        which = "the listing" if self.listing == "live" else f"the listing of {self.listing} models"
        if self.total is None:
            return f"{which} says that it has more than the {self.received} models that it brought"
        return f"{which} says that it has {self.total} models and brought {self.received}"


def usual_gaps(facts: Mapping[str, str]) -> dict[str, str]:
    """Returns the gaps that this upstream has in every run, by listing."""
    return {listing: size for listing, (size, runs) in _remembered(facts).items() if runs >= _PATIENCE}


def find_gaps(readings: Mapping[str, ListingSummary], facts: Mapping[str, str]) -> tuple[Gap, ...]:
    """Returns the gaps of a run, and marks those as usual that the runs before had too."""
    usual = usual_gaps(facts)
    return tuple(
        Gap(listing, reading.total, reading.received, reading.gap, usual=usual.get(listing) == reading.gap)
        for listing, reading in readings.items()
        if reading.gap
    )


def remember(gaps: Iterable[Gap], facts: Mapping[str, str]) -> dict[str, str]:
    """Returns the facts to record for the next run; empty when nothing is new.

    The count of runs starts again at 1 when the gap differs, and is dropped when there is no gap.
    """
    before, after = _remembered(facts), {}
    for gap in gaps:
        size, runs = before.get(gap.listing, ("", 0))
        after[gap.listing] = [gap.size, min(_PATIENCE, runs + 1) if size == gap.size else 1]
    text = json.dumps(after) if after else ""
    return {} if text == facts.get(FACT, "") else {FACT: text}


def _remembered(facts: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Reads the fact. Returns no gaps when it is unreadable, since the next run writes it anew."""
    try:
        return {
            listing: (str(size), int(runs)) for listing, (size, runs) in json.loads(facts.get(FACT) or "{}").items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def gap_warning(gaps: Iterable[Gap]) -> str | None:
    """Returns a sentence about the gaps that are not usual, or None when there are none."""
    said = "; ".join(str(gap) for gap in gaps if not gap.usual)
    return f"{said}, also when it was read again; nothing was marked gone" if said else None


class RunOutcome(StrEnum):
    """How a run ended."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(slots=True)
class Amount:
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Counts one more file of `size` bytes."""
        self.files += 1
        self.bytes += size


@dataclass(frozen=True, slots=True)
class FailedModel:
    """A model that failed, with the reason. `id` and `name` are None when they could not be read."""

    id: str | None
    name: str | None
    error: str


@dataclass(slots=True)
class RunTally:
    """Counts what a run has done so far. `archived` and `gone` count the models that became so in this run."""

    started_at: datetime
    listed: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    archived: int = 0
    gone: int = 0
    fetched: Amount = field(default_factory=Amount)
    reused: Amount = field(default_factory=Amount)
    failed: list[FailedModel] = field(default_factory=list)
    gaps: tuple[Gap, ...] = ()
    whole_listing: bool = False


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A finished run. `error` says why it ended early or stayed incomplete; None when it did neither."""

    outcome: RunOutcome
    tally: RunTally
    finished_at: datetime
    api_requests: int
    storage_requests: int
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns the object under "run". Its keys are a contract; `error` and `listing_gaps` are left out if empty."""
        tally = self.tally
        record: dict[str, Any] = {
            "outcome": str(self.outcome),
            "started_at": format_time(tally.started_at),
            "finished_at": format_time(self.finished_at),
            "listed": tally.listed,
            "added": tally.added,
            "changed": tally.changed,
            "unchanged": tally.unchanged,
            "archived": tally.archived,
            "gone": tally.gone,
            "fetched": {"files": tally.fetched.files, "bytes": tally.fetched.bytes},
            "reused": {"files": tally.reused.files, "bytes": tally.reused.bytes},
            "requests": {"api": self.api_requests, "storage": self.storage_requests},
            "failed": [{"id": each.id, "name": each.name, "error": each.error} for each in tally.failed],
        }
        if tally.gaps:
            record["listing_gaps"] = [gap.as_json() for gap in tally.gaps]
        if self.error is not None:
            record["error"] = self.error
        return record

    def last_line(self) -> str:
        """Returns the summary of the run in one line."""
        tally = self.tally
        changes = [f"{tally.added} added", f"{tally.changed} changed", f"{tally.unchanged} unchanged"]
        changes += [f"{count} {word}" for word, count in (("archived", tally.archived), ("gone", tally.gone)) if count]
        took = format_duration((self.finished_at - tally.started_at).total_seconds())
        parts = [
            f"{counted(tally.listed, 'model')} ({', '.join(changes)})",
            f"fetched {_files(tally.fetched)}",
            f"reused {_files(tally.reused)}",
            f"{self.api_requests} API and {counted(self.storage_requests, 'storage request')}",
            f"in {took}",
        ]
        ending = f"; {len(tally.failed)} failed" if tally.failed else ""
        reason = f"; {self.error}" if self.error else ""
        return f"{self.outcome}: {', '.join(parts)}{ending}{reason}"


def _files(amount: Amount) -> str:
    return f"{counted(amount.files, 'file')} ({format_size(amount.bytes)})"


def outcome_of(tally: RunTally, *, ended_early: bool) -> RunOutcome:
    """Returns the outcome of a run that read its listing.

    It is partial when a model failed, when the run ended early or when the listing has an unusual gap.
    """
    return RunOutcome.PARTIAL if tally.failed or ended_early or gap_warning(tally.gaps) else RunOutcome.OK


def write_run(layout: Layout, modes: Modes, record: RunRecord, *, ended_early: bool) -> None:
    """Replaces `run.json`.

    `last_synced_at` is the end of the last run that read the whole listing, did not fail and did not end early.
    """
    good = record.tally.whole_listing and record.outcome is not RunOutcome.FAILED and not ended_early
    synced = format_time(record.finished_at) if good else last_synced(layout)
    body: dict[str, Any] = {"run": record.as_json(), "last_synced_at": synced}
    write_atomically(layout.run_record, json_bytes(body, indent=2) + b"\n", modes)


def last_synced(layout: Layout) -> str | None:
    """Returns `last_synced_at` from `run.json`, or None when the file is missing or unreadable."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = json.loads(read_regular(layout.run_record)).get("last_synced_at")
        return found if isinstance(found, str) else None
    return None
