"""Starting and ending the server: Granian runs the application, and signals end it well."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings

from ..errors import ConfigurationError
from ..store.layout import Layout, refuse_file
from ..systemd import Notifier
from .app import application
from .front import LARGEST_HEAD
from .settings import decide, site_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from starlette.types import ASGIApp

    from ..config import Settings
    from .settings import Plan
    from .site import Fetcher

_HEADERS_WITHIN = 10_000
_PING_EVERY = 20_000
_STEP = 0.1
_LINE = "%(asctime)s %(message)s"
_TIME = "%Y-%m-%dT%H:%M:%S%z"
_QUIET_SECONDS = 8
"""How long answers that are being sent may take to end when the server is told to stop; Docker kills after 10 s."""


def serve(settings: Settings, say: Callable[[str], None], fetcher: Callable[[], Fetcher] | None = None) -> None:
    """Serves until a signal ends it.

    Args:
        say: takes a line for the operator, once the address is sure.
        fetcher: made in the process that serves.

    Raises:
        ConfigurationError: the settings cannot be used, or the address cannot be listened on.
    """
    refuse_file(settings.root)
    port = free_port(settings.serve.host, settings.serve.port)
    plan = decide(settings, port)
    with tempfile.TemporaryDirectory(prefix="mirror-metrics-") as folder:
        if settings.serve.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        say(plan.described())
        if not Layout(settings.root).index.exists():
            say(f"no index in {settings.root} yet: every model is a 503 until `mirror sync` publishes one there")
        ended, ending = multiprocessing.Pipe(duplex=False)
        _server(plan, port, ending).serve(target_loader=Loader(plan, fetcher, ended), wrap_loader=False)


@dataclass(frozen=True, slots=True)
class Loader:
    """Makes the application in the process that serves it. It is handed to that process, so it holds no secret."""

    plan: Plan
    fetcher: Callable[[], Fetcher] | None
    ended: Connection

    def __call__(self) -> ASGIApp:
        _log_to_stderr()
        notifier, plan = Notifier(os.environ), self.plan
        site = site_of(plan, self.fetcher)

        def started() -> None:
            if site.fetcher is not None:
                _when_told(self.ended, site.fetcher.end)
            notifier.ready(plan.described())

        return application(site, log=access_log if plan.settings.serve.access_log else None, started=started)


def _when_told(ended: Connection, act: Callable[[], None]) -> None:
    """Acts as soon as the end is told: Granian itself tells when every answer is sent, and a fetch may take long."""
    loop = asyncio.get_running_loop()

    def told() -> None:
        loop.remove_reader(ended.fileno())
        act()

    loop.add_reader(ended.fileno(), told)


class _Server(Granian):  # type: ignore[misc, valid-type]
    """Granian, which tells the worker of a signal as soon as it comes."""

    ending: Connection

    def signal_handler_interrupt(self, *args: object, **kwargs: object) -> None:
        """Takes SIGTERM and SIGINT, the second one too: it says nothing new."""
        if not self.interrupt_signal:
            with contextlib.suppress(OSError):
                self.ending.send_bytes(b"end")
        super().signal_handler_interrupt(*args, **kwargs)


class _Flag:
    """What Granian's main loop waits for, in place of a `threading.Event`.

    Two signals at once left the event's waiter asleep for ever: the system may hand one of them to another thread, and
    then nothing wakes the one that waits for a lock. Somebody who sleeps for moments always wakes.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        while not self._set and (until is None or time.monotonic() < until):
            time.sleep(_STEP)
        return self._set


def _server(plan: Plan, port: int, ending: Connection) -> _Server:
    serve = plan.settings.serve
    server = _Server(
        "registry_mirror",
        address=serve.host,
        port=port,
        interface=Interfaces.ASGI,
        workers=serve.workers,
        # Where both are spoken, Granian waits for the first bytes without limit. Over TLS that costs a handshake first,
        # and SDKs that speak HTTP/2 do so there only.
        http=HTTPModes.http1 if serve.tls_cert is None else HTTPModes.auto,
        websockets=False,
        # Not its buffer size, which bounds the head of a request too: what is sent goes through that buffer.
        http1_settings=HTTP1Settings(header_read_timeout=_HEADERS_WITHIN),
        http2_settings=HTTP2Settings(keep_alive_interval=_PING_EVERY, max_headers_size=LARGEST_HEAD),
        ssl_cert=serve.tls_cert,
        ssl_key=serve.tls_key,
        ssl_protocol_min=SSLProtocols.tls12,
        workers_kill_timeout=_QUIET_SECONDS,
        log_enabled=False,
    )
    server.ending, server.main_loop_interrupt = ending, _Flag()
    return server


def free_port(host: str, port: int) -> int:
    """The port to listen on; a free one for 0.

    Raises:
        ConfigurationError: the address is taken, or is none of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            found: int = probe.getsockname()[1]
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            hint="choose another with --host and --port, or end what listens there",
        ) from error
    return found


def access_log(line: str) -> None:
    """One line to standard error, in one write. `logging` would take as long as the answer."""
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or the disk that it goes to is full
        sys.stderr.write(f"{time.strftime(_TIME)} {line}\n")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_LINE, _TIME))
    logger = logging.getLogger("registry_mirror.server")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
