"""The input of a probe and its findings."""

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
    """The result of a probe."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well as it could, or not for long."""
    PROBLEM = "problem"
    SKIPPED = "skipped"
    """The probe could not be made here."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of the named probe. `cure` says what to do about it; None when there is nothing to do."""

    probe: str
    verdict: ProbeVerdict
    message: str
    cure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One element of "findings" in the JSON output. Programs rely on its keys."""
        return {"probe": self.probe, "verdict": str(self.verdict), "message": self.message, "cure": self.cure}


@dataclass(frozen=True, slots=True)
class DoctorContext:
    """What the probes look at.

    Attributes:
        settings: None when the configuration cannot be used; the caller reports that as a finding of its own.
        key: the API key; None when none could be read.
        key_error: why no key could be read.
        offline: whether the upstream must not be called.
    """

    layout: Layout
    settings: Settings | None
    key: Secret | None = None
    key_error: MirrorError | None = None
    offline: bool = False


Answer = tuple[ProbeVerdict, str, str | None]
Probe = Callable[[DoctorContext], Iterable[Answer]]


def ok(message: str) -> Answer:
    """An answer: all is well."""
    return ProbeVerdict.OK, message, None


def warning(message: str, cure: str | None = None) -> Answer:
    """An answer: it works, but not as well as it could, or not for long."""
    return ProbeVerdict.WARNING, message, cure


def problem(message: str, cure: str | None = None) -> Answer:
    """An answer: it does not work."""
    return ProbeVerdict.PROBLEM, message, cure


def skipped(message: str) -> Answer:
    """An answer: the probe could not be made, for this reason."""
    return ProbeVerdict.SKIPPED, message, None
