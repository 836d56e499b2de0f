"""One open answer of storage."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from ..errors import TransferError
from ..model import utc_now
from .answers import TRANSIENT, retry_after
from .declared import declared
from .inflate import InflateError, inflate
from .ranges import Fit, judge_rest
from .session import network_error
from .wire import WORTH, Wire, bare_socket, counts_by_itself

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from .ranges import Rest

_log = logging.getLogger("registry_mirror.upstream")


class Body:
    """An answer whose body is still to be read.

    Args:
        rest: what is wanted; None for the whole object.

    Attributes:
        fit: what the answer is to the question; `WHOLE` when the whole object was wanted.
        reason: why, in words.
        declared: what it says of the object; of a rest it says less.

    Raises:
        TransferError: it is no success; transient unless the object is not there.
        NetworkError: no answer came.
    """

    def __init__(self, what: str, url: str, client: httpx.Client, rest: Rest | None = None) -> None:
        self._what, self._url = what, url
        self._pieces: Iterator[bytes] | None = None
        self._response = _open(what, url, client, rest.headers() if rest else {})
        try:
            self.fit, self.reason = self._judge(rest)
            _log.debug("%s: storage %s answered HTTP %d", what, self.host, self._response.status_code)
            self._refuse_failure()
            self.declared = declared(self._response.headers)
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

    def wire(self, least: int = WORTH) -> Wire | None:
        """The socket under it, for a body of at least so many bytes that is nothing but its bytes; else None.

        The connection is not used again.
        """
        response = self._response
        version = response.extensions.get("http_version", b"")
        length, raw = counts_by_itself(version, response.headers), bare_socket(response)
        if length is None or raw is None or length < least:
            return None
        begun = next(self._raw(), b"")
        timeout = response.request.extensions.get("timeout", {}).get("read")
        return Wire(self._what, self.host, raw, begun, length - len(begun), timeout)

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, in pieces of tens of KiB, unpacked where it is compressed."""
        encoding = self._response.headers.get("content-encoding", "").strip().lower()
        try:
            yield from inflate(encoding, self._raw())
        except InflateError as error:
            raise TransferError(f"{self._what}: storage {self.host}: {error}") from None

    def _raw(self) -> Iterator[bytes]:
        # Kept: an iterator that is let go closes its connection.
        if self._pieces is None:
            self._pieces = self._iterated()
        return self._pieces

    def _iterated(self) -> Iterator[bytes]:
        try:
            yield from self._response.iter_raw()
        except httpx.HTTPError as error:
            failure = network_error(self._what, self._url, error)
        else:
            return
        # Raised out here: inside, httpx's error, which holds the signed address, would stay attached to ours.
        raise failure

    def _judge(self, rest: Rest | None) -> tuple[Fit, str]:
        status = self._response.status_code
        if rest is not None:
            return judge_rest(rest, status, self._response.headers)
        return (Fit.WHOLE if status == 200 else Fit.OTHER), f"HTTP {status}"

    def _refuse_failure(self) -> None:
        if self.fit is not Fit.OTHER:
            return
        status = self._response.status_code
        # 401 and 403 are how signed addresses expire: the next try brings a fresh one.
        raise TransferError(
            f"{self._what}: storage {self.host} answered HTTP {status}",
            hint="the weights are missing in the upstream's storage" if status in (404, 410) else None,
            transient=status in TRANSIENT or status in (401, 403),
            retry_after=retry_after(self._response.headers.get("retry-after"), utc_now()),
        )


def _open(what: str, url: str, client: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    try:
        return client.send(client.build_request("GET", url, headers=headers), stream=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failure = network_error(what, url, error)
    raise failure
