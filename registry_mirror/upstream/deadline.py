"""An end to every wait for the network: a byte now and then keeps the timeout of single reads from ending anything.

Whoever makes a call says how long it may take in all, for its own thread. Connecting, TLS and every read and write of
that thread then end in time, through a proxy as well, and a call that is over fails as one without an answer.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import httpcore

from ..errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import httpx

TIMES = 4
"""How many timeouts an answer may take in all."""

_LEAST_SHARE = 1.0
"""Seconds that each address of a name is given, as long as there are any."""

_calling = threading.local()


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Ends what this thread waits for on the network after so many seconds; None for no end but an outer one."""
    before: float | None = getattr(_calling, "until", None)
    if seconds is not None:
        until = time.monotonic() + seconds
        _calling.until = until if before is None else min(before, until)
    try:
        yield
    finally:
        _calling.until = before


def answering(client: httpx.Client) -> contextlib.AbstractContextManager[None]:
    """The time that a whole answer may take: four times what its next bytes may take."""
    timeout = client.timeout.read
    return within(None if timeout is None else TIMES * timeout)


def is_over() -> bool:
    """Whether the time of this thread's call is."""
    until: float | None = getattr(_calling, "until", None)
    return until is not None and time.monotonic() >= until


def _left(timeout: float | None, over: type[httpcore.TimeoutException]) -> float | None:
    """Seconds for a single wait."""
    until: float | None = getattr(_calling, "until", None)
    if until is None:
        return timeout
    left = until - time.monotonic()
    if left <= 0:
        raise over("the time for the whole answer is over")
    return left if timeout is None else min(timeout, left)


class Backend(httpcore.NetworkBackend):
    """The network as httpcore knows it, with an end.

    Args:
        refused: tells why an address that a host led to must not be connected to, None when it may.
    """

    def __init__(self, refused: Callable[[str, str], str | None] = lambda _host, _address: None) -> None:
        self._network = httpcore.SyncBackend()
        self._refused = refused

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connects to the first address of a host that answers; all of them share the timeout.

        Raises:
            ProtocolError: none of them may be connected to.
        """
        addresses = self._allowed(host, _addresses(host, port))
        options = None if socket_options is None else list(socket_options)
        with within(timeout):
            for number, address in enumerate(addresses, start=1):
                left = _left(timeout, httpcore.ConnectTimeout)
                share = left and max(left / (len(addresses) - number + 1), min(left, _LEAST_SHARE))
                try:
                    return _Stream(self._network.connect_tcp(address, port, share, local_address, options))
                except (httpcore.ConnectError, httpcore.ConnectTimeout):
                    if number == len(addresses):
                        raise
        raise httpcore.ConnectError("the name has no address")

    def _allowed(self, host: str, addresses: list[str]) -> list[str]:
        reasons = {address: self._refused(host, address) for address in addresses}
        allowed = [address for address in addresses if reasons[address] is None]
        if addresses and not allowed:
            raise ProtocolError(
                f"the download address that the upstream gave is refused: {reasons[addresses[0]]}",
                hint="nothing was asked of it; if upstream.base_url is right, tell whoever runs the upstream",
            )
        return allowed

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        """Connects to a socket of this machine."""
        with within(timeout):
            left = _left(timeout, httpcore.ConnectTimeout)
            return _Stream(self._network.connect_unix_socket(path, left, socket_options))

    def sleep(self, seconds: float) -> None:
        """Waits."""
        self._network.sleep(seconds)


def _addresses(host: str, port: int) -> list[str]:
    """The numeric addresses of a host, in the resolver's order. How long it asks is up to the system."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from None
    scopes = (f"%{address[3]}" if len(address) == 4 and address[3] else "" for *_, address in found)
    return [f"{each[4][0]}{scope}" for each, scope in zip(found, scopes, strict=True)]


class _Stream(httpcore.NetworkStream):
    """A connection."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        with within(timeout):
            left = _left(timeout, httpcore.ConnectTimeout)
            return _Stream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class TlsSocket(ssl.SSLSocket):
    """TLS to a proxy, which httpcore reads from as often as TLS inside it needs, each time with the whole timeout."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """The next bytes, within the deadline."""
        self.settimeout(_left(self.gettimeout(), httpcore.ReadTimeout))
        return super().recv(buflen, flags)
