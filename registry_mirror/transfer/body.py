"""One open response of storage. A large body is read straight from the socket, without the HTTP parser in between.

Over HTTP/1.1, a body with a Content-Length is exactly that many raw bytes. Once the parser has handed out its first
piece it holds nothing back, so the remaining bytes can go from the socket into our own buffer. We then have to do
what the client library would do: apply the timeout, and notice that the connection has ended.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import httpx

from ..digests import Hasher
from ..errors import NetworkError, RequestTimeoutError, TransferError
from ..model import utc_now
from .declared import declared
from .http import answering
from .inflate import InflateError, codings, inflate
from .responses import (
    TRANSIENT,
    first_bytes,
    looks_like_html,
    message_of,
    network_error,
    retry_after,
    says_expired,
    xml_reason,
)
from .verdicts import RangeFit, judge_rest, judge_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from .verdicts import Rest


WORTH = 8 << 20
"""Bodies of at least this many bytes are read straight from the socket.

The connection is closed afterwards, which costs more than a small body gains.
"""

_STEP = 0.2
"""Seconds after which `fill` returns the bytes it has, although the buffer has room."""


class SocketBody:
    """The part of a body that is still to be read from a socket.

    Args:
        what: the model, for errors.
        host: the storage's host name, for errors.
        raw: the socket.
        begun: bytes of the body that the parser has read already.
        left: number of bytes that follow `begun`.
        timeout: seconds to wait for the next bytes.
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
        """Reads into the buffer until it is full, the body ends, or no bytes arrive for a moment.

        Returns:
            Number of bytes read; 0 when none arrived for a moment.

        Raises:
            RequestTimeoutError: no bytes arrived within the timeout.
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
        # Bytes received before the failure are returned first; the next call raises.
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
        # Only the time spent waiting in `fill` counts: a caller with a slow disk or a rate limit is not a silent peer.
        self._silent = self._silent + seconds if seconds else 0.0
        if self._timeout is not None and self._silent >= self._timeout:
            raise RequestTimeoutError(f"{self._what}: no answer from {self.host} in time")


def counts_by_itself(version: bytes, headers: Mapping[str, str]) -> int | None:
    """The length of a body that travels as plain bytes: HTTP/1.1, not chunked, not compressed. None for others. Pure.

    Header names are in lower case.
    """
    length = headers.get("content-length", "")
    coded = headers.get("transfer-encoding") or codings(headers.get("content-encoding", ""))
    if version != b"HTTP/1.1" or coded or not length.isdecimal():
        return None
    return int(length)


def bare_socket(response: httpx.Response) -> socket.socket | None:
    """The socket that carries the body, either plain or with a single layer of TLS.

    None when TLS runs inside the TLS of a proxy: the socket then decrypts the outer layer only, and would return bytes
    that the inner layer has encrypted.
    """
    stream = response.extensions.get("network_stream")
    if stream is None:
        return None
    raw, inner = stream.get_extra_info("socket"), stream.get_extra_info("ssl_object")
    if isinstance(raw, ssl.SSLSocket):
        return raw if inner is not None and inner in (raw, getattr(raw, "_sslobj", None)) else None
    return raw if isinstance(raw, socket.socket) and inner is None else None


_log = logging.getLogger("registry_mirror.upstream")

_REASON = 16 << 10
"""How many bytes of an error's body are searched for a reason."""

_SECRET = 8
"""A value in a signed address counts as a secret from this many characters on."""

_CURES = {
    "InvalidObjectState": "the object is archived in the upstream's storage, and has to be restored there first",
    "RequestTimeTooSkewed": "set this machine's clock by NTP",
}


