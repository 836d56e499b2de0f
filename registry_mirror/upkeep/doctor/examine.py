"""Probing a root and its surroundings: what works, what does not, and what to do about it.

Nothing is changed. Probe files are written in `incoming/` only, and removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import MirrorError
from ...store.faults import store_error
from . import books, disk, root, upstream
from .finding import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .finding import Patient, Probe


def examine(patient: Patient) -> Iterable[Finding]:
    """Every probe in turn; each finding as it comes. A probe that fails is a finding too."""
    probes: dict[str, Probe] = {
        "layout": root.layout,
        "permissions": root.permissions,
        "secrets": root.secrets,
        "locks": disk.locks,
        "files": disk.files,
        "space": disk.space,
        "clock": disk.clock,
        "index": books.index,
        "catalog": books.catalog,
        "leftovers": books.leftovers,
        "runs": books.runs,
        "key": upstream.key,
        "proxy": upstream.proxy,
        "upstream": upstream.upstream,
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
        refusal = store_error(error, f"the probe of {name}")
        yield Finding(name, Verdict.PROBLEM, refusal.message, refusal.hint)


def ill(findings: Iterable[Finding]) -> bool:
    """Whether there is a problem; warnings alone are none."""
    return any(each.verdict is Verdict.PROBLEM for each in findings)
