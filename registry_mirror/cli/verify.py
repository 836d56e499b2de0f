"""`mirror verify`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from .options import GlobalOptions, duration, pass_globals, settings_and_key, settings_of
from .render import print_json, printable

if TYPE_CHECKING:
    from ..config import Settings
    from ..secret import Secret
    from ..sync.stop import Stop
    from ..upkeep.verify.record import VerifyRecord
    from ..upkeep.verify.run import VerifyOptions


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--quick", is_flag=True, help="Look at presence, size and time only; hash nothing.")
@click.option("--md5", is_flag=True, help="Check the MD5 as well where a SHA-256 is on record. Not with --quick.")
@click.option("--repair", is_flag=True, help="Fetch at once what is lost, now or from before. Needs the API key.")
@click.option(
    "--older-than", callback=duration, metavar="AGE", help="Only files not checked for so long, or never; e.g. 30d."
)
@click.option(
    "--time-limit", callback=duration, metavar="TIME", help="Stop after so long, e.g. 2h; the next run goes on."
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@pass_globals
def command(
    options: GlobalOptions,
    models: tuple[str, ...],
    *,
    quick: bool,
    md5: bool,
    repair: bool,
    older_than: float | None,
    time_limit: float | None,
    as_json: bool,
) -> int:
    """Hash the stored files and compare them with what is on record, the longest unchecked first.

    A bad file is moved to quarantine/, readers are given it no more, and the next sync fetches it again. With MODELs
    (names or ids), only their files are checked. Nothing is asked of the upstream, except with --repair.

    Exits with 0 when all is well or was repaired, 4 when something bad was found.
    """
    from ..sync.stop import Stop
    from ..upkeep.verify.run import VerifyOptions

    if quick and md5:
        raise click.UsageError("--quick hashes nothing, so --md5 does not go with it.")
    asked = VerifyOptions(models, quick, md5, repair, older_than, time_limit)
    stop = Stop()
    key: Secret | None = None
    if repair:
        settings, key = settings_and_key(options)
    else:
        settings = settings_of(options).settings
    stop.on_signals()
    record = _verify(settings, asked, stop, quiet=as_json)
    if key is not None and not record.tally.interrupted:
        record = _repair(settings, key, asked, record, stop, quiet=as_json)
    _print(record, as_json=as_json)
    if record.tally.interrupted:
        # A thread may hang in a read from a network mount that is gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(record.exit_code)
    return record.exit_code


def _verify(settings: Settings, asked: VerifyOptions, stop: Stop, *, quiet: bool) -> VerifyRecord:
    from ..upkeep.verify.run import verify
    from .progress import watcher_for

    with watcher_for(quiet=quiet) as watcher:
        return verify(settings, asked, watcher, stop)


def _repair(
    settings: Settings, key: Secret, asked: VerifyOptions, record: VerifyRecord, stop: Stop, *, quiet: bool
) -> VerifyRecord:
    from ..upkeep.verify.run import repair_after
    from .progress import reporter_for

    with reporter_for(quiet=quiet) as reporter:
        return repair_after(settings, key, asked, record, reporter, stop)


def _print(record: VerifyRecord, *, as_json: bool) -> None:
    """Prints failed repairs and the summary on standard error, and the record as JSON on standard output."""
    for line in record.tally.unrepaired:
        click.echo(f"not repaired: {printable(line)}", err=True)
    click.echo(record.last_line(), err=True)
    if as_json:
        print_json({"verify": record.as_json()}, indent=None)
