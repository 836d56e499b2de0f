"""Probing a root and its surroundings: what works, what does not, and what to do about it.

Nothing is changed. Probe files are written in `incoming/` only, and removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..errors import MirrorError

if TYPE_CHECKING:
    from ..config import Settings
    from ..secret import Secret
    from ..store.layout import Layout


class Verdict(StrEnum):
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
    verdict: Verdict
    message: str
    cure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One of "findings"; its keys are a contract."""
        return {"probe": self.probe, "verdict": str(self.verdict), "message": self.message, "cure": self.cure}


@dataclass(frozen=True, slots=True)
class Patient:
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


Answer = tuple[Verdict, str, str | None]
Probe = Callable[[Patient], Iterable[Answer]]


def ok(message: str) -> Answer:
    """All is well."""
    return Verdict.OK, message, None


def warning(message: str, cure: str | None = None) -> Answer:
    """It works, and worse than it could."""
    return Verdict.WARNING, message, cure


def problem(message: str, cure: str | None = None) -> Answer:
    """It does not work."""
    return Verdict.PROBLEM, message, cure


def skipped(message: str) -> Answer:
    """It cannot be told here."""
    return Verdict.SKIPPED, message, None


def examine(patient: Patient) -> Iterable[Finding]:
    """Every probe in turn; each finding as it comes. A probe that fails is a finding too."""
    from . import probe_books, probe_disk, probe_root, probe_upstream

    probes: dict[str, Probe] = {
        "layout": probe_root.layout,
        "permissions": probe_root.permissions,
        "secrets": probe_root.secrets,
        "locks": probe_disk.locks,
        "files": probe_disk.files,
        "space": probe_disk.space,
        "clock": probe_disk.clock,
        "index": probe_books.index,
        "catalog": probe_books.catalog,
        "leftovers": probe_books.leftovers,
        "runs": probe_books.runs,
        "key": probe_upstream.key,
        "proxy": probe_upstream.proxy,
        "upstream": probe_upstream.upstream,
    }
    for name, probe in probes.items():
        yield from _asked(name, probe, patient)


def _asked(name: str, probe: Probe, patient: Patient) -> Iterable[Finding]:
    try:
        for verdict, message, cure in probe(patient):
            yield Finding(name, verdict, message, cure)
    except MirrorError as error:
        yield Finding(name, Verdict.PROBLEM, error.message, error.hint)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        yield Finding(name, Verdict.PROBLEM, f"{error.strerror or error}{where}", None)


def ill(findings: Iterable[Finding]) -> bool:
    """Whether there is a problem; warnings alone are none."""
    return any(each.verdict is Verdict.PROBLEM for each in findings)
