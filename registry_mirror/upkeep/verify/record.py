"""The record of one verify, and what it tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ...model import format_time
from ...units import format_duration, format_size
from .plan import name_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from .scan import BlobFinding


_MOST_NAMES = 100


class VerifyOutcome(StrEnum):
    """How a verify ended. Time that ran out is no outcome: what is `left` tells it."""

    OK = "ok"
    BAD = "bad"
    REPAIRED = "repaired"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class BlobHolder:
    """A model that has a blob, now (`current`) or from before."""

    id: str
    name: str
    current: bool


@dataclass(slots=True)
class Bad:
    """A bad blob and what became of it. `kept` is where its bytes are now, when they were moved aside."""

    finding: BlobFinding
    holders: tuple[BlobHolder, ...]
    kept: Path | None = None
    repaired: bool = False

    def as_json(self) -> dict[str, Any]:
        """One of "findings"; its keys are a contract."""
        blob = self.finding.blob
        return {
            "blob": name_of(blob),
            "md5": blob.md5,
            "format": blob.format,
            "problem": str(self.finding.verdict),
            "error": f"its file {self.finding.reason}",
            "models": [{"id": each.id, "name": each.name, "current": each.current} for each in self.holders],
            "quarantine": None if self.kept is None else str(self.kept),
            "repaired": self.repaired,
        }

    def line(self) -> str:
        """For people; a model's name is somebody else's text."""
        names = ", ".join(each.name if each.current else f"{each.name} (superseded)" for each in self.holders[:3])
        more = f" and {len(self.holders) - 3} more" if len(self.holders) > 3 else ""
        of = f" ({names}{more})" if names else ""
        fate = "; moved to quarantine/" if self.kept else ""
        return f"{name_of(self.finding.blob)}{of}: its file {self.finding.reason}{fate}"


@dataclass(slots=True)
class VerifyTally:
    """What a verify has found so far. Files and bytes are pairs where both are counted."""

    started_at: datetime
    named: int = 0
    """How many models it was asked to check; 0 for all."""
    quick: bool = False
    md5: bool = False
    unrecorded: str | None = None
    """Why nothing is recorded."""
    checked: int = 0
    checked_bytes: int = 0
    bad: list[Bad] = field(default_factory=list)
    touched: list[BlobFinding] = field(default_factory=list)
    left: int = 0
    left_bytes: int = 0
    awaiting: int = 0
    unreferenced: Mapping[str, int] = field(default_factory=dict)
    fetched: int = 0
    """Files that `--repair` has brought, those that were lost before included."""
    unrepaired: list[str] = field(default_factory=list)
    """What `--repair` could not do, a line each."""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class VerifyRecord:
    """A finished verify."""

    tally: VerifyTally
    finished_at: datetime

    @property
    def outcome(self) -> VerifyOutcome:
        """In one word."""
        tally = self.tally
        if tally.interrupted:
            return VerifyOutcome.INTERRUPTED
        if tally.unrepaired or not all(each.repaired for each in tally.bad):
            return VerifyOutcome.BAD
        return VerifyOutcome.REPAIRED if tally.bad or tally.fetched else VerifyOutcome.OK

    @property
    def exit_code(self) -> int:
        """As the command line's contract has it: what was found bad and is whole again is well."""
        return {VerifyOutcome.BAD: 4, VerifyOutcome.INTERRUPTED: 130}.get(self.outcome, 0)

    def summary(self) -> dict[str, Any]:
        """The record without its lists; kept in the catalog, and told by `mirror status`."""
        tally = self.tally
        return {
            "outcome": str(self.outcome),
            "named": tally.named,
            "quick": tally.quick,
            "started_at": format_time(tally.started_at),
            "finished_at": format_time(self.finished_at),
            "checked": {"files": tally.checked, "bytes": tally.checked_bytes},
            "bad": len(tally.bad),
            "repaired": sum(each.repaired for each in tally.bad),
            "touched": len(tally.touched),
            "left": {"files": tally.left, "bytes": tally.left_bytes},
            "awaiting": tally.awaiting,
            "fetched": tally.fetched,
        }

    def as_json(self) -> dict[str, Any]:
        """The object under "verify"; its keys are a contract."""
        tally = self.tally
        return {
            **self.summary(),
            "digests": [] if tally.quick else ["sha256", "md5"] if tally.md5 else ["sha256"],
            "recorded": tally.unrecorded is None,
            "findings": [each.as_json() for each in tally.bad],
            "touched_names": sorted(name_of(each.blob) for each in tally.touched)[:_MOST_NAMES],
            "unreferenced": {
                "files": len(tally.unreferenced),
                "bytes": sum(tally.unreferenced.values()),
                "names": sorted(tally.unreferenced)[:_MOST_NAMES],
            },
            "unrepaired": tally.unrepaired,
        }

    def last_line(self) -> str:
        """The one line that says it all."""
        tally = self.tally
        how = "looked at" if tally.quick else "hashed"
        size = "" if tally.quick else f" ({format_size(tally.checked_bytes)})"
        took = format_duration((self.finished_at - tally.started_at).total_seconds())
        parts = [f"{how} {files(tally.checked)}{size} in {took}", f"{len(tally.bad)} bad"]
        counts = (
            (tally.fetched, "fetched again"),
            (len(tally.touched), "with another time, to be hashed by `mirror verify`"),
            (tally.awaiting, "lost before, which `mirror sync` fetches where it can"),
            (len(tally.unreferenced), "unreferenced"),
        )
        parts += [f"{count} {words}" for count, words in counts if count]
        left = (
            f"; {files(tally.left)} ({format_size(tally.left_bytes)}) are left for the next one" if tally.left else ""
        )
        return f"{self.outcome}: {', '.join(parts)}{left}"


def files(count: int) -> str:
    """`1 file`, `2 files`."""
    return f"{count} file{'' if count == 1 else 's'}"


class Watcher:
    """Says nothing. `advanced` is called from worker threads."""

    def planned(self, files: int, size: int) -> None:
        """So many files and bytes are to be looked at."""

    def advanced(self, count: int) -> None:
        """So many bytes more were hashed."""

    def looked(self) -> None:
        """One file more is done with."""

    def say(self, line: str) -> None:
        """Something an operator wants to know."""
