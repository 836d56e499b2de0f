"""How hosts are reached: proxies, certificates, timeouts."""

from __future__ import annotations

import functools
import os
import socket
from typing import TYPE_CHECKING

import httpx

from ..environment import Proxy, proxies, proxy_for, trusted, usable_proxy
from ..errors import ConfigurationError
from ..urls import is_loopback
from .deadline import Backend, TlsSocket
from .target import refused_address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

USER_AGENT = "registry-mirror"


class Connections:
    """How to reach hosts: proxy, private CA, timeouts. Makes the clients of both sessions.

    Args:
        proxy: a URL; None leaves it to the usual environment variables.
        ca_file: certificates trusted beside the usual ones, for an inspecting proxy or a private upstream.
        timeout: seconds for connecting, and for the next bytes to come.
        workers: transfers at once.

    Raises:
        ConfigurationError: one of them, or a variable of the environment, cannot be used.
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
        """A client that follows no redirect: one would carry a key or a digest check to another place.

        Args:
            given_by: the upstream whose addresses it dials, by its base URL; None for an operator's own.
        """
        return httpx.Client(
            transport=_Routes(self, given_by),
            trust_env=False,
            timeout=self._timeout,
            headers={"User-Agent": USER_AGENT, **headers},
            follow_redirects=False,
        )

    def proxy_of(self, url: httpx.URL) -> Proxy | None:
        """The proxy that a call goes through. None can reach our own loopback, and one in the environment would."""
        if self._configured is not None:
            return None if is_loopback(url.host) else self._configured
        return proxy_for(url.scheme, url.host, url.port, self._proxies)

    def transports(self, given_by: str | None) -> dict[Proxy | None, httpx.HTTPTransport]:
        """The ways to hosts: without a proxy, and through each. A proxy looks names up itself, so it has to judge."""
        return {
            proxy: self._transport(proxy, given_by if proxy is None else None)
            for proxy in (None, *self._proxies.values())
        }

    def _transport(self, proxy: Proxy | None, given_by: str | None) -> httpx.HTTPTransport:
        """Connections of one way to hosts, each of which ends with the deadline of the thread that waits for it."""
        try:
            tls = self._context if proxy and proxy.url.startswith("https:") else None
            way = httpx.Proxy(proxy.url, ssl_context=tls) if proxy else None
            transport = httpx.HTTPTransport(verify=self._context, trust_env=False, limits=self._limits, proxy=way)
        except (httpx.InvalidURL, ValueError, ImportError):
            # Not the error's own words: they may show the password.
            origin = proxy.origin if proxy else ""
            raise ConfigurationError(f"{origin}: the proxy's address cannot be used") from None
        # httpcore takes it as an argument, and httpx hands none on.
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
    """One for all clients of this process that trust the same: to read a system's certificates takes 30 ms."""
    variables = tuple(os.environ.get(name) for name in ("SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR"))
    files = tuple(_traits(path) for path in (*variables, ca_file) if path)
    return _new_tls_context(ca_file, (variables, files))


def _traits(path: str | Path) -> tuple[int, ...]:
    """What changes with a file's content; the same for all that are not there."""
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
