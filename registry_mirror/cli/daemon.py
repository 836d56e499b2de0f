"""`mirror daemon`."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from .options import GlobalOptions, pass_globals, settings_to_run


@click.command()
@click.option("--every", metavar="DURATION", help="Time between two runs, as in 15m. [default: daemon.every]")
@click.option("--json", "as_json", is_flag=True, help="Print each run's record as one line of JSON.")
@pass_globals
def command(options: GlobalOptions, every: str | None, *, as_json: bool) -> None:
    """Sync again and again.

    SIGTERM ends it cleanly, in the middle of a download too; SIGHUP begins a run at once. A failing upstream makes the
    waits longer and never ends it. Under systemd it tells that it is ready and alive (Type=notify, WatchdogSec).
    """
    from ..sync.daemon import Daemon
    from ..systemd import Notifier
    from .progress import PlainReporter
    from .sync import print_run

    Daemon(
        lambda: settings_to_run(options, {"daemon.every": every}),
        PlainReporter(),
        Notifier(os.environ),
        report=lambda finished: print_run(finished, as_json=as_json),
        say=lambda line: click.echo(line, err=True),
    ).run()
    click.echo("ended by a signal", err=True)
    # A thread may wait for ever for bytes. The next run removes the files that it has open.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
