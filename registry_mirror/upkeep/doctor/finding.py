"""What a probe is given, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...config import Settings
    from ...errors import MirrorError
    from ...secret import Secret
    from ...store.layout import Layout


class ProbeVerdict(StrEnum):
    """What a probe found."""

    OK = "ok"
    WARNING = "warning"
    """It works, and worse than it could, or not for long."""
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `cure` says what to do, where there is something to do."""

    probe: str
    verdict: ProbeVerdict
    message: str
    cure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One of "findings"; its keys are a contract."""
        return {"probe": self.probe, "verdict": str(self.verdict), "message": self.message, "cure": self.cure}


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """What is probed.

    Attributes:
        settings: None when they cannot be used, which is a finding of its own.
        key: None when there is none that can be read; `key_error` says why.
    """

    layout: Layout
    settings: Settings | None
    key: Secret | None = None
    key_error: MirrorError | None = None
    offline: bool = False


Answer = tuple[ProbeVerdict, str, str | None]
Probe = Callable[[DoctorContext], Iterable[Answer]]


def ok(message: str) -> Answer:
    """All is well."""
    return ProbeVerdict.OK, message, None


def warning(message: str, cure: str | None = None) -> Answer:
    """It works, and worse than it could."""
    return ProbeVerdict.WARNING, message, cure


def problem(message: str, cure: str | None = None) -> Answer:
    """It does not work."""
    return ProbeVerdict.PROBLEM, message, cure


def skipped(message: str) -> Answer:
    """It cannot be told here."""
    return ProbeVerdict.SKIPPED, message, None
