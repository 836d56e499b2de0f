"""How the mirror is: what `Mirror.status()` answers. Standard library only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .model import ModelStatus, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from .index.queries import OpenFailure, Totals


@dataclass(frozen=True, slots=True)
class LastRun:
    """What `run.json` says.

    Attributes:
        record: the run record; None when no run has ended yet, or the file cannot be read.
        last_synced_at: end of the last run whose listing was whole.
        problem: why the file cannot be read; None when it can, or is not there.
    """

    record: Mapping[str, Any] | None = None
    last_synced_at: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """Counts, sizes and ages of one root, as of `at`."""

    root: Path
    at: datetime
    totals: Totals
    failures: tuple[OpenFailure, ...]
    last_run: LastRun

    @property
    def last_synced_at(self) -> datetime | None:
        """End of the last run whose listing was whole, aware UTC."""
        return self.last_run.last_synced_at

    @property
    def age_seconds(self) -> float | None:
        """Seconds since then; None when there was no such run. A clock that was put back makes 0, not less."""
        if self.last_synced_at is None:
            return None
        return max(0.0, (self.at - self.last_synced_at).total_seconds())

    def stale(self, max_age: float) -> bool:
        """Whether the mirror is older than `max_age` seconds, or was never synced."""
        return self.age_seconds is None or self.age_seconds > max_age

    def counts(self) -> dict[str, int]:
        """Models by status. A gone one counts as gone, whatever its status was."""
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
        """The object that `status --json` prints; "stale" is null unless a `max_age` in seconds was given."""
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
            },
            "failures": [_failure_json(one) for one in self.failures],
            "last_run": self.last_run.record,
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


def read_last_run(path: Path) -> LastRun:
    """Reads `run.json`. One that is absent or torn is an answer too: a status must always be given."""
    try:
        content = json.loads(path.read_bytes())
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
