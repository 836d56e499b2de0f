"""`mirror gc`: removes what is no longer wanted, following a plan that can be printed first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import NoSpaceError
from ..model import format_time
from ..units import format_duration, format_size
from ..upkeep.gc.plan import RemovalStep
from .options import GlobalOptions, duration, pass_globals, settings_of
from .render import note, print_json, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..upkeep.gc.collect import Collected
    from ..upkeep.gc.plan import GcPlan, RowStep


@click.command(short_help="Remove what is no longer wanted, by plan.")
@click.option("--dry-run", is_flag=True, help="Print the plan with names, bytes and reasons; change nothing.")
@click.option(
    "--grace",
    callback=duration,
    metavar="AGE",
    help="How long a file stays after no index names it, in place of retention.grace.",
)
@click.option("--wait", is_flag=True, help="Wait while another run holds the root, instead of ending with 6.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def command(options: GlobalOptions, *, dry_run: bool, grace: float | None, wait: bool, as_json: bool) -> int:
    """Remove what is no longer wanted.

    Superseded, archived and gone weights leave the index when their time under [retention] is over, and the disk when
    no index has named them for the grace period. Over store.quota_high, weights that the upstream can give again make
    room. Leftovers in incoming/ and quarantine/ go by age. On any doubt a file stays.

    Nothing is asked of the upstream. Exits with 0, with 1 when a file could not be removed, or with 7 when
    the disk is so full that not even that could be recorded.
    """
    from ..sync.stop import Stop
    from ..upkeep.gc.collect import Collected, collect, look

    settings = settings_of(options).settings
    retention = settings.retention if grace is None else replace(settings.retention, grace=grace)
    if dry_run:
        done = Collected(look(settings, retention))
    else:
        stop = Stop()
        stop.on_signals()
        done = collect(settings, retention, stop.wait, wait=wait)
    if as_json:
        print_json({"gc": report(done, dry_run=dry_run)})
    elif dry_run:
        _print_lines(_plan_lines(done.plan))
    else:
        _print_lines(_done_lines(done))
    for remark in done.plan.remarks:
        note(remark)
    for problem in done.problems:
        click.echo(f"failed: {shown(problem)}", err=True)
    click.echo(_summary(done, dry_run=dry_run), err=True)
    if any(isinstance(problem, NoSpaceError) for problem in done.problems):
        return NoSpaceError.exit_code
    return 1 if done.problems else 0


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _plan_lines(plan: GcPlan) -> Iterator[str]:
    for row in (*plan.let_go, *plan.evict):
        yield _row_line(row)
    for step in (*plan.delete, *plan.sweep, *plan.wait):
        yield _file_line(step)
    for doubt in plan.doubts:
        yield _file_line(doubt) if isinstance(doubt, RemovalStep) else _row_line(doubt)


def _done_lines(done: Collected) -> Iterator[str]:
    for row in (*done.let_go, *done.evicted):
        yield _row_line(row)
    for step in done.removed:
        yield _file_line(step)
    for name in done.spared:
        yield f"{'spared':<8} {'':>10}  {shown(name)}: wanted again, or changed, since it was looked at"
    for doubt in done.plan.doubts:
        yield _file_line(doubt) if isinstance(doubt, RemovalStep) else _row_line(doubt)


def _row_line(row: RowStep) -> str:
    held = row.held
    what = f"{shown(held.name, 60)} ({shown(held.format, 20)}, {held.md5})"
    return f"{row.verdict.act:<8} {format_size(held.size):>10}  {what}: {row.verdict.reason} [{row.verdict.rule}]"


def _file_line(step: RemovalStep) -> str:
    verdict = step.verdict
    return f"{verdict.act:<8} {format_size(step.size):>10}  {shown(step.name)}: {verdict.reason} [{verdict.rule}]"


def _summary(done: Collected, *, dry_run: bool) -> str:
    plan = done.plan
    removed = (*plan.delete, *plan.sweep) if dry_run else done.removed
    rows = len(plan.let_go) if dry_run else len(done.let_go)
    evicted = len(plan.evict) if dry_run else len(done.evicted)
    head = "plan" if dry_run else ("failed" if done.problems else "ok")
    parts = [
        f"{'to remove' if dry_run else 'removed'} {_files(removed)}",
        f"{rows} let go",
        f"{evicted} evicted",
        f"{_files(plan.wait)} wait for the end of {format_duration(plan.grace)} of grace",
    ]
    if plan.doubts:
        parts.append(f"{len(plan.doubts)} kept in doubt")
    if done.problems:
        parts.append(f"{len(done.problems)} could not be removed")
    return f"{head}: {', '.join(parts)}"


def _files(steps: Iterable[RemovalStep]) -> str:
    sizes = [step.size for step in steps]
    return f"{len(sizes)} file{'' if len(sizes) == 1 else 's'} ({format_size(sum(sizes))})"


def report(done: Collected, *, dry_run: bool) -> dict[str, Any]:
    """The object "gc" in the JSON output. For a dry run it has what would be done."""
    plan = done.plan
    removed = (*plan.delete, *plan.sweep) if dry_run else done.removed
    return {
        "dry_run": dry_run,
        "grace_seconds": round(plan.grace),
        "let_go": [_row_json(row) for row in (plan.let_go if dry_run else done.let_go)],
        "evicted": [_row_json(row) for row in (plan.evict if dry_run else done.evicted)],
        "removed": {
            "files": len(removed),
            "bytes": sum(step.size for step in removed),
            "each": [_file_json(step) for step in removed],
        },
        "waiting": [_file_json(step) for step in plan.wait],
        "doubts": [_file_json(each) if isinstance(each, RemovalStep) else _row_json(each) for each in plan.doubts],
        "spared": list(done.spared),
        "failed": [str(problem) for problem in done.problems],
        "remarks": list(plan.remarks),
    }


def _row_json(row: RowStep) -> dict[str, Any]:
    held, verdict = row.held, row.verdict
    return {
        "id": held.model_id,
        "name": held.name,
        "format": held.format,
        "file": f"blobs/{row.blob}",
        "bytes": held.size,
        "rule": verdict.rule,
        "reason": verdict.reason,
    }


def _file_json(step: RemovalStep) -> dict[str, Any]:
    verdict = step.verdict
    return {
        "file": step.name,
        "bytes": step.size,
        "since": format_time(step.since),
        "rule": verdict.rule,
        "reason": verdict.reason,
    }
