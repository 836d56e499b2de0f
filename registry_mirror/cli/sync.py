"""`mirror sync`."""

from __future__ import annotations

import os
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from ..errors import NotFoundError, after_name
from ..explain import nearest, quoted
from ..lookup import NAMES_COMPARED
from ..units import counted, format_size
from .options import GlobalOptions, pass_globals, settings_and_key, settings_to_run
from .render import print_json, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from ..secret import Secret
    from ..sync.plan import Step
    from ..sync.preview import Preview
    from ..sync.run import Finished


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--dry-run", is_flag=True, help="Print the plan with bytes and the rule behind each decision; change nothing."
)
@click.option("--sizes", is_flag=True, help="With --dry-run: ask storage for the sizes that are not known.")
@click.option("--wait", is_flag=True, help="Wait while another run holds the root, instead of ending with 6.")
@click.option(
    "--accept-shrink", is_flag=True, help="Believe a listing that lacks many models at once; they are asked for by id."
)
@click.option("--json", "as_json", is_flag=True, help="Print the run's record as JSON.")
@pass_globals
def command(
    options: GlobalOptions,
    names: tuple[str, ...],
    *,
    dry_run: bool,
    sizes: bool,
    wait: bool,
    accept_shrink: bool,
    as_json: bool,
) -> int:
    """Copy what is new or changed from the upstream into the mirror.

    Lists every model, fetches the weights of ready ones that are not here yet, and publishes the index that readers
    open. With NAMEs (or ids), only their weights are fetched.

    Exits with 0 when all went well, 3 when some models failed or the listing is not whole, 1 when it cannot be
    believed, 5 when the upstream cannot be reached, 8 when it lists no model of a NAME.
    """
    if sizes and not dry_run:
        raise click.UsageError("--sizes goes with --dry-run.")
    if not all(name.strip() for name in names):
        raise click.UsageError("A NAME is empty; without any, every model is synced.")
    try:
        if dry_run:
            return _print_plan(*settings_and_key(options), frozenset(names), sizes=sizes, as_json=as_json)
        settings, read_key = settings_to_run(options)
        asked = {"named": frozenset(names), "wait": wait, "accept_shrink": accept_shrink}
        return _sync(settings, read_key, asked, as_json=as_json)
    except NotFoundError as error:
        raise with_suggestion(error) from None


def with_suggestion(error: NotFoundError) -> NotFoundError:
    """Adds the most similar names to an error about a NAME that the upstream does not list, if there are any."""
    from ..sync.listing import UnknownNameError

    if not isinstance(error, UnknownNameError) or not (
        near := nearest(error.name, islice(error.names, NAMES_COMPARED))
    ):
        return error
    hint = f"did you mean {' or '.join(map(quoted, near))}?"
    return NotFoundError(error.message, hint=f"{error.gap}; {hint}" if error.gap else hint)


def _sync(settings: Settings, read_key: Callable[[], Secret], asked: dict[str, Any], *, as_json: bool) -> int:
    from ..errors import Interrupted
    from ..sync.alert import notify, recording_failures
    from ..sync.stop import Stop

    def say(line: str) -> None:
        click.echo(line, err=True)

    stop = Stop()
    stop.on_signals()
    with recording_failures(settings, say, stop):
        from ..sync.run import SyncOptions, sync  # inside the block, so that a missing library is recorded too
        from .progress import reporter_for

        with reporter_for(quiet=as_json) as reporter:
            finished = sync(settings, read_key(), SyncOptions(**asked), reporter, stop)
    if isinstance(finished.error, Interrupted):
        print_run(finished, as_json=as_json)
        # A thread may wait for ever for bytes. The next run removes the files that it has open.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(finished.exit_code)
    try:
        print_run(finished, as_json=as_json)
    finally:
        notify(settings, finished.record, say, stop)
    return finished.exit_code


def print_run(finished: Finished, *, as_json: bool) -> None:
    """Prints the failed models and the summary on standard error, and the record as JSON on standard output."""
    for failed in finished.record.tally.failed:
        click.echo(f"failed: {failed.name or failed.id or 'a row'}: {after_name(failed.name, failed.error)}", err=True)
    click.echo(finished.record.last_line(), err=True)
    if as_json:
        print_json({"run": finished.record.as_json()}, indent=None)


def _print_plan(settings: Settings, key: Secret, named: frozenset[str], *, sizes: bool, as_json: bool) -> int:
    """Prints what a run would do.

    Returns:
        The exit code: 1 if the shrink guard would stop the run, 3 if the listing has a gap, else 0.
    """
    from ..sync.preview import preview
    from ..sync.record import gap_warning
    from ..sync.stop import Stop

    found = preview(settings, key, named, Stop(), sizes=sizes)
    if as_json:
        print_json({"plan": found.as_json()}, indent=None)
    else:
        for step in found.steps:
            for line in _plan_lines(step):
                click.echo(line)
    click.echo(_plan_summary(found), err=True)
    return 1 if found.shrinks else 3 if gap_warning(found.gaps) else 0


def _plan_lines(step: Step) -> list[str]:
    return [
        f"{each.action:<8} {'' if each.size is None else format_size(each.size):>10}  "
        f"{printable(step.row.name)} ({each.format}): {each.reason} [{step.rule}]"
        for each in step.files
    ]


def _plan_summary(found: Preview) -> str:
    from ..sync.plan import Action
    from ..sync.record import gap_warning

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
