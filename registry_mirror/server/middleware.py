"""What every request passes first: its id, the prefix, the counters, the access log."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

from ..log import logger
from . import answers
from .auth import KeysUnreadableError
from .bodies import TooManyBodiesError
from .context import CALL, read_call
from .downloads import admitted_body, send_pieces
from .errors import BrokenOffError
from .proxies import client_address, is_own
from .requests import API_PREFIX, without_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .context import Call, ServerContext

LARGEST_HEAD = 64 << 10
"""Bytes of the longest path, query and headers of a request together. Known clients send far less."""

_MISDIRECTED = (
    "this mirror asks for no key, so it answers to names of its own machine only; make client keys with `mirror keys"
    " add`, or set serve.public_url to the address that clients use"
)

_BUSY = "this server sends as much as it has memory for; try again in some seconds"
_LARGE = 128 << 10  # bytes; Granian copies a smaller body whole

_fault_log = logger("server")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNSHOWN = re.compile(r"[^!-~]")
_ROUTES = (("/blobs/", "blobs"), ("/fetch/", "fetch"), (API_PREFIX, "models"))
_PLAIN_ROUTES = {
    "/": "page",
    "/healthz": "health",
    "/readyz": "health",
    "/metrics": "metrics",
    "/openapi.json": "openapi",
}


class HttpMiddleware:
    """Wraps the application.

    Args:
        apps: the applications of the busy routes, by the word that `route_of` returns.
        fallback: the application of all other routes.
        site: the mirror that is served.
        log: takes a line for each request; None for no log.
    """

    def __init__(
        self, apps: Mapping[str, ASGIApp], fallback: ASGIApp, site: ServerContext, log: Callable[[str], None] | None
    ) -> None:
        self._apps, self._fallback, self._site, self._log = apps, fallback, site, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, whatever error occurs."""
        if scope["type"] != "http":
            await self._fallback(scope, receive, send)
            return
        call = read_call(scope)
        call.raw_path, had = without_prefix(call.raw_path.partition(b"?")[0], self._site.path_prefix)
        call.prefix = (self._site.path_prefix or "") if had else ""
        # The route is found before anything is decoded: a name may contain a line break, which no pattern matches.
        scope = {**scope, CALL: call, "raw_path": call.raw_path, "path": call.raw_path.decode("latin-1")}
        route = route_of(call.raw_path)
        answer = _Answer(send, request_id(call.headers.get("x-request-id")))
        host, port = scope.get("client") or ("", 0)
        requests = self._site.activity.begin((host, int(port)), time.monotonic())
        try:
            if head_size(scope) > LARGEST_HEAD:
                await answer.words(431, f"the head of a request may have {LARGEST_HEAD} bytes")
            elif self._is_misdirected(call, route):
                await answer.words(421, _MISDIRECTED)
            else:
                await self._apps.get(route, self._fallback)(scope, receive, answer.send)
                if answer.large is not None:
                    await self._send_large(call, answer, answer.large, receive)
        except TooManyBodiesError:
            await answer.words(503, _BUSY, [(b"retry-after", b"5")])
        except BrokenOffError as error:
            _fault_log.error("request %s broke off: %s", answer.request_id, error)
            raise
        except Exception:
            _fault_log.exception("request %s", answer.request_id)
            if answer.status:  # the answer has begun: only ending the connection tells the client that it is incomplete
                raise
            await answer.words(500, "a fault in registry-mirror; the server's log has it under this request's id")
        finally:
            self._site.activity.end(requests, time.monotonic())
            self._note(call, route, answer)

    async def _send_large(self, call: Call, answer: _Answer, body: bytes, receive: Receive) -> None:
        """Sends a large body in pieces, so that Granian copies little of it for a client that does not read.

        Raises:
            TooManyBodiesError: the bodies in memory, or those of this client, are too many.
        """
        place = 0

        async def following(size: int) -> bytes:
            nonlocal place
            piece = body[place : place + size]
            place += len(piece)
            return piece

        with admitted_body(self._site, call, len(body)):
            await answer.begin()
            await send_pieces(self._site.bodies, following, len(body), receive, answer.send)

    def _is_misdirected(self, call: Call, route: str) -> bool:
        """Returns whether requests need no key, and this one uses a host name that is not ours."""
        names = self._site.own_hosts
        if names is None or is_own(call.headers.get("host", "").strip(), names) or route == "health":
            return False
        try:
            return not self._site.guard.asks
        except KeysUnreadableError:  # then no request is let in
            return False

    def _note(self, call: Call, route: str, answer: _Answer) -> None:
        self._site.metrics.answered(route, call.method, answer.status, answer.sent, answer.seconds)
        if self._log is not None:
            self._log(log_line(call, answer.status, answer.sent, answer.seconds, answer.request_id, self._site))


class _Answer:
    """Watches what is sent. It keeps a large body back, as `large`."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = self.sent = 0
        self.large: bytes | None = None
        self._start: Message | None = None
        self._began = time.perf_counter()
        self.seconds = 0.0

    async def send(self, message: Message) -> None:
        """Passes a message on. It holds the start back until the body comes, which may be too large."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        body = message.get("body", b"")
        if self._start is not None and len(body) > _LARGE and not message.get("more_body"):
            self.large = body
            return
        await self.begin()
        self.sent += len(body)
        await self._send(message)

    async def begin(self) -> None:
        """Sends the start of the answer, once."""
        if self._start is None:
            return
        message, self._start = self._start, None
        self.status = message["status"]
        self.seconds = time.perf_counter() - self._began
        self._headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
        await self._send({**message, "headers": self._headers})

    async def words(self, status: int, message: str, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Sends an error when the application cannot."""
        body = answers.error(status, message)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def head_size(scope: Scope) -> int:
    """Returns the bytes of a request's path, query and headers."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])


def request_id(given: str | None) -> str:
    """Returns the client's own id for the request if it can be logged, else a new one."""
    return given if given is not None and _ID.fullmatch(given) else secrets.token_hex(8)


def route_of(raw_path: bytes) -> str:
    """Returns the word for a path's route. There are few of them."""
    path = raw_path.decode("latin-1")
    return _PLAIN_ROUTES.get(path) or next((word for start, word in _ROUTES if path.startswith(start)), "other")


def log_line(call: Call, status: int, sent: int, seconds: float, name: str, site: ServerContext) -> str:
    """Formats one request as a line. It leaves out the query, which may contain a signature."""
    client = client_address(call.headers, call.peer, site.proxies) or "-"
    path = call.raw_path.decode("latin-1")[:200]
    client, holder, shown = (_UNSHOWN.sub("?", text) for text in (client, call.holder or "-", path))
    took = f"{seconds * 1000:.1f}ms"
    return f"{client} {holder} {_method(call)} {shown} {status or '-'} {sent} {took} {name}"


def _method(call: Call) -> str:
    return call.method if call.method.isascii() and call.method.isalpha() else "?"
