"""One open answer of storage, and the socket under it for bodies that are worth reading without a parser in between.

A body with a Content-Length over HTTP/1.1 is nothing but so many bytes. Once the parser has given out the first piece
it holds none back, and the rest can go from the socket into a buffer of ours. What the client library does beside that
is then ours: the timeout, and noticing that the connection has ended.
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
"""Bytes from which on a body is read so. Its connection is closed afterwards, which a small one does not pay for."""

_STEP = 0.2
"""Seconds after which what came is handed on although the buffer has room."""


class SocketBody:
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


_log = logging.getLogger("registry_mirror.upstream")

_REASON = 16 << 10
"""Bytes of an error in which its reason is looked for."""

_SECRET = 8
"""Characters from which on a value in a signed address may be one that somebody could use."""

_CURES = {
    "InvalidObjectState": "the object is archived in the upstream's storage, and has to be restored there first",
    "RequestTimeTooSkewed": "set this machine's clock by NTP",
}


class Body:
    """An answer whose body is still to be read.

    Args:
        rest: what is wanted; None for the whole object.
        packed: whether the object is wanted compressed, as storage keeps it.

    Attributes:
        fit: what the answer is to the question: `WHOLE` where the whole object was wanted; of a rest also `REST`,
            `COMPLETE`, `MISFIT` or `REFUSED`.
        reason: why, in words.
        declared: what it says of the object; of a rest it says less.
        packed: takes the digests of the body as it comes, where it may be compressed.

    Raises:
        TransferError: it is no success; transient unless the object is not there.
        NetworkError: no answer came.
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
        """Of the storage; the rest of its address is a secret."""
        return urlsplit(self._url).hostname

    def abort(self) -> None:
        """Ends the connection under a thread that reads from it; closing the descriptor would not wake that thread."""
        stream = self._response.extensions.get("network_stream")
        raw = stream.get_extra_info("socket") if stream is not None else None
        if raw is not None:
            with contextlib.suppress(OSError):
                # Not the method of a TLS socket: that forgets its TLS, and whoever reads then reads what is encrypted.
                socket.socket.shutdown(raw, socket.SHUT_RDWR)

    def wire(self, least: int = WORTH) -> SocketBody | None:
        """The socket under it, for a body of at least so many bytes that is nothing but its bytes; else None.

        The connection is not used again.
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
        """The body as it comes, in pieces of tens of KiB, unpacked where it is compressed."""
        try:
            yield from inflate(self.declared.coding, self._raw())
        except InflateError as error:
            raise TransferError(f"{self._what}: storage {self.host}: {error}") from None

    def _raw(self) -> Iterator[bytes]:
        # Kept: an iterator that is let go closes its connection.
        if self._pieces is None:
            self._pieces = self._iterated()
        return self._pieces

    def _iterated(self) -> Iterator[bytes]:
        pieces = self._response.iter_raw()
        try:
            while True:
                with answering(self._client):  # what frames a piece may drip, and no byte of the body comes meanwhile
                    chunk = next(pieces, None)
                if chunk is None:
                    return
                if self.packed is not None:
                    self.packed.update(chunk)
                yield chunk
        except httpx.HTTPError as error:
            failure = network_error(self._what, self._url, error)
        # Raised out here: inside, httpx's error, which holds the signed address, would stay attached to ours.
        raise failure

    def _refuse_failure(self, rest: Rest | None) -> None:
        """Ends a fetch by the answer's status. A refused rest ends none by itself: the whole may be had."""
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
            # 401 and 403 are how signed addresses expire: the next try brings a fresh one.
            transient=status in TRANSIENT or status in (401, 403) or expired,
            retry_after=retry_after(headers.get("retry-after"), utc_now(), headers.get("date")),
        )

    def _reason(self) -> str:
        """What storage says of its error, in one line without anything of the signed address."""
        encoding = self._response.headers.get("content-encoding", "")
        try:
            body = first_bytes(inflate(encoding, self._raw()), _REASON, whole=False)
        except (InflateError, NetworkError):
            return ""
        secrets = self.secrets()
        return xml_reason(body, secrets) or ("" if looks_like_html(body) else message_of(body, secrets) or "")

    def secrets(self) -> list[str]:
        """What storage may quote of the signed address, and nobody else may see; the longest first."""
        query = urlsplit(self._url).query
        values = {part.partition("=")[2] for part in query.split("&")}.union(value for _, value in parse_qsl(query))
        return sorted((value for value in values if len(value) >= _SECRET), key=len, reverse=True)


def _open(what: str, url: str, client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    try:
        with answering(client):  # the body has a pace of its own
            return client.send(client.build_request("GET", url, headers=headers), stream=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failure = network_error(what, url, error)
    raise failure
