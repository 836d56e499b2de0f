"""Granian as a service needs it: it says when it listens, ends with 0 when it is told to, and reloads on SIGHUP."""

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
"""Connections that wait to be accepted."""
_STEP = 0.1
_OWN_SIGNAL_WITHIN = 1.0
_UNTAKEN_MS = 60_000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = logger("server")


class ServerProcess(Granian):  # type: ignore[misc, valid-type]
    """The process that listens, and starts and ends the workers that answer."""

    def run(self, listener: socket.socket, ending: Connection, loader: Loader, renewed: Callable[[], Loader]) -> None:
        """Serves until a signal ends it.

        Args:
            listener: bound to the address.
            ending: told of the end as soon as the signal comes.
            loader: makes the application in a worker.
            renewed: reads the settings anew, for SIGHUP.
        """
        self._listener, self._ending, self._loader, self._renewed = listener, ending, loader, renewed
        self._retired: list[Any] = []
        self.wrks: list[Any] = []
        self.main_loop_interrupt = _Flag()
        self._on_terminal = _on_terminal()  # asked now: of one that is gone, the system says that it is none
        self._ignores_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # `nohup` says so
        self.serve(target_loader=loader, wrap_loader=False)

    def _init_shared_socket(self) -> None:
        """Listens on the socket that was bound; Granian's own way tells nobody when it does."""
        self._listener.listen(BACKLOG)
        self._listener.set_inheritable(True)
        self._ssp, self._sso, self._sfd = None, self._listener, self._listener.fileno()
        self._shd = SocketHolder(self._sfd, False, BACKLOG)  # type: ignore[call-arg]  # noqa: FBT003

    def signal_handler_reload(self, *args: object, **kwargs: object) -> None:
        """Takes SIGHUP: a terminal that is gone sends it too, and ends what runs in it."""
        if self._ignores_hangup:
            return
        if self._on_terminal:
            self.signal_handler_interrupt(*args, **kwargs)
        else:
            super().signal_handler_reload(*args, **kwargs)

    def signal_handler_interrupt(self, *args: object, **kwargs: object) -> None:
        """Takes SIGTERM and SIGINT, the second one too: it says nothing new."""
        if not self.interrupt_signal:
            with contextlib.suppress(OSError):
                self._ending.send_bytes(b"end")
        super().signal_handler_interrupt(*args, **kwargs)

    def _spawn_worker(self, idx: int, target: object, callback_loader: object) -> Any:  # noqa: ARG002 - Granian's names
        return super()._spawn_worker(idx, target, self._loader)

    def _spawn_workers(self, spawn_target: object, target_loader: object) -> None:
        # A signal between the fork and a worker's own handlers would be lost in it; it waits there instead.
        with blocked(_SIGNALS):
            super()._spawn_workers(spawn_target, target_loader)

    def _reload(self, spawn_target: object, target_loader: object) -> None:
        """Starts workers with new settings; the old ones end when their last answer is sent."""
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
        """Ends the workers. 0 when a signal was the reason, also one that reached the workers first."""
        # Ctrl-C and systemd tell the whole group, and a worker may end before its parent knows why.
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


def _on_terminal() -> bool:
    return any(os.isatty(standard) for standard in (0, 1, 2))


@contextlib.contextmanager
def blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Holds signals back until the end of the block. A process that is started in it holds them back too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_signals_in_worker() -> None:
    """Lets in the signals that a new worker holds back: they end it, until the server takes them itself."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address, on which nobody is listened to yet; port 0 takes a free one.

    Raises:
        ConfigurationError: the address is taken, or is none of this machine's.
    """
    listener: socket.socket | None = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections inherit it; it ends those whose client takes nothing
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
