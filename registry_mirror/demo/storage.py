"""The storage origin: gives out weights by signed URL, with the digests that object stores put into their headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .messages import Request, Response

if TYPE_CHECKING:
    from .state import DemoState
    from .weights import DemoWeights

_XML = (("Content-Type", "application/xml; charset=UTF-8"),)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def answer(state: DemoState, request: Request) -> Response:
    """Answers with a whole object or a range. The signed URL alone gives access; no API key is needed."""
    if request.method not in {"GET", "HEAD"}:
        return _error(405, "MethodNotAllowed").with_headers({"Allow": "GET, HEAD"})
    weights = state.granted(request.query.get("token", ""), request.path)
    if weights is None:
        return _error(403, "AccessDenied")
    return _bytes(weights, request)


def _bytes(weights: DemoWeights, request: Request) -> Response:
    headers = {
        "Content-Type": "application/octet-stream",
        "ETag": f'"{weights.md5_hex}"',
        "x-goog-hash": f"md5={weights.md5_base64}",
        "Accept-Ranges": "bytes",
    }
    span = byte_range(_range_header(weights, request), weights.size)
    if span is None:
        return weights.response(200, {**headers, "Content-MD5": weights.md5_base64}, 0, weights.size)
    start, stop = span
    if start >= stop:
        return _error(416, "InvalidRange").with_headers({"Content-Range": f"bytes */{weights.size}"})
    # Content-MD5 is the digest of the body it comes with, so a range of the object has none.
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{weights.size}"
    return weights.response(206, headers, start, stop)


def _range_header(weights: DemoWeights, request: Request) -> str:
    condition = request.headers.get("if-range")
    if condition is not None and condition != f'"{weights.md5_hex}"':
        return ""
    return request.headers.get("range", "")


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The start and end (exclusive) of the bytes that a `Range` header asks for (RFC 9110, 14.1.2).

    None if the whole object should be sent, as for a header with several ranges. The range is empty, or ends before it
    starts, if the object has no such bytes.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1 if last else size, size)


def _error(status: int, code: str) -> Response:
    return Response(status, _XML, f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>".encode())
