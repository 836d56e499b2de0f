"""One HTTP origin on loopback, with keep-alive and a stop that closes all connections."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .messages import CHUNK, Origin, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .messages import RequestLog

HOST = "127.0.0.1"
# How long a stop waits for the threads of its connections to end.
CLOSING_SECONDS = 5.0

_log = logging.getLogger(__name__)


class OriginServer(ThreadingHTTPServer):
    """Serves one origin, with one thread for accepting and one for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, origin: Origin, answer: Callable[[Request], Response], log: RequestLog, port: int = 0) -> None:
        self.origin = origin
        self.answer = answer
        self.log = log
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((HOST, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, name=f"demo-{origin}", daemon=True)

    @property
    def port(self) -> int:
        """The port that the system chose."""
        return int(self.socket.getsockname()[1])

    def start(self) -> None:
        """Starts accepting connections."""
        self._thread.start()

    def close(self) -> None:
        """Closes the listening socket and all connections. New connections are refused."""
        # On Linux this wakes the accepting thread at once. Elsewhere it fails, and the thread ends at its next poll.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        self.server_close()
        self._thread.join()
        with self._changed:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def wait_closed(self) -> None:
        """Waits until the threads of all connections have ended, for at most `CLOSING_SECONDS`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, CLOSING_SECONDS)

    def server_bind(self) -> None:
        """Binds without `HTTPServer`'s reverse lookup of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.port

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts a connection, and records it before its thread starts."""
        connection, address = super().get_request()
        with self._changed:
            self._open.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        """Closes a connection, and removes it from the open ones."""
        super().close_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - its base names them
        """Logs errors of this server, but not connections that the client has closed."""
        if not isinstance(sys.exception(), ConnectionError):
            _log.exception("the demo's %s origin failed", self.origin)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and writes responses, without changing either."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: OriginServer

    def _serve(self) -> None:
        request = self._read()
        self.server.log.add(request)
        try:
            response = self.server.answer(request)
        except ConnectionError:  # a subclass of DemoUpstream may close the connection like this
            self.close_connection = True
            return
        self._write(response)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - http.server's names

    def _read(self) -> Request:
        length = self.headers.get("Content-Length", "0")
        body = self.rfile.read(int(length)) if length.isdecimal() else b""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True  # no call of this API has a chunked body, so its end is not looked for
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.server.origin, self.command, self.path, headers, body)

    def _write(self, response: Response) -> None:
        length = None if response.status in {204, 304} else response.content_length
        head = self._head(response, length)
        if self.command == "HEAD" or response.status in {204, 304}:
            self.connection.sendall(head)
            return
        sent = self._send(head, response, length)
        if length is not None and sent < length:
            self.close_connection = True

    def _head(self, response: Response, length: int | None) -> bytes:
        lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}", f"Date: {self.date_time_string()}"]
        lines += [f"{name}: {value}" for name, value in response.headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        elif response.status not in {204, 304} and response.header("Transfer-Encoding") is None:
            self.close_connection = True
        if self.close_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _send(self, head: bytes, response: Response, length: int | None) -> int:
        """Sends head and body (a small body together with its head). Returns the number of bytes of the body."""
        if isinstance(response.body, bytes) and len(response.body) <= CHUNK:
            self.connection.sendall(head + response.body)
            return len(response.body)
        self.connection.sendall(head)
        if isinstance(response.body, Path):
            with open(response.body, "rb") as file:
                return self.connection.sendfile(file, response.offset, length) if length else 0
        sent = 0
        for chunk in response.chunks():
            self.connection.sendall(chunk)
            sent += len(chunk)
        return sent

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Prints nothing, because `RequestLog` has the requests."""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
