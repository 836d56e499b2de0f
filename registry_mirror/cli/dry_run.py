"""Printing the plan of `mirror sync --dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..sync.plan import Action
from ..sync.preview import preview
from ..sync.record import gap_warning
from ..sync.stop import Stop
from ..units import counted, format_size
from .progress import printable
from .render import print_json

if TYPE_CHECKING:
    from ..config import Settings
    from ..secret import Secret
    from ..sync.plan import Step
    from ..sync.preview import Preview


def print_plan(settings: Settings, key: Secret, named: frozenset[str], *, sizes: bool, as_json: bool) -> int:
    """Prints what a run would do. Ends with 1 when the shrink guard would stop it, with 3 for a listing with a gap."""
    found = preview(settings, key, named, Stop(), sizes=sizes)
    if as_json:
        print_json({"plan": found.as_json()}, indent=None)
    else:
        for step in found.steps:
            for line in _lines(step):
                click.echo(line)
    click.echo(_summary(found), err=True)
    return 1 if found.shrinks else 3 if gap_warning(found.gaps) else 0


def _lines(step: Step) -> list[str]:
    return [
        f"{each.action:<8} {'' if each.size is None else format_size(each.size):>10}  "
        f"{printable(step.row.name)} ({each.format}): {each.reason} [{step.rule}]"
        for each in step.files
    ]


def _summary(found: Preview) -> str:
    known = sum(each.size or 0 for each in found.fetches)
    unknown = sum(each.size is None for each in found.fetches)
    sizes = f"{format_size(known)} known" + (f", {unknown} of unknown size (--sizes asks)" if unknown else "")
    kept = sum(each.action is Action.KEEP for step in found.steps for each in step.files)
    models, files = counted(len(found.steps), "model"), counted(len(found.fetches), "file")
    line = f"plan: {models} listed, {files} to fetch ({sizes}), {kept} kept"
    if found.absent:
        line += f", {len(found.absent)} missing from the listing and to be asked for by id"
    if found.shrinks:
        line += "; so many that the run would mark none gone and end with 1 (--accept-shrink)"
    if gap := gap_warning(found.gaps):
        line += f"; {gap}"
    return line
