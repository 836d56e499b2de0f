"""Starts the server: the settings, the address, and the application in each process that answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings

from ..store.layout import Layout, refuse_file
from ..systemd import Notifier
from .app import application
from .connections import ConnectionLimits, ConnectionWatch, places
from .middleware import LARGEST_HEAD
from .process import BACKLOG, ServerProcess, bound, take_signals_in_worker
from .settings import decide, site_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from starlette.types import ASGIApp

    from ..config import Settings
    from .context import FetchProvider
    from .settings import ServePlan

_HEADERS_WITHIN = 10_000
_PING_EVERY = 20_000
_LINE = "%(asctime)s %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_QUIET_SECONDS = 8
"""Seconds that answers may still take when the server is told to end. Docker kills after 10 s."""


def serve(
    read: Callable[[], Settings],
    say: Callable[[str], None],
    fetcher: Callable[[Settings], FetchProvider] | None = None,
) -> None:
    """Serves until a signal ends it. On SIGHUP it reads its settings again, unless it was started on a terminal.

    Args:
        read: reads the settings; called again for each SIGHUP.
        say: takes a line for the operator when clients can connect.
        fetcher: makes what fetches missing weights, in the process that serves; used only with `serve.fetch`.

    Raises:
        ConfigurationError: the settings cannot be used, or the address cannot be listened on.
    """
    settings = read()
    refuse_file(settings.root)
    _log_to_stderr()
    wanted = settings.serve.max_connections
    possible, accepted = places(wanted, BACKLOG)
    with (
        bound(settings.serve.host, settings.serve.port) as listener,
        tempfile.TemporaryDirectory(prefix="mirror-metrics-") as folder,
    ):
        port: int = listener.getsockname()[1]
        if settings.serve.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        workers = settings.serve.workers
        connections = -(-possible // workers)
        ended, ending = multiprocessing.Pipe(duplex=False)

        def loader(read_now: Settings) -> Loader:
            return Loader(decide(_same_place(read_now, settings), port), fetcher, ended, port, connections)

        first = loader(settings)
        process = _process(first.plan, port, accepted)

        @process.on_startup  # type: ignore[untyped-decorator]
        def listening() -> None:
            say(first.plan.described())
            if possible < wanted:
                say(f"{possible} connections at once, not the {wanted} of serve.max_connections: raise `ulimit -n`")
            if not Layout(settings.root).index.exists():
                say(f"no index in {settings.root} yet: every model is a 503 until `mirror sync` publishes one there")

        process.run(listener, ending, first, lambda: loader(read()))


def _same_place(new: Settings, old: Settings) -> Settings:
    """Returns the new settings, but with the old values of those that only a restart can change."""
    stays = {name: getattr(old.serve, name) for name in ("host", "port", "workers", "max_connections")}
    return dataclasses.replace(new, serve=dataclasses.replace(new.serve, **stays))


@dataclass(frozen=True, slots=True)
class Loader:
    """Makes the application in the process that serves it. It is passed to that process, so it holds no secret.

    Attributes:
        ended: becomes readable when the server was told to end.
        connections: how many connections this process may have.
    """

    plan: ServePlan
    fetcher: Callable[[Settings], FetchProvider] | None
    ended: Connection
    port: int
    connections: int

    def __call__(self) -> ASGIApp:
        take_signals_in_worker()
        _log_to_stderr()
        notifier, plan = Notifier(os.environ), self.plan
        site = site_of(plan, self.fetcher)
        watch = ConnectionWatch(
            self.port, site.activity, ConnectionLimits(self.connections, site.proxies.trust), site.metrics.let_go
        )

        def started() -> None:
            watch.start()
            if site.fetcher is not None:
                _when_told(self.ended, site.fetcher.end)
            notifier.ready(plan.described())

        return application(site, log=access_log if plan.settings.serve.access_log else None, started=started)


def _when_told(ended: Connection, act: Callable[[], None]) -> None:
    """Calls `act` as soon as the end is announced. Granian waits for all answers first, and a fetch may be long."""
    loop = asyncio.get_running_loop()

    def told() -> None:
        loop.remove_reader(ended.fileno())
        act()

    loop.add_reader(ended.fileno(), told)


def _process(plan: ServePlan, port: int, accepted: int) -> ServerProcess:
    serve = plan.settings.serve
    return ServerProcess(
        "registry_mirror",
        address=serve.host,
        port=port,
        interface=Interfaces.ASGI,
        workers=serve.workers,
        # With both versions of HTTP, Granian waits for the first bytes without limit. Over TLS that costs a handshake,
        # and SDKs use HTTP/2 only there.
        http=HTTPModes.http1 if serve.tls_cert is None else HTTPModes.auto,
        websockets=False,
        # A client that does not read keeps a buffer of this size in memory. A request's head has to fit in.
        http1_settings=HTTP1Settings(header_read_timeout=_HEADERS_WITHIN, max_buffer_size=LARGEST_HEAD),
        http2_settings=HTTP2Settings(keep_alive_interval=_PING_EVERY, max_headers_size=LARGEST_HEAD),
        ssl_cert=serve.tls_cert,
        ssl_key=serve.tls_key,
        ssl_protocol_min=SSLProtocols.tls12,
        workers_kill_timeout=_QUIET_SECONDS,
        backlog=BACKLOG,
        backpressure=accepted,
        log_enabled=False,
    )


def access_log(line: str) -> None:
    """Writes a line to standard error in one write. `logging` would take as long as the answer."""
    with contextlib.suppress(OSError, ValueError):  # the reader is gone, or the disk is full
        sys.stderr.write(f"{time.strftime(_TIME)} {line}\n")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_LINE, _TIME))
    logger = logging.getLogger("registry_mirror.server")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
