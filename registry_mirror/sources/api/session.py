"""The HTTP session that sends the API key, to the upstream's own origin only. Storage has a client of its own."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx

from ...errors import ConfigurationError, ProtocolError
from ...log import logger
from ...model import utc_now
from ...secret import Secret
from ...transfer.http import answering, is_over
from ...transfer.inflate import InflateError, inflate
from ...transfer.responses import Counter, TooMuchError, error_for, first_bytes, network_error
from ...transfer.throttle import LEAST, WINDOW
from ...units import format_size
from ...urls import check_base_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ...errors import ApiError, MirrorError
    from ...transfer.http import Connections
    from ...transfer.retry import RetryPolicy

API_PATH = "/api/v1/developer"
_LONGEST_CHAIN = 4096

ANSWER_LIMIT = 64 << 20
"""The most bytes of an answer of the API, decompressed: 640 KiB for each row of a page of a hundred."""

ERROR_LIMIT = 1 << 20
"""The most bytes that are read of an error."""

_STEADY = LEAST / WINDOW
"""Bytes a second. An answer this fast that did not finish in time was not stalling: it is too large for the line."""

_log = logger("upstream")


class _WithoutQueries(logging.Filter):
    """Removes the query from every address that httpx logs: the query of a signed address is a secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                each.copy_with(query=None) if isinstance(each, httpx.URL) else each for each in record.args
            )
        return True


logging.getLogger("httpx").addFilter(_WithoutQueries())


class ApiSession:
    """Calls the upstream's own origin with the API key, and retries failed calls.

    Args:
        base_url: the upstream's address.
        key: the API key.
        connections: makes the HTTP client.
        retry: how often a failed call is tried.
        allow_http: whether the key may be sent over plain http.

    Raises:
        ConfigurationError: the base URL or the key cannot be used.
    """

    def __init__(
        self, base_url: str, key: Secret, connections: Connections, *, retry: RetryPolicy, allow_http: bool = False
    ) -> None:
        self.base_url = check_base_url(base_url, allow_http=allow_http)
        self._key = _usable(key)
        self._retry = retry
        # Only gzip, which `inflate` decompresses in pieces and checks for a bomb.
        self._client = connections.client({"Accept": "application/json", "Accept-Encoding": "gzip"})
        self.requests = Counter()
        self.chain: tuple[str, ...] = ()
        """Ids of the catalogs that the last answer came through, if the upstream is itself a mirror; nearest first."""
        # The last answer's `Date` header and when it arrived; parsed only when `skew` is read.
        self._last_date: tuple[str | None, datetime] | None = None

    def __repr__(self) -> str:
        return f"ApiSession({self.base_url!r})"

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    @property
    def skew(self) -> float | None:
        """Seconds that the upstream's clock is ahead of ours, by its last answer; None when unknown."""
        return None if self._last_date is None else skew_of(*self._last_date)

    def call(
        self,
        what: str,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        classes: Mapping[int, type[ApiError]] | None = None,
    ) -> bytes:
        """Sends a request and returns the body of its successful answer.

        Args:
            what: names the call in errors.
            method: GET or DELETE.
            path: below `API_PATH`, already quoted.
            params: for the query.
            classes: error classes by status, where they differ from the usual ones for this call.

        Raises:
            ApiError: the answer is an error; the subclass follows from its status.
            ProtocolError: the answer cannot be read.
            NetworkError: the upstream cannot be reached, or does not answer in time.
        """
        return self._retry.call(lambda: self._once(what, method, path, params, classes))

    def _once(
        self,
        what: str,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        classes: Mapping[int, type[ApiError]] | None,
    ) -> bytes:
        self.requests.add()
        began = time.monotonic()
        with answering(self._client), contextlib.closing(self._send(what, method, path, params)) as response:
            # Only the path: headers and whole addresses could hold a secret, and the parameters are not worth logging.
            _log.debug("%s %s: HTTP %d", method, path, response.status_code)
            body = self._read(what, response, began)
        self._last_date = response.headers.get("Date"), utc_now()
        failure = error_for(
            what, response.status_code, response.headers, body, utc_now(), classes, hide=self._key.reveal()
        )
        if failure is not None:
            raise failure
        self.chain = chain_of(response.headers.get("x-mirror-chain", "")) or self.chain
        return body

    def _send(self, what: str, method: str, path: str, params: Mapping[str, Any] | None) -> httpx.Response:
        # Not passed as `params`: for those httpx would parse the address a second time.
        url = f"{self.base_url}{API_PATH}{path}" + (f"?{urlencode(params)}" if params else "")
        try:
            request = self._client.build_request(method, url, headers={"X-API-Key": self._key.reveal()})
            return self._client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = network_error(what, self.base_url, error)
        # Raised outside the except block: inside, httpx's error would be chained, and its request holds the key.
        raise failure

    def _read(self, what: str, response: httpx.Response, began: float) -> bytes:
        """Reads and decompresses the body of an answer.

        Args:
            began: when the call began, by `time.monotonic`.

        Raises:
            AnswerTooLargeError: the answer is larger than its limit, or too large to arrive in time.
            ProtocolError: the answer cannot be decompressed.
            NetworkError: the connection failed.
        """
        encoding = response.headers.get("content-encoding", "").strip().lower()
        limit = ANSWER_LIMIT if response.is_success else ERROR_LIMIT
        try:
            return first_bytes(inflate(encoding, response.iter_raw()), limit, whole=response.is_success)
        except (TooMuchError, InflateError) as error:
            reason = f"{what}: the upstream's answer cannot be read: {error}"
            kind = AnswerTooLargeError if isinstance(error, TooMuchError) else ProtocolError
            failure: MirrorError = kind(reason, hint="check upstream.base_url")
        except httpx.HTTPError as error:
            failure = network_error(what, self.base_url, error)
            size, took = response.num_bytes_downloaded, time.monotonic() - began
            if response.is_success and is_over() and size >= _STEADY * took:
                came = format_size(size)
                reason = f"{what}: only {came} of the upstream's answer came in time"
                failure = AnswerTooLargeError(reason, hint="a longer upstream.timeout gives it more time")
        raise failure


class AnswerTooLargeError(ProtocolError):
    """The answer is larger than its limit, or too large to arrive in time. Asking for fewer rows may help."""


def chain_of(header: str) -> tuple[str, ...]:
    """The catalog ids in an `X-Mirror-Chain` header, nearest first. Skips words that do not look like an id."""
    return tuple(each for each in re.split(r",\s*", header[:_LONGEST_CHAIN]) if re.fullmatch(r"[0-9a-f]{32}", each))


def skew_of(date: str | None, now: datetime) -> float | None:
    """Seconds that a `Date` header is ahead of `now`; None when it is missing or not a date."""
    if date is None:
        return None
    try:
        told = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return (told.replace(tzinfo=told.tzinfo or UTC) - now).total_seconds()


def _usable(key: Secret) -> Secret:
    text = key.reveal().strip()
    if not text:
        raise ConfigurationError("the API key is empty", hint="set PICTOGRAPH_API_KEY to the key of your organisation")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigurationError(
            "the API key holds characters that no key has", hint="copy it again: a key is one word of plain ASCII"
        )
    return Secret(text)
