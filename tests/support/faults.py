"""What can go wrong with one answer of an upstream, as small values that compose.

A fault is called with the request and with the way to the true answer, and gives the answer to send instead.
"""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Protocol

from registry_mirror.demo import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# A gate that nobody opens must not hang the suite.
GATE_SECONDS = 60.0
DIGEST_HEADERS = ("x-goog-hash", "Content-MD5", "ETag")


class Fault(Protocol):
    """Something that goes wrong with one answer."""

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        """The answer to give instead; `answer()` is the true one. Raises ConnectionError to give none."""


@dataclass(frozen=True)
class Answer:
    """Gives this answer and never asks for the true one."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        return Response(self.status, self.headers, self.body)


def error(status: int, message: str = "scripted", *, retry_after: float | datetime | str | None = None) -> Answer:
    """An error as the API words it; `retry_after` in seconds, as a moment (sent as an HTTP date), or literally."""
    body = {"error": {"code": "scripted", "message": message, "details": None}, "detail": message}
    headers = [("Content-Type", "application/json")]
    if isinstance(retry_after, datetime):
        headers.append(("Retry-After", format_datetime(retry_after.astimezone(UTC), usegmt=True)))
    elif retry_after is not None:
        headers.append(("Retry-After", f"{retry_after:g}" if not isinstance(retry_after, str) else retry_after))
    return Answer(status, json.dumps(body).encode(), tuple(headers))


def html(status: int = 200, *, content_type: str = "text/html; charset=utf-8") -> Answer:
    """A page of somebody else's: a captive portal, a proxy, a login."""
    page = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in to go on.</body></html>\n"
    return Answer(status, page, (("Content-Type", content_type),))


def json_body(value: object, status: int = 200) -> Answer:
    """Any JSON value."""
    return Answer(status, json.dumps(value).encode(), (("Content-Type", "application/json"),))


def empty(status: int = 200) -> Answer:
    """No body at all."""
    return Answer(status)


def redirect(location: str, status: int = 302) -> Answer:
    """A redirect to anywhere."""
    return Answer(status, b"", (("Location", location),))


@dataclass(frozen=True)
class HangUp:
    """Closes the connection before any answer; the server still does what was asked when `after_work` is set."""

    after_work: bool = False

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        if self.after_work:
            answer()
        raise ConnectionAbortedError("scripted")


@dataclass(frozen=True)
class Truncate:
    """Ends the body after `keep` bytes, with a Content-Length that says just that: cut JSON in a whole answer."""

    keep: int

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        response = answer()
        return replace(response, body=_whole(response)[: self.keep], offset=0, length=None)


@dataclass(frozen=True)
class CutAfter:
    """Closes the connection after `count` bytes of the body; Content-Length is that of the whole."""

    count: int

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        response = answer()
        return _rewritten(response, _take(response.chunks(), self.count))


@dataclass(frozen=True)
class FlipByte:
    """Changes every bit of the body's byte at that index; negative indices count from the end."""

    at: int = 0

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        response = answer()
        at = self.at if self.at >= 0 else self.at + (response.content_length or 0)
        return _rewritten(response, _flip(response.chunks(), at))


@dataclass(frozen=True)
class Digests:
    """Replaces all three headers that may carry the MD5; None leaves one out. See the functions below."""

    goog_hash: str | None = None
    content_md5: str | None = None
    etag: str | None = None

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        values = (self.goog_hash, self.content_md5, self.etag)
        return answer().with_headers(dict(zip(DIGEST_HEADERS, values, strict=True)))


@dataclass(frozen=True)
class OnlyDigest:
    """Keeps one of the headers that carry the MD5 and takes the others away."""

    name: str

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        return answer().with_headers({name: None for name in DIGEST_HEADERS if name.lower() != self.name.lower()})


def no_digest() -> Digests:
    """A storage that names no digest."""
    return Digests()


def wrong_digest() -> Digests:
    """Every header names the MD5 of other bytes (of none, in fact)."""
    return Digests("md5=1B2M2Y8AsgTpgAmY7PhCfg==", "1B2M2Y8AsgTpgAmY7PhCfg==", '"d41d8cd98f00b204e9800998ecf8427e"')