class Body:
    """A response of storage whose body has not been read yet.

    Args:
        what: the model, for errors.
        url: the signed address.
        client: sends the request.
        rest: the range to ask for; None for the whole object.
        packed: whether to ask for the object compressed, as storage keeps it.

    Attributes:
        fit: how the response fits the request: `WHOLE` when the whole object was asked for; for a range also `REST`,
            `COMPLETE`, `MISFIT` or `REFUSED`.
        reason: the reason for `fit`, in words.
        declared: what the headers say about the object; they say less in a response with a range.
        packed: hashes the bytes as received, when the body may be compressed; else None.

    Raises:
        TransferError: storage answered with an error, or with something other than the whole object.
        NetworkError: storage did not answer.
    """

    def __init__(
        self, what: str, url: str, client: httpx.Client, rest: Rest | None = None, *, packed: bool = False
    ) -> None:
        self._what, self._url, self._client = what, url, client
        self._pieces: Iterator[bytes] | None = None
        self.packed: Hasher | None = None
        asked = {"Accept-Encoding": "gzip"} if packed else {}
        self._response = _open(what, url, client, asked | (rest.headers() if rest else {}))
        try:
            status, headers = self._response.status_code, self._response.headers
            self.fit, self.reason = judge_whole(status, headers) if rest is None else judge_rest(rest, status, headers)
            _log.debug("%s: storage %s answered HTTP %d: %s", what, self.host, status, self.reason)
            with answering(client):
                self._refuse_failure(rest)
            self.declared = declared(headers, part=self.fit is not RangeFit.WHOLE)
            if self.declared.coding:
                self.packed = Hasher(self.declared.others)
        except BaseException:
            self._response.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._response.close()

    @property
    def host(self) -> str | None:
        """The storage's host name. The rest of its address is a secret."""
        return urlsplit(self._url).hostname

    def abort(self) -> None:
        """Ends the connection, which wakes a thread that reads from it. Closing the descriptor would not wake it."""
        stream = self._response.extensions.get("network_stream")
        raw = stream.get_extra_info("socket") if stream is not None else None
        if raw is not None:
            with contextlib.suppress(OSError):
                # Not the TLS socket's own shutdown(): it drops the TLS layer, and the reader would get encrypted bytes.
                socket.socket.shutdown(raw, socket.SHUT_RDWR)

    def wire(self, least: int = WORTH) -> SocketBody | None:
        """The rest of the body as a socket to read from; None when it cannot be, or is shorter than `least` bytes.

        The connection cannot be used for another request afterwards.
        """
        if self.declared.coding:
            return None
        response = self._response
        version = response.extensions.get("http_version", b"")
        length, raw = counts_by_itself(version, response.headers), bare_socket(response)
        if length is None or raw is None or length < least:
            return None
        begun = next(self._raw(), b"")
        timeout = response.request.extensions.get("timeout", {}).get("read")
        return SocketBody(self._what, self.host, raw, begun, length - len(begun), timeout)

    def chunks(self) -> Iterator[bytes]:
        """Yields the body in pieces of tens of KiB, and decompresses it if it is compressed.

        Raises:
            TransferError: the compressed body is damaged, or compressed in a way that is not supported.
            NetworkError: the connection failed.
        """
        try:
            yield from inflate(self.declared.coding, self._raw())
        except InflateError as error:
            raise TransferError(f"{self._what}: storage {self.host}: {error}") from None

    def _raw(self) -> Iterator[bytes]:
        # Keeps a reference: httpx closes the connection when the iterator is garbage-collected.
        if self._pieces is None:
            self._pieces = self._iterated()
        return self._pieces

    def _iterated(self) -> Iterator[bytes]:
        pieces = self._response.iter_raw()
        try:
            while True:
                with answering(self._client):  # a server could drip chunk headers for ever, without a byte of the body
                    chunk = next(pieces, None)
                if chunk is None:
                    return
                if self.packed is not None:
                    self.packed.update(chunk)
                yield chunk
        except httpx.HTTPError as error:
            failure = network_error(self._what, self._url, error)
        # Raised outside the except block: inside, httpx's error would be chained, and it holds the signed address.
        raise failure

    def _refuse_failure(self, rest: Rest | None) -> None:
        """Raises TransferError if the response is an error.

        A refused range does not raise, unless the address has expired: storage may still give the whole object.
        """
        if self.fit is RangeFit.MISFIT and rest is None:
            raise TransferError(f"{self._what}: storage {self.host}: {self.reason}", transient=True)
        if self.fit not in (RangeFit.OTHER, RangeFit.REFUSED):
            return
        status, headers, reason = self._response.status_code, self._response.headers, self._reason()
        expired = says_expired(reason)
        if self.fit is RangeFit.REFUSED and not expired:
            self.reason += f" ({reason})" if reason else ""
            return
        cure = next((cure for code, cure in _CURES.items() if code in reason), None)
        raise TransferError(
            f"{self._what}: storage {self.host} answered HTTP {status}{f' ({reason})' if reason else ''}",
            hint="the weights are missing in the upstream's storage" if status in (404, 410) else cure,
            # Expired addresses are answered with 401 or 403; the next try asks for a fresh address.
            transient=status in TRANSIENT or status in (401, 403) or expired,
            retry_after=retry_after(headers.get("retry-after"), utc_now(), headers.get("date")),
        )

    def _reason(self) -> str:
        """The reason that storage gives for its error, in one line and without any part of the signed address."""
        encoding = self._response.headers.get("content-encoding", "")
        try:
            body = first_bytes(inflate(encoding, self._raw()), _REASON, whole=False)
        except (InflateError, NetworkError):
            return ""
        secrets = self.secrets()
        return xml_reason(body, secrets) or ("" if looks_like_html(body) else message_of(body, secrets) or "")

    def secrets(self) -> list[str]:
        """The values in the signed address that must be masked if storage quotes them; the longest first."""
        query = urlsplit(self._url).query
        values = {part.partition("=")[2] for part in query.split("&")}.union(value for _, value in parse_qsl(query))
        return sorted((value for value in values if len(value) >= _SECRET), key=len, reverse=True)


def _open(what: str, url: str, client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    try:
        with answering(client):  # limits the time for the headers only
            return client.send(client.build_request("GET", url, headers=headers), stream=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failure = network_error(what, url, error)
    raise failure
