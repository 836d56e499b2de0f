"""A storage that gives each connection so many bytes a second, steadily.

    python -m benchmarks.slow FOLDER PORT RATE

nginx's `limit_rate` counts in whole seconds: a file that fits into one comes at once, and so does each eighth of a
larger one. Here a connection never gets further ahead of its rate than one piece.
"""

from __future__ import annotations

import os
import re
import sys
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import BinaryIO

_PIECE = 1 << 17
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Storage(BaseHTTPRequestHandler):
    """GET of a file by its name, whole or one range of it; kept alive."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, folder: Path, rate: int) -> None:
        self._folder, self._rate = folder, rate
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Sends headers at once and the body at the rate."""
        path, _, query = self.path.partition("?")
        try:
            stream = (self._folder / path.rpartition("/")[2]).open("rb", buffering=0)
        except OSError:
            self.send_error(404)
            return
        with stream:
            size = os.fstat(stream.fileno()).st_size
            start, end = span(self.headers.get("Range"), size)
            self.send_response(200 if (start, end) == (0, size) else 206)
            self.send_header("Content-Length", str(end - start))
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{path.rpartition("/")[2]}"')
            self.send_header("x-goog-hash", query)
            self.end_headers()
            self._send(stream, start, end)

    def _send(self, stream: BinaryIO, start: int, end: int) -> None:
        began, at = time.monotonic(), start
        while at < end:
            sent = os.sendfile(self.connection.fileno(), stream.fileno(), at, min(_PIECE, end - at))
            at += sent
            time.sleep(max(0.0, began + (at - start) / self._rate - time.monotonic()))

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def span(header: str | None, size: int) -> tuple[int, int]:
    """First byte and the one behind the last of a `Range`; the whole file for none or one that is not understood."""
    found = _RANGE.fullmatch(header or "")
    if found is None:
        return 0, size
    return int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)


class Server(ThreadingHTTPServer):
    """A connection that a client gives up is the client's business."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    handler = partial(Storage, folder=Path(sys.argv[1]), rate=int(sys.argv[3]))
    Server(("127.0.0.1", int(sys.argv[2])), handler).serve_forever()
