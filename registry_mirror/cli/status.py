"""`mirror status`: shows how fresh the mirror is, what it holds and what it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import StaleError, after_name
from ..model import ITS_FILE, format_time
from ..units import counted, format_duration, format_size
from .options import GlobalOptions, duration, open_mirror, pass_globals
from .render import note, print_json, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..index.values import OpenFailure
    from ..status import MirrorStatus, Upkeep

_MOST_FAILURES = 20


@click.command(short_help="Show how fresh the mirror is and what it holds.")
@click.option(
    "--max-age", callback=duration, metavar="AGE", help="Exit with 10 when the last good sync is older, e.g. 24h."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_globals
def command(options: GlobalOptions, *, max_age: float | None, as_json: bool) -> None:
    """Show freshness, counts, bytes, the last run and what could not be fetched.

    The mirror is as old as the end of the last run whose listing was whole. Nothing is asked of the upstream.
    """
    with open_mirror(options) as mirror:
        status = mirror.status()
    if as_json:
        print_json(status.as_json(max_age))
    else:
        click.echo("\n".join(_lines(status)))
    if status.last_run.problem:
        note(shown(status.last_run.problem))
    if max_age is not None and status.stale(max_age):
        raise _stale(status, max_age)


def _stale(status: MirrorStatus, max_age: float) -> StaleError:
    if status.ahead:
        return StaleError(
            f"the last sync is dated {format_time(status.last_synced_at)}, which is still to come, so nobody knows how "
            "old the mirror is: a clock was or is wrong",
            hint="set this machine's clock, then run `mirror sync`",
        )
    if status.age_seconds is None:
        return StaleError("no sync of this mirror is known to have ended well", hint="run `mirror sync`")
    age, wanted = format_duration(status.age_seconds), format_duration(max_age)
    return StaleError(f"the mirror is {age} old, more than {wanted}", hint="run `mirror sync`, or see why it fails")


def _lines(status: MirrorStatus) -> Iterator[str]:
    yield f"root         {shown(status.root)}"
    yield f"last synced  {_freshness(status)}"
    counts = status.counts()
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count and state != "total")
    yield f"models       {counts['total']}" + (f": {states}" if states else "")
    totals = status.totals
    yield f"weights      {counted(totals.files, 'file')}, {format_size(totals.bytes)}"
    made_room = f", {counted(totals.evicted, 'file')} evicted to make room" if totals.evicted else ""
    pinned = f"; {totals.pinned} pinned" if totals.pinned else ""
    waiting = f"{totals.ready_not_cached} ready and not cached"
    yield f"cached       {counted(totals.cached_models, 'model')}{pinned}; {waiting}{made_room}"
    yield f"last run     {_last_run(status.last_run.record)}"
    yield from map(_gap, status.last_run.gaps)
    yield f"last verify  {_last_verify(status.upkeep)}"
    yield from _upkeep(status)
    yield from _failures(status)


def _freshness(status: MirrorStatus) -> str:
    if status.ahead:
        return f"{format_time(status.last_synced_at)}, which is still to come: a clock was or is wrong"
    if status.age_seconds is None:
        return "not known"
    return f"{format_time(status.last_synced_at)}, {format_duration(status.age_seconds)} ago"


def _last_run(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "not known"
    said = [shown(record.get("outcome", "?"), 20), f"ended {shown(record.get('finished_at', '?'), 30)}"]
    fetched = record.get("fetched")
    if isinstance(fetched, dict) and isinstance(fetched.get("bytes"), int):
        said.append(f"fetched {_counted(fetched.get('files'))}, {format_size(fetched['bytes'])}")
    failed = record.get("failed")
    if isinstance(failed, list) and failed:
        said.append(f"{len(failed)} failed")
    return ", ".join(said)


def _gap(gap: Mapping[str, Any]) -> str:
    which = "" if gap.get("listing") == "live" else f" of {shown(gap.get('listing', '?'), 20)} models"
    says = "more" if gap.get("total") is None else shown(gap["total"], 20)
    usual = ", as it always does" if gap.get("usual") else ""
    brought = shown(gap.get("received", "?"), 20)
    return f"listing gap  the listing{which} says that it has {says} and brought {brought}{usual}"


def _counted(files: object) -> str:
    """The number of files in a record, made safe to print, because the record is an untrusted file."""
    return counted(files if isinstance(files, int) else shown(files, 20), "file")


def _last_verify(upkeep: Upkeep) -> str:
    last = upkeep.last
    if last is None:
        return "never"
    said = [shown(last.get("outcome", "?"), 20), f"ended {shown(last.get('finished_at', '?'), 30)}"]
    checked, left = last.get("checked"), last.get("left")
    if isinstance(checked, dict):
        of = " of single models" if last.get("named") else ""
        said.append(f"{'looked at' if last.get('quick') else 'hashed'} {_counted(checked.get('files'))}{of}")
    said.append(f"{shown(last.get('bad', '?'), 20)} bad")
    if isinstance(left, dict) and left.get("files"):
        said.append(f"{shown(left['files'], 20)} left")
    return ", ".join(said)


def _upkeep(status: MirrorStatus) -> Iterator[str]:
    upkeep, checks, files = status.upkeep, status.upkeep.checks, status.upkeep.files
    oldest = f"the oldest check is of {format_time(checks.oldest)}; " if checks.oldest else ""
    yield f"checks       {oldest}{counted(checks.never, 'file')} never checked"
    if checks.lost:
        lost = f"{counted(checks.lost, 'file')}, damaged or missing"
        yield f"lost         {lost}; `mirror sync` fetches what the upstream still has"
    some = f", of {files.looked_at} looked at" if files.looked_at < files.of else ""
    if files.damaged:
        yield f"damaged      {counted(files.damaged, 'file')} missing or of another size{some}; run `mirror verify`"
    if files.touched:
        touched = f"{counted(files.touched, 'file')} of another time than at the last check"
        yield f"touched      {touched}{some}; run `mirror verify`"
    if upkeep.quarantine_files:
        yield f"quarantine   {counted(upkeep.quarantine_files, 'file')}, {format_size(upkeep.quarantine_bytes)}"


def _failures(status: MirrorStatus) -> Iterator[str]:
    found_bad = [one for one in status.failures if one.failure.error.startswith(ITS_FILE)]
    not_fetched = [one for one in status.failures if one not in found_bad]
    for title, failures in (("not fetched", not_fetched), ("found bad", found_bad)):
        if failures:
            yield f"{title:<12} {len(failures)}"
            yield from map(_failure, failures[:_MOST_FAILURES])
        if len(failures) > _MOST_FAILURES:
            yield f"  and {len(failures) - _MOST_FAILURES} more: see --json"


def _failure(one: OpenFailure) -> str:
    failure, when = one.failure, format_time(one.failure.last_failed_at)
    how = (
        f"found {when}"
        if failure.error.startswith(ITS_FILE)
        else f"{counted(failure.attempts, 'attempt')}, last {when}"
    )
    what = f"{shown(one.name, 40)} ({shown(failure.format, 20)})"
    why = shown(after_name(one.name, failure.error).removesuffix("."), 200)
    return f"  {what}: {why}; {how}; id {shown(one.model_id)}"
