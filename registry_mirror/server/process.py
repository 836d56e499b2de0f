"""Adapts Granian to run as a service: it reports when it listens, exits with 0 on a signal, and reloads on SIGHUP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from granian import Granian
from granian.net import SocketHolder  # type: ignore[attr-defined]

from ..errors import ConfigurationError, MirrorError
from ..log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection

    from .run import Loader

BACKLOG = 1024
"""Length of the queue of connections that wait to be accepted."""
_STEP = 0.1
_OWN_SIGNAL_WITHIN = 1.0
_UNTAKEN_MS = 60_000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = logger("server")


class ServerProcess(Granian):  # type: ignore[misc, valid-type]
    """The process that listens, and that starts and ends the workers."""

    def run(self, listener: socket.socket, ending: Connection, loader: Loader, renewed: Callable[[], Loader]) -> None:
        """Serves until a signal ends it.

        Args:
            listener: the bound socket.
            ending: gets a message as soon as a signal ends the server.
            loader: makes the application in a worker.
            renewed: reads the settings again, for SIGHUP.
        """
        self._listener, self._ending, self._loader, self._renewed = listener, ending, loader, renewed
        self._retired: list[Any] = []
        self.wrks: list[Any] = []
        self.main_loop_interrupt = _Flag()
        self._on_terminal = _on_terminal()  # checked now: isatty is false once the terminal is gone
        self._ignores_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # as `nohup` has set it
        self.serve(target_loader=loader, wrap_loader=False)

    def _init_shared_socket(self) -> None:
        """Listens on the bound socket. Granian's own method does not report when it listens."""
        self._listener.listen(BACKLOG)
        self._listener.set_inheritable(True)
        self._ssp, self._sso, self._sfd = None, self._listener, self._listener.fileno()
        self._shd = SocketHolder(self._sfd, False, BACKLOG)  # type: ignore[call-arg]  # noqa: FBT003

    def signal_handler_reload(self, *args: object, **kwargs: object) -> None:
        """Handles SIGHUP: reloads; ends when a terminal that closes has sent it; ignores it under `nohup`."""
        if self._ignores_hangup:
            return
        if self._on_terminal:
            self.signal_handler_interrupt(*args, **kwargs)
        else:
            super().signal_handler_reload(*args, **kwargs)

    def signal_handler_interrupt(self, *args: object, **kwargs: object) -> None:
        """Handles SIGTERM and SIGINT. A second signal changes nothing."""
        if not self.interrupt_signal:
            with contextlib.suppress(OSError):
                self._ending.send_bytes(b"end")
        super().signal_handler_interrupt(*args, **kwargs)

    def _spawn_worker(self, idx: int, target: object, callback_loader: object) -> Any:  # noqa: ARG002 - Granian's names
        return super()._spawn_worker(idx, target, self._loader)

    def _spawn_workers(self, spawn_target: object, target_loader: object) -> None:
        # A signal between the fork and the worker's own handlers would be lost. Blocked, it waits in the worker.
        with blocked(_SIGNALS):
            super()._spawn_workers(spawn_target, target_loader)

    def _reload(self, spawn_target: object, target_loader: object) -> None:
        """Starts workers with new settings. The old workers end when their last answer is sent."""
        self.reload_signal = False
        self.main_loop_interrupt.clear()
        try:
            loader = self._renewed()
            serve = loader.plan.settings.serve
            self.build_ssl_context(serve.tls_cert, serve.tls_key, None, self.ssl_ctx[4], None, [], False)  # noqa: FBT003
        except (MirrorError, OSError) as error:
            _log.error("the settings stay as they were: %s", getattr(error, "message", error))
            return
        old, self._loader = self.wrks, loader
        self.wrks = []
        self._spawn_workers(spawn_target, target_loader)
        for worker in old:
            worker.terminate()
        self._retired = [each for each in self._retired if each.is_alive()] + old
        _log.info("the settings were read anew")

    def _stop_workers(self) -> None:
        self.wrks += [each for each in self._retired if each.is_alive()]
        super()._stop_workers()

    def shutdown(self, exit_code: int = 0) -> None:
        """Ends the workers and exits: with 0 after a signal, also if it reached the workers first."""
        # Ctrl-C and systemd signal the whole process group, so a worker may end before its parent gets the signal.
        if self.interrupt_children:
            self._wait_for_own_signal()
        if self.interrupt_signal:
            self.interrupt_children.clear()
        super().shutdown(exit_code)

    def _wait_for_own_signal(self) -> None:
        until = time.monotonic() + _OWN_SIGNAL_WITHIN
        while not self.interrupt_signal and time.monotonic() < until:
            time.sleep(_STEP)


class _Flag:
    """Replaces the `threading.Event` that Granian's main loop waits for.

    With two signals at once, the wait on the event never ended: the system may deliver one of them to another thread,
    and then nothing wakes the main thread from its lock. A loop of short sleeps always sees the flag.
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


def _on_terminal() -> bool:
    return any(os.isatty(standard) for standard in (0, 1, 2))


@contextlib.contextmanager
def blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Blocks signals until the end of the block. A process that is started in it inherits that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_signals_in_worker() -> None:
    """Unblocks the signals in a new worker: SIGINT and SIGTERM end it at once until Granian sets its handlers."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def bound(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to an address and does not listen yet. Port 0 takes a free port.

    Raises:
        ConfigurationError: the address is in use, or this machine does not have it.
    """
    listener: socket.socket | None = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit this timeout. It ends those whose client acknowledges nothing.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNTAKEN_MS)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}",
            hint="choose another with --host and --port, or end what listens there",
        ) from error
    return listener
