"""What travels between the sockets and the two origins: requests, responses and the log of them."""

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
    """One request as it came in; `target` is undecoded and header names are in lower case."""

    origin: Origin
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path as on the wire: no query, nothing decoded."""
        return self.target.partition("?")[0]

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's parts after the first slash.

        Split before they are decoded: a model's name may hold a slash, and arrives as `%2F`.
        """
        return tuple(unquote(part) for part in self.path.split("/")[1:])

    @property
    def query(self) -> dict[str, str]:
        """Query values by name; the last one of a name wins."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, written to the wire as it stands.

    Attributes:
        body: bytes, a file (sent by the kernel), or chunks.
        offset: the first byte to send of a file.
        length: the Content-Length; None means the size of bytes or of the rest of a file, and none at all for chunks:
            those end with the connection, unless `headers` name a Transfer-Encoding that the chunks already follow.
            A body that turns out shorter closes the connection.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Path | Iterable[bytes] = b""
    offset: int = 0
    length: int | None = None

    @property
    def content_length(self) -> int | None:
        """What the Content-Length header says; None when there is to be none."""
        if self.length is not None:
            return self.length
        if isinstance(self.body, bytes):
            return len(self.body)
        if isinstance(self.body, Path):
            return os.stat(self.body).st_size - self.offset
        return None

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def with_headers(self, headers: Mapping[str, str | None]) -> Self:
        """A copy with these headers instead of any of the same names; None takes one away."""
        names = {name.lower() for name in headers}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=kept + tuple((key, value) for key, value in headers.items() if value is not None))

    def chunks(self) -> Iterator[bytes]:
        """The body piece by piece; a file no further than `content_length`."""
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
    """Every request that both origins received, in order of arrival; safe to read while they serve."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Request] = []

    def add(self, request: Request) -> None:
        """Appends one."""
        with self._lock:
            self._entries.append(request)

    def clear(self) -> None:
        """Forgets them all, so that counting starts at zero again."""
        with self._lock:
            self._entries.clear()

    @property
    def entries(self) -> tuple[Request, ...]:
        """Whole requests, their headers included."""
        with self._lock:
            return tuple(self._entries)

    @property
    def log(self) -> list[tuple[str, str, str]]:
        """(origin, method, path without its query) of each."""
        return [(entry.origin, entry.method, entry.path) for entry in self.entries]

    @property
    def api(self) -> int:
        """How many the API received."""
        return sum(entry.origin == "api" for entry in self.entries)

    @property
    def storage(self) -> int:
        """How many the storage received."""
        return sum(entry.origin == "storage" for entry in self.entries)
