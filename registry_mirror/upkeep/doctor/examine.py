"""Runs all probes: what works, what does not, and what to do about it.

The probes change nothing. They write files in `incoming/` only, and remove them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import MirrorError
from ...store.faults import store_error
from . import disk, network, root
from .finding import Finding, ProbeVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .finding import DoctorContext, Probe


def examine(context: DoctorContext) -> Iterable[Finding]:
    """Runs the probes one after another and yields their findings. A probe that fails yields a problem."""
    probes: dict[str, Probe] = {
        "layout": root.layout,
        "permissions": root.permissions,
        "secrets": root.secrets,
        "locks": disk.locks,
        "files": disk.files,
        "space": disk.space,
        "clock": disk.clock,
        "index": root.index,
        "catalog": root.catalog,
        "leftovers": root.leftovers,
        "runs": root.runs,
        "key": network.key,
        "proxy": network.proxy,
        "upstream": network.upstream,
    }
    for name, probe in probes.items():
        yield from _asked(name, probe, context)


def _asked(name: str, probe: Probe, context: DoctorContext) -> Iterable[Finding]:
    try:
        for verdict, message, cure in probe(context):
            yield Finding(name, verdict, message, cure)
    except MirrorError as error:
        yield Finding(name, ProbeVerdict.PROBLEM, error.message, error.hint)
    except OSError as error:
        refusal = store_error(error, f"the probe of {name}")
        yield Finding(name, ProbeVerdict.PROBLEM, refusal.message, refusal.hint)


def has_problems(findings: Iterable[Finding]) -> bool:
    """Whether any finding is a problem. Warnings do not count."""
    return any(each.verdict is ProbeVerdict.PROBLEM for each in findings)
