"""The record of one verify, and the interface for its progress."""

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
    """How a verify ended. Running out of time is not an outcome of its own: `VerifyTally.left` shows it."""

    OK = "ok"
    BAD = "bad"
    REPAIRED = "repaired"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class BlobHolder:
    """A model whose weights a blob is: its present ones if `current`, else superseded ones."""

    id: str
    name: str
    current: bool


@dataclass(slots=True)
class Bad:
    """A bad blob and what was done about it. `kept` is its path in quarantine/, if it was moved there."""

    finding: BlobFinding
    holders: tuple[BlobHolder, ...]
    kept: Path | None = None
    repaired: bool = False

    def as_json(self) -> dict[str, Any]:
        """One element of "findings" in the JSON output. Programs rely on its keys."""
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
        """The finding in one line, for people. Model names in it are untrusted text."""
        names = ", ".join(each.name if each.current else f"{each.name} (superseded)" for each in self.holders[:3])
        more = f" and {len(self.holders) - 3} more" if len(self.holders) > 3 else ""
        of = f" ({names}{more})" if names else ""
        fate = "; moved to quarantine/" if self.kept else ""
        return f"{name_of(self.finding.blob)}{of}: its file {self.finding.reason}{fate}"


@dataclass(slots=True)
class VerifyTally:
    """What a verify has found so far."""

    started_at: datetime
    named: int = 0
    """Number of models that were asked for; 0 for all."""
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
    """Number of files that `--repair` fetched, including those that were lost before this verify."""
    unrepaired: list[str] = field(default_factory=list)
    """What `--repair` could not fetch, one line each."""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class VerifyRecord:
    """A finished verify."""

    tally: VerifyTally
    finished_at: datetime

    @property
    def outcome(self) -> VerifyOutcome:
        """How the verify ended."""
        tally = self.tally
        if tally.interrupted:
            return VerifyOutcome.INTERRUPTED
        if tally.unrepaired or not all(each.repaired for each in tally.bad):
            return VerifyOutcome.BAD
        return VerifyOutcome.REPAIRED if tally.bad or tally.fetched else VerifyOutcome.OK

    @property
    def exit_code(self) -> int:
        """The command's exit code: 4 for bad files, 130 for an interruption, 0 else, also when all were repaired."""
        return {VerifyOutcome.BAD: 4, VerifyOutcome.INTERRUPTED: 130}.get(self.outcome, 0)

    def summary(self) -> dict[str, Any]:
        """The record without its lists. It is kept in the catalog, and `mirror status` shows it."""
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
        """The object "verify" in the JSON output. Programs rely on its keys."""
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
        """The summary in one line, for people."""
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
    """Receives the progress of a verify; this one ignores it. Worker threads call `advanced` and `looked`."""

    def planned(self, files: int, size: int) -> None:
        """The verify is going to check this number of files and bytes."""

    def advanced(self, count: int) -> None:
        """`count` more bytes were hashed."""

    def looked(self) -> None:
        """One more file was checked."""

    def say(self, line: str) -> None:
        """A message for the operator."""
