"""Reads error responses of the upstream and its storage: which error to raise, the reason, when to try again."""

from __future__ import annotations

import html
import json
import re
import threading
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from ..errors import (
    ApiError,
    AuthError,
    ConflictError,
    ForbiddenError,
    NetworkError,
    NotFoundError,
    PaymentRequiredError,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    ValidationError,
)
from ..units import format_size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

_MESSAGE_LIMIT = 300
_XML = re.compile(rb"<(code|message)>([^<]{1,2000})</\1>", re.IGNORECASE)
# Matches the messages of S3 ("Request has expired", ExpiredToken), Google's storage and Azure's storage.
_EXPIRED = re.compile(r"expired|not valid in the specified time frame", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

_CLASSES: dict[int, type[ApiError]] = {
    400: ValidationError,
    401: AuthError,
    402: PaymentRequiredError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    429: RateLimitError,
}

_HINTS = {
    401: "check the API key: the upstream does not know it",
    402: "the account's credit does not cover this call",
    403: "the API key is known, but its role does not allow this call",
}

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same call may succeed; the official SDK retries the same ones."""


def error_for(
    what: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    classes: Mapping[int, type[ApiError]] | None = None,
    hide: str | None = None,
) -> ApiError | None:
    """Makes the error for a response; None for a success.

    Args:
        what: the call in words, for the message ("get model 'x'").
        headers: names in lower case.
        now: used for a `Retry-After` that is a date.
        classes: error classes by status, where they differ from the usual ones for this call.
        hide: a secret to mask in the message, in case the upstream quotes it.
    """
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return ProtocolError(
            f"{what}: the upstream answered with a redirect (HTTP {status}), which is never followed",
            hint="check upstream.base_url",
            status=status,
        )
    reason = message_of(body, [hide] if hide else ()) or "no reason given"
    kind = (classes or {}).get(status) or _CLASSES.get(status) or (ServerError if status >= 500 else ApiError)
    return kind(
        f"{what}: {reason} (HTTP {status})",
        hint=None if looks_like_html(body) else _HINTS.get(status),
        status=status,
        request_id=headers.get("x-request-id"),
        retry_after=retry_after(headers.get("retry-after"), now, headers.get("date")),
    )


def message_of(body: bytes, secrets: Collection[str] = ()) -> str | None:
    """The upstream's own error message in one line of limited length, with the secrets masked; None when it has none.

    Looks at the fields in the order in which the upstream's SDK does.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        if said := xml_reason(body, secrets):
            return said
        return "it answered with a page, not with JSON" if looks_like_html(body) else None
    if not isinstance(document, dict):
        return None
    for candidate in _candidates(document):
        if isinstance(candidate, str) and candidate.strip():
            return one_line(candidate, secrets)
    return _field_errors(document.get("detail"), secrets)


def xml_reason(body: bytes, secrets: Collection[str] = ()) -> str | None:
    """Code and message of an XML error of S3, Google's or Azure's storage, in one line; None when there is none.

    Searches instead of parsing, because the body may be cut and is not trusted.
    """
    found = {
        tag.lower(): one_line(html.unescape(text.decode("utf-8", "replace")), secrets)
        for tag, text in _XML.findall(body)
    }
    return ": ".join(found[tag] for tag in (b"code", b"message") if found.get(tag)) or None


def says_expired(reason: str) -> bool:
    """Whether storage's reason is that the signed address has expired. A fresh one then works, whatever the status."""
    return _EXPIRED.search(reason) is not None


def _candidates(document: dict[str, Any]) -> list[object]:
    error, detail = document.get("error"), document.get("detail")
    nested = error.get("message") if isinstance(error, dict) else error
    inner = [detail.get("message"), detail.get("detail")] if isinstance(detail, dict) else []
    return [nested, detail, document.get("message"), *inner]


def _field_errors(detail: object, secrets: Collection[str]) -> str | None:
    """FastAPI's list of field errors as one line: `query.limit: too large`."""
    if not isinstance(detail, list):
        return None
    parts = [
        f"{'.'.join(str(step) for step in entry.get('loc') or ())}: {entry.get('msg')}"
        for entry in detail
        if isinstance(entry, dict)
    ]
    return one_line("; ".join(parts), secrets) or None


def retry_after(value: str | None, now: datetime, date: str | None = None) -> float | None:
    """Seconds to wait, from a `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3); None when unreadable.

    Args:
        now: used when the response has no `Date`.
        date: the response's `Date`. It comes from the same clock as a date in `Retry-After`; ours may differ.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    moment = _moment(text)
    return None if moment is None else max(0.0, (moment - (_moment(date or "") or now)).total_seconds())


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if moment.tzinfo is None else moment


def looks_like_html(head: bytes) -> bool:
    """Whether a body begins like a web page, such as a sign-in page or a proxy's error sent with a success status."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    return start.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--", b"<script"))


def one_line(text: str, secrets: Collection[str] = ()) -> str:
    """Makes foreign text safe to print: masks secrets, removes control characters, limits the length."""
    for secret in secrets:  # before cutting the text, which could leave the beginning of a secret
        text = text.replace(secret, "****")
    flat = _CONTROL.sub(" ", text).strip()
    return flat if len(flat) <= _MESSAGE_LIMIT else flat[: _MESSAGE_LIMIT - 1] + "…"


class Counter:
    """A number that several threads raise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self) -> None:
        """Adds one."""
        with self._lock:
            self.value += 1


class TooMuchError(Exception):
    """A response is larger than its limit."""


def first_bytes(pieces: Iterable[bytes], limit: int, *, whole: bool) -> bytes:
    """Joins the pieces, up to `limit` bytes, and reads no further.

    Raises:
        TooMuchError: `whole` is set, and there are more than `limit` bytes.
    """
    taken, size = [], 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > limit:
            if whole:
                raise TooMuchError(f"it is larger than {format_size(limit)}")
            break
    return b"".join(taken)[:limit]


def network_error(what: str, url: str, error: Exception) -> NetworkError:
    """Makes our error from one of httpx's. It names only the host, because a signed address must not reach a log."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    if isinstance(error, httpx.TimeoutException):
        return RequestTimeoutError(f"{what}: no answer from {host} in time")
    reason = one_line(str(error)) or type(error).__name__
    if reason == "Receive buffer too long":  # h11's message does not say whose headers are too long
        reason = "the headers of its answer are longer than 100 KiB"
    if isinstance(error, httpx.ConnectError):
        return NetworkError(f"{what}: cannot reach {host}: {reason}", hint="check the network and upstream.base_url")
    return NetworkError(f"{what}: the connection to {host} failed: {reason}")
