"""The requests and responses of the two origins, and the log of requests."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Origin = Literal["api", "storage"]

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was received. `target` is not decoded, and header names are in lower case."""

    origin: Origin
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path as it was sent, without the query and not decoded."""
        return self.target.partition("?")[0]

    @property
    def segments(self) -> tuple[str, ...]:
        """The decoded parts of the path, after the first slash.

        The path is split before it is decoded, because a slash in a model's name arrives as `%2F`.
        """
        return tuple(unquote(part) for part in self.path.split("/")[1:])

    @property
    def query(self) -> dict[str, str]:
        """Query values by name. If a name is repeated, the last value counts."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Response:
    """One response, which is sent unchanged.

    Attributes:
        body: bytes, a file (sent by the kernel), or chunks.
        offset: for a file, the first byte to send.
        length: the Content-Length. If None, it is the size of the bytes or of the rest of the file. Chunks then have
            no Content-Length: they end with the connection, unless `headers` have a Transfer-Encoding, which the chunks
            must already follow. The connection is closed if the body is shorter.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Path | Iterable[bytes] = b""
    offset: int = 0
    length: int | None = None

    @property
    def content_length(self) -> int | None:
        """The value of the Content-Length header; None for no such header."""
        if self.length is not None:
            return self.length
        if isinstance(self.body, bytes):
            return len(self.body)
        if isinstance(self.body, Path):
            return os.stat(self.body).st_size - self.offset
        return None

    def header(self, name: str) -> str | None:
        """The first header with this name, ignoring case; None if there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def with_headers(self, headers: Mapping[str, str | None]) -> Self:
        """A copy in which these headers replace those of the same names. The value None removes a header."""
        names = {name.lower() for name in headers}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=kept + tuple((key, value) for key, value in headers.items() if value is not None))

    def chunks(self) -> Iterator[bytes]:
        """Yields the body in pieces; of a file, at most `content_length` bytes."""
        if isinstance(self.body, bytes):
            yield self.body
        elif isinstance(self.body, Path):
            yield from _file_chunks(self.body, self.offset, self.content_length or 0)
        else:
            yield from self.body


def _file_chunks(path: Path, offset: int, count: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(offset)
        while count and (chunk := file.read(min(CHUNK, count))):
            yield chunk
            count -= len(chunk)


class RequestLog:
    """All requests that both origins received, in order of arrival. It may be read while they serve."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Request] = []

    def add(self, request: Request) -> None:
        """Appends a request."""
        with self._lock:
            self._entries.append(request)

    def clear(self) -> None:
        """Removes all requests, so that the counts start at zero again."""
        with self._lock:
            self._entries.clear()

    @property
    def entries(self) -> tuple[Request, ...]:
        """The whole requests, including their headers."""
        with self._lock:
            return tuple(self._entries)

    @property
    def log(self) -> list[tuple[str, str, str]]:
        """Origin, method and path (without query) of each request."""
        return [(entry.origin, entry.method, entry.path) for entry in self.entries]

    @property
    def api(self) -> int:
        """Number of requests to the API."""
        return sum(entry.origin == "api" for entry in self.entries)

    @property
    def storage(self) -> int:
        """Number of requests to the storage."""
        return sum(entry.origin == "storage" for entry in self.entries)