def etag_only() -> OnlyDigest:
    """A plain 32-hex ETag that is the MD5, and nothing else."""
    return OnlyDigest("ETag")


def unrelated_etag(etag: str = '"0123456789abcdef0123456789abcdef"') -> Digests:
    """An ETag that looks like an MD5 and is none, as encrypting and multipart stores send it."""
    return Digests(etag=etag)


@dataclass(frozen=True)
class Headers:
    """Sets headers of the true answer; None takes one away."""

    values: Mapping[str, str | None]

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        return answer().with_headers(self.values)


@dataclass(frozen=True)
class Chunked:
    """Sends the body with chunked transfer encoding."""

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        response = answer().with_headers({"Transfer-Encoding": "chunked"})
        return replace(response, body=_chunked(response.chunks()), offset=0, length=None)


@dataclass(frozen=True)
class UntilClose:
    """Sends the body without Content-Length: it ends where the connection ends. `count` cuts it there, unnoticeably."""

    count: int | None = None

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        response = answer()
        chunks = response.chunks() if self.count is None else _take(response.chunks(), self.count)
        return replace(response, body=chunks, offset=0, length=None)


@dataclass(frozen=True)
class Gzipped:
    """Compresses the body; the digest headers go on naming the bytes before that."""

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        response = answer().with_headers({"Content-Encoding": "gzip"})
        return replace(response, body=gzip.compress(_whole(response), mtime=0), offset=0, length=None)


@dataclass(frozen=True)
class Gate:
    """A place where an answer waits until a test lets it pass."""

    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def wait_reached(self, seconds: float = 30.0) -> None:
        """Returns as soon as an answer waits here.

        Raises:
            TimeoutError: none came.
        """
        if not self.reached.wait(seconds):
            raise TimeoutError("no answer reached the gate")

    def hold(self) -> None:
        """Waits, as the answer."""
        self.reached.set()
        self.release.wait(GATE_SECONDS)


@dataclass(frozen=True)
class Hold:
    """Holds the body at the gate after `after` bytes; None holds the whole answer, its status line included."""

    gate: Gate
    after: int | None = None

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        if self.after is None:
            self.gate.hold()
            return answer()
        response = answer()
        return _rewritten(response, _held(response.chunks(), self.after, self.gate))


@dataclass(frozen=True)
class Edit:
    """Rewrites the JSON of the true answer with a function of a test's own: rows left out, repeated, ill-typed."""

    change: Callable[[Any], Any]

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        response = answer()
        body = json.dumps(self.change(json.loads(_whole(response)))).encode()
        return replace(response, body=body, offset=0, length=None)


@dataclass(frozen=True)
class Do:
    """Calls a function of a test's own before the true answer: the registry changes while a client pages it."""

    call: Callable[[], object]

    def __call__(self, request: Request, answer: Callable[[], Response]) -> Response:
        self.call()
        return answer()


def _whole(response: Response) -> bytes:
    return b"".join(response.chunks())


def _rewritten(response: Response, chunks: Iterator[bytes]) -> Response:
    """The same headers and length around other chunks."""
    return replace(response, body=chunks, offset=0, length=response.content_length)


def _take(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if count <= 0:
            return
        yield chunk[:count]
        count -= len(chunk)


def _flip(chunks: Iterator[bytes], at: int) -> Iterator[bytes]:
    for chunk in chunks:
        if 0 <= at < len(chunk):
            yield chunk[:at] + bytes([chunk[at] ^ 0xFF]) + chunk[at + 1 :]
        else:
            yield chunk
        at -= len(chunk)


def _held(chunks: Iterator[bytes], after: int, gate: Gate) -> Iterator[bytes]:
    for chunk in chunks:
        if 0 <= after <= len(chunk):
            yield chunk[:after]
            gate.hold()
            yield chunk[after:]
            after = -1
        else:
            yield chunk
            after -= len(chunk)


def _chunked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk:
            yield f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
    yield b"0\r\n\r\n"
