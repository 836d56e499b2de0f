"""Makes HTTP clients: proxies, certificates, timeouts, and a deadline for the start of a whole response."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from ..environment import Proxy, proxies, proxy_for, trusted, usable_proxy
from ..errors import ConfigurationError, ProtocolError
from ..urls import is_loopback
from .target import refused_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path


TIMES = 4
"""A whole response may take this many read timeouts."""

_LEAST_SHARE = 1.0
"""Seconds that connecting to one address of a name may take at least, if that much time is left."""

_calling = threading.local()


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Sets a deadline, in seconds from now, for everything that this thread waits for on the network inside the block.

    An earlier deadline of an outer block still holds. None sets no further deadline.
    """
    before: float | None = getattr(_calling, "until", None)
    if seconds is not None:
        until = time.monotonic() + seconds
        _calling.until = until if before is None else min(before, until)
    try:
        yield
    finally:
        _calling.until = before


def answering(client: httpx.Client) -> contextlib.AbstractContextManager[None]:
    """Sets the deadline for a whole response of this client: four times its read timeout."""
    timeout = client.timeout.read
    return within(None if timeout is None else TIMES * timeout)


def is_over() -> bool:
    """Whether this thread's deadline has passed."""
    until: float | None = getattr(_calling, "until", None)
    return until is not None and time.monotonic() >= until


def _left(timeout: float | None, over: type[httpcore.TimeoutException]) -> float | None:
    """Seconds that a single wait may take: `timeout`, or the time until the deadline if that is shorter.

    Raises `over` when the deadline has passed.
    """
    until: float | None = getattr(_calling, "until", None)
    if until is None:
        return timeout
    left = until - time.monotonic()
    if left <= 0:
        raise over("the time for the whole answer is over")
    return left if timeout is None else min(timeout, left)


class Backend(httpcore.NetworkBackend):
    """httpcore's network backend, with the deadline of `within`.

    Args:
        refused: given a host and its address, returns the reason not to connect to it, or None.
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
        """Connects to the first address of the host that answers. All its addresses share the timeout.

        Raises:
            ProtocolError: all its addresses are refused.
            httpcore.ConnectError: the host has no address, or cannot be connected to.
            httpcore.ConnectTimeout: the last address did not answer in time.
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
        """Connects to a Unix socket."""
        with within(timeout):
            left = _left(timeout, httpcore.ConnectTimeout)
            return _Stream(self._network.connect_unix_socket(path, left, socket_options))

    def sleep(self, seconds: float) -> None:
        """Waits."""
        self._network.sleep(seconds)


