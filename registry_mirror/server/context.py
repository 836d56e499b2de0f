"""What every handler is given, and what one request is to it."""

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
    """Gives weights that are not cached yet, fetching them once for all who wait."""

    async def respond(self, site: ServerContext, call: Call, model_id: str, weights_format: str, name: str) -> Response:
        """The answer to a request for the weights: streamed as they arrive. `name` is for `Content-Disposition`."""

    def end(self) -> None:
        """Lets go of everybody who waits."""

    def close(self) -> None:
        """Ends what is under way; called once nobody is answered any more."""


@dataclass(frozen=True, slots=True)
class ServerContext:
    """One mirror as it is served.

    Attributes:
        public_url, path_prefix: from the settings.
        fetcher: None where nothing is fetched.
        last_run: reads the record of the last run.
        activity: what is asked on each connection.
        bodies: those that are being sent.
        own_hosts: names beside loopback's that a request without a key may be sent to; None for any name.
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
    """One request: its raw parts, and the headers with keys in lower case.

    Attributes:
        raw_path: without the configured prefix.
        prefix: that prefix, where the request had it.
        holder: the client key that it came with, once it is known; for the log.
    """

    method: str
    raw_path: bytes
    query: bytes
    headers: Mapping[str, str]
    peer: Peer
    prefix: str = ""
    holder: str = field(default="")

    def base_url(self, site: ServerContext) -> str:
        """The URL under which the client reached this server.

        Raises:
            BadHostError: its headers name none.
        """
        return base_url(self.headers, self.peer, site.proxies, site.public_url, self.prefix)


CALL = "registry_mirror.call"
"""Where the front leaves the `Call` in an ASGI scope."""


def call_of(scope: MutableMapping[str, Any]) -> Call:
    """The request of an ASGI scope, as the front read it."""
    found = scope[CALL]
    assert isinstance(found, Call)  # noqa: S101 - the front is the only way in
    return found


def read_call(scope: MutableMapping[str, Any]) -> Call:
    """Reads an ASGI scope. A header that came twice is a list (RFC 9110, 5.3); what is not ASCII stays readable."""
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
