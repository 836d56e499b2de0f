"""The socket under an answer, for bodies that are large enough to be worth reading without a parser in between.

A body with a Content-Length over HTTP/1.1 is nothing but so many bytes. Once the parser has given out the first piece
it holds none back, and the rest can go from the socket into a buffer of ours. What the client library does beside that
is then ours: the timeout, and noticing that the connection has ended.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING

from ..errors import NetworkError, RequestTimeoutError
from .inflate import codings

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

WORTH = 8 << 20
"""Bytes from which on a body is read so. Its connection is closed afterwards, which a small one does not pay for."""

_STEP = 0.2
"""Seconds after which what came is handed on although the buffer has room."""


class Wire:
    """So many bytes that are still to come through a socket.

    Args:
        what: the model, for errors.
        host: the storage's.
        begun: bytes that the parser has read already.
        left: how many are to come after them.
        timeout: seconds for the next bytes to come.
    """

    def __init__(
        self, what: str, host: str | None, raw: socket.socket, begun: bytes, left: int, timeout: float | None
    ) -> None:
        self._what, self.host = what, host
        self._raw, self._begun, self.left = raw, memoryview(begun), left + len(begun)
        self._timeout = timeout
        self._silent, self._failure = 0.0, ""
        raw.settimeout(_STEP if timeout is None else min(_STEP, timeout))

    def fill(self, view: memoryview) -> int:
        """Reads until the buffer is full, the body at its end, or nothing more came for a moment.

        Returns:
            Bytes read; 0 when none came for a moment.

        Raises:
            RequestTimeoutError: nothing came for too long.
            NetworkError: the connection ended before the body did.
        """
        filled = self._from_parser(view)
        wanted, since = min(len(view), filled + self.left), time.monotonic()
        while filled < wanted:
            count = self._receive(view[filled:wanted])
            filled += count
            self.left -= count
            if not count or time.monotonic() - since > _STEP:
                break
        # What came before the end counts first.
        if self._failure and not filled:
            raise NetworkError(f"{self._what}: the connection to {self.host} {self._failure}")
        self._refuse_silence(0.0 if filled else time.monotonic() - since)
        return filled

    def _from_parser(self, view: memoryview) -> int:
        count = min(len(view), len(self._begun))
        view[:count], self._begun = self._begun[:count], self._begun[count:]
        self.left -= count
        return count

    def _receive(self, view: memoryview) -> int:
        try:
            count = self._raw.recv_into(view)
        except TimeoutError:
            return 0
        except OSError as error:
            self._failure = f"failed: {error}"
            return 0
        if not count:
            self._failure = f"ended {self.left} bytes early"
        return count

    def _refuse_silence(self, seconds: float) -> None:
        # Only waiting here counts: who reads slowly, for want of a faster line or disk, does not hear silence.
        self._silent = self._silent + seconds if seconds else 0.0
        if self._timeout is not None and self._silent >= self._timeout:
            raise RequestTimeoutError(f"{self._what}: no answer from {self.host} in time")


def counts_by_itself(version: bytes, headers: Mapping[str, str]) -> int | None:
    """The length of a body that is nothing but its bytes on the connection; None for any other. Pure."""
    length = headers.get("content-length", "")
    coded = headers.get("transfer-encoding") or codings(headers.get("content-encoding", ""))
    if version != b"HTTP/1.1" or coded or not length.isdecimal():
        return None
    return int(length)


def bare_socket(response: httpx.Response) -> socket.socket | None:
    """The socket that carries the body as it is, or with its one layer of TLS.

    None where TLS runs inside the TLS of a proxy: the socket is the outer one then, and would give out the inner
    layer's secret bytes.
    """
    stream = response.extensions.get("network_stream")
    if stream is None:
        return None
    raw, inner = stream.get_extra_info("socket"), stream.get_extra_info("ssl_object")
    if isinstance(raw, ssl.SSLSocket):
        return raw if inner is not None and inner in (raw, getattr(raw, "_sslobj", None)) else None
    return raw if isinstance(raw, socket.socket) and inner is None else None