def _addresses(host: str, port: int) -> list[str]:
    """The numeric addresses of a host, in the resolver's order. The deadline does not limit the resolver."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from None
    scopes = (f"%{address[3]}" if len(address) == 4 and address[3] else "" for *_, address in found)
    return [f"{each[4][0]}{scope}" for each, scope in zip(found, scopes, strict=True)]


class _Stream(httpcore.NetworkStream):
    """A connection with the deadline of `within`."""

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
    """A TLS socket that heeds the deadline of `within`.

    When TLS runs inside the TLS of a proxy, httpcore calls `recv` as often as the inner layer needs bytes, each time
    with the full timeout.
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Returns the next bytes, within the deadline."""
        self.settimeout(_left(self.gettimeout(), httpcore.ReadTimeout))
        return super().recv(buflen, flags)


USER_AGENT = "registry-mirror"


class Connections:
    """How to reach hosts: proxy, private CA, timeouts. Makes the clients for the API and for storage.

    Args:
        proxy: a URL; None means that the usual environment variables apply.
        ca_file: certificates to trust in addition to the usual ones, for an inspecting proxy or a private upstream.
        timeout: seconds for connecting, and for waiting for the next bytes.
        workers: number of simultaneous transfers.

    Raises:
        ConfigurationError: the proxy, the CA file or an environment variable cannot be used.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        ca_file: Path | None = None,
        timeout: float = 30.0,
        workers: int = 4,
    ) -> None:
        self._configured = None if proxy is None else usable_proxy(Proxy(proxy, "upstream.proxy"))
        self._proxies = proxies() if self._configured is None else {"all": self._configured}
        self._context = _tls_context(ca_file)
        self._limits = httpx.Limits(max_connections=workers + 4, max_keepalive_connections=workers + 4)
        self._timeout = httpx.Timeout(timeout)

    def client(self, headers: Mapping[str, str], given_by: str | None = None) -> httpx.Client:
        """A client that follows no redirects: a redirect could send the API key, or a download, to another host.

        Args:
            headers: sent with every request.
            given_by: base URL of the upstream that chose the addresses to connect to; None when the operator did.
        """
        return httpx.Client(
            transport=_Routes(self, given_by),
            trust_env=False,
            timeout=self._timeout,
            headers={"User-Agent": USER_AGENT, **headers},
            follow_redirects=False,
        )

    def proxy_of(self, url: httpx.URL) -> Proxy | None:
        """The proxy for a URL; None to connect directly, as always to loopback, which no proxy elsewhere can reach."""
        if self._configured is not None:
            return None if is_loopback(url.host) else self._configured
        return proxy_for(url.scheme, url.host, url.port, self._proxies)

    def transports(self, given_by: str | None) -> dict[Proxy | None, httpx.HTTPTransport]:
        """One transport per proxy, and one (None) without a proxy.

        Only the direct one checks the addresses: a proxy resolves names itself, so it has to refuse addresses itself.
        """
        return {
            proxy: self._transport(proxy, given_by if proxy is None else None)
            for proxy in (None, *self._proxies.values())
        }

    def _transport(self, proxy: Proxy | None, given_by: str | None) -> httpx.HTTPTransport:
        """A transport whose connections heed the deadline of the thread that waits for them."""
        try:
            tls = self._context if proxy and proxy.url.startswith("https:") else None
            way = httpx.Proxy(proxy.url, ssl_context=tls) if proxy else None
            transport = httpx.HTTPTransport(verify=self._context, trust_env=False, limits=self._limits, proxy=way)
        except (httpx.InvalidURL, ValueError, ImportError):
            # The error's own text is left out: it may show the proxy's password.
            origin = proxy.origin if proxy else ""
            raise ConfigurationError(f"{origin}: the proxy's address cannot be used") from None
        # httpcore accepts a network backend as an argument, but httpx has no way to pass it one.
        transport._pool._network_backend = _backend(given_by)  # noqa: SLF001
        return transport


def _backend(given_by: str | None) -> Backend:
    if given_by is None:
        return Backend()
    own_name = socket.gethostname()
    return Backend(lambda host, address: refused_address(host, address, given_by, own_name))


class _Routes(httpx.BaseTransport):
    """Sends each request directly or through its proxy."""

    def __init__(self, connections: Connections, given_by: str | None) -> None:
        self._proxy_of, self._ways = connections.proxy_of, connections.transports(given_by)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._ways[self._proxy_of(request.url)].handle_request(request)

    def close(self) -> None:
        for each in self._ways.values():
            each.close()


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """The TLS context. Clients that trust the same files share it: reading the system's certificates takes 30 ms."""
    variables = tuple(os.environ.get(name) for name in ("SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR"))
    files = tuple(_traits(path) for path in (*variables, ca_file) if path)
    return _new_tls_context(ca_file, (variables, files))


def _traits(path: str | Path) -> tuple[int, ...]:
    """Values that change when the file's content changes; empty when the file is missing."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _new_tls_context(ca_file: Path | None, _state: object) -> ssl.SSLContext:
    context = trusted(os.environ, ca_file) or httpx.create_ssl_context(trust_env=False)
    context.sslsocket_class = TlsSocket
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=str(ca_file))
        except OSError as error:
            raise ConfigurationError(
                f"upstream.ca_file: cannot read certificates from {ca_file}: {error.strerror or error}",
                hint="name a file of PEM certificates",
            ) from error
    return context
