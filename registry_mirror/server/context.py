"""What every handler is given: the mirror that is served, and the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .bodies import Bodies
from .connections import Activity
from .proxies import Peer, base_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from starlette.responses import Response

    from ..index.reader import IndexReader
    from ..status import LastRun
    from ..store.layout import Layout
    from .auth import Authenticator
    from .metrics import Metrics
    from .proxies import TrustedProxies
    from .signing import Signer


class FetchProvider(Protocol):
    """Fetches weights that are not cached yet, once for all clients that wait for them."""

    async def respond(self, site: ServerContext, call: Call, model_id: str, weights_format: str, name: str) -> Response:
        """Returns an answer that streams the weights as they arrive. `name` is for `Content-Disposition`."""

    def end(self) -> None:
        """Ends the answers of all clients that wait."""

    def close(self) -> None:
        """Ends all fetches. It is called after the last answer."""


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The mirror that is served.

    Attributes:
        public_url, path_prefix: from the settings.
        fetcher: None unless missing weights are fetched for clients.
        last_run: reads the record of the last run.
        activity: the requests on each connection.
        bodies: the bodies that are being sent.
        own_hosts: host names, besides loopback's, that a request without a key may use; None for any name.
    """

    layout: Layout
    reader: IndexReader
    guard: Authenticator
    signer: Signer
    metrics: Metrics
    proxies: TrustedProxies
    last_run: Callable[[], LastRun]
    public_url: str | None = None
    path_prefix: str | None = None
    fetcher: FetchProvider | None = None
    own_hosts: frozenset[str] | None = None
    activity: Activity = field(default_factory=Activity)
    bodies: Bodies = field(default_factory=Bodies)


@dataclass(slots=True)
class Call:
    """One request: its raw parts, and its headers with names in lower case.

    Attributes:
        raw_path: the path without the configured prefix.
        prefix: that prefix if the request had it, else empty.
        holder: the name of its client key, once that is known; for the log.
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: Mapping[str, str]
    peer: Peer
    prefix: str = ""
    holder: str = field(default="")

    def base_url(self, site: ServerContext) -> str:
        """Returns the URL under which the client reached this server.

        Raises:
            BadHostError: its headers do not tell.
        """
        return base_url(self.headers, self.peer, site.proxies, site.public_url, self.prefix)


CALL = "registry_mirror.call"
"""The key of the `Call` in an ASGI scope. The middleware puts it there."""


def call_of(scope: MutableMapping[str, Any]) -> Call:
    """Returns the `Call` that the middleware has put into an ASGI scope."""
    found = scope[CALL]
    assert isinstance(found, Call)  # noqa: S101 - every request passes the middleware
    return found


def read_call(scope: MutableMapping[str, Any]) -> Call:
    """Reads an ASGI scope. Repeated headers are joined by commas (RFC 9110, 5.3); bytes are decoded as Latin-1."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    client = scope.get("client") or ("", 0)
    host, port = (scope.get("server") or ("localhost", None))[:2]
    server = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return Call(
        method=scope["method"],
        raw_path=scope.get("raw_path") or scope["path"].encode(),
        query=scope.get("query_string", b""),
        headers=headers,
        peer=Peer(scope.get("scheme", "http"), str(client[0]), server),
    )
