"""`mirror serve`: serves the models API over HTTP from this root."""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ..errors import ConfigurationError
from ..sync.reporter import Reporter
from .options import GlobalOptions, pass_globals, settings_and_key, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from ..config import Settings
    from ..server.context import FetchProvider
    from ..server.fetch import PendingFetch


class FetchListener(Reporter):
    """Reports the progress of a single file to a pending fetch."""

    def __init__(self, fetch: PendingFetch) -> None:
        self._fetch = fetch

    def opened(self, key: str, path: Path) -> None:  # noqa: ARG002 - the reporter's signature
        self._fetch.opened(path)

    def started(self, key: str, name: str, size: int | None) -> None:  # noqa: ARG002
        self._fetch.sized(size)

    def advanced(self, key: str, done: int) -> None:  # noqa: ARG002
        self._fetch.grew(done)


_LARGEST_PORT = 65_535


def _port(_context: click.Context, _parameter: click.Parameter, given: str | None) -> int | None:
    """A click callback: checks and converts a port number, which may be 0."""
    if given is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", given) or int(given) > _LARGEST_PORT:
        raise click.BadParameter(f"{given!r} is no port; write a whole number from 0 to {_LARGEST_PORT}")
    return int(given)


@click.command(short_help="Serve the mirror over HTTP to the official SDK.")
@click.option("--host", metavar="ADDRESS", help="The address to listen on. [default: 127.0.0.1]")
@click.option("--port", callback=_port, metavar="N", help="The port; 0 takes a free one. [default: 8080]")
@click.option("--without-keys", is_flag=True, default=None, help="Ask nobody for a key: whoever reaches it may read.")
@click.option("--fetch", is_flag=True, default=None, help="Fetch ready models from the upstream when asked for them.")
@pass_globals
def command(
    options: GlobalOptions, *, host: str | None, port: int | None, without_keys: bool | None, fetch: bool | None
) -> None:
    """Serve the mirror over HTTP, as the upstream's own API, read-only.

    The official SDK of any version works against it with PICTOGRAPH_BASE_URL set to its address. It reads what a sync
    publishes at once and needs no network, no API key and no right to write, except with --fetch. SIGTERM or Ctrl-C
    ends it, and SIGHUP has it read its settings anew.
    """
    for each in (signal.SIGINT, signal.SIGTERM):  # stopping a server is not a failure, so it exits with 0
        signal.signal(each, lambda *_: sys.exit(0))
    overrides = {"serve.host": host, "serve.port": port, "serve.without_keys": without_keys, "serve.fetch": fetch}

    def read() -> Settings:
        settings = settings_of(options, overrides).settings
        if settings.serve.fetch:
            settings_and_key(options)  # a missing key should fail now, not for the first client
        return settings

    try:
        from ..server.run import serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("registry_mirror"):
            raise
        raise ConfigurationError(
            f"the HTTP server needs {error.name}, which is not installed",
            hint="install registry-mirror with its extra 'serve': pip install '.[serve]' in its checkout",
        ) from error
    serve(read, say=lambda line: click.echo(line, err=True), fetcher=Fetches(options))


@dataclass(frozen=True, slots=True)
class Fetches:
    """Makes the fetcher of weights for clients. The serving process calls it."""

    options: GlobalOptions

    def __call__(self, settings: Settings) -> FetchProvider:
        from ..server.fetch import PendingFetches
        from ..sync.single import fetch_model
        from ..sync.stop import Stop

        stop = Stop()

        def fetch(model_id: str, weights_format: str, pending: PendingFetch) -> None:
            _, key = settings_and_key(self.options)  # read each time, because the key may have changed since the start
            fetch_model(settings, key, model_id, weights_format, FetchListener(pending), stop)

        return PendingFetches(fetch, settings.sync.workers, stop.set)
