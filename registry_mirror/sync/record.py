"""The record of one run: what it listed, fetched, reused and failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..model import format_time
from ..units import counted, format_duration, format_size
from .gaps import gap_warning

if TYPE_CHECKING:
    from datetime import datetime

    from .gaps import Gap


class Outcome(StrEnum):
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
        """One file more."""
        self.files += 1
        self.bytes += size


@dataclass(frozen=True, slots=True)
class FailedModel:
    """A model that failed, with the reason. `id` is None when not even that could be read."""

    id: str | None
    name: str | None
    error: str


@dataclass(slots=True)
class Tally:
    """What a run has done so far. `archived` and `gone` count the models that became so in this run."""

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
    """A finished run. `error` is what ended it or kept it from being whole, when something did."""

    outcome: Outcome
    tally: Tally
    finished_at: datetime
    api_requests: int
    storage_requests: int
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The object under "run"; its keys are a contract. `error` and `listing_gaps` are there only with a content."""
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
        """The one line that says it all."""
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


def outcome_of(tally: Tally, *, ended_early: bool) -> Outcome:
    """The outcome of a run whose listing was good: partial when a model failed, or was left or kept from the run."""
    return Outcome.PARTIAL if tally.failed or ended_early or gap_warning(tally.gaps) else Outcome.OK
