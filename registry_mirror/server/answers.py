"""Bodies in the forms that every version of the official SDK reads. Pure.

Up to 1.60.0 it reads `models`, `model` and `download_url` at the top level, from 1.61.0 `data`; one body has both.
Errors stand in the envelope of later versions and in the string `detail` that earlier ones read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..model import json_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .requests import FieldError

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "precondition_failed",
    416: "range_not_satisfiable",
    421: "misdirected_request",
    422: "validation_error",
    431: "request_too_large",
    500: "internal_error",
    501: "not_implemented",
    503: "not_ready",
}


def page(documents: Sequence[str], *, limit: int, offset: int, total: int) -> bytes:
    """One page of a list; `documents` are JSON texts.

    `has_more` is a real boolean, because SDKs from 1.61.0 stop at nothing else.
    """
    listed = _utf8(",".join(documents))
    more = offset + len(documents) < total
    pagination = _body({"limit": limit, "offset": offset, "total": total, "has_more": more})
    return b'{"success":true,"models":[%b],"data":[%b],"pagination":%b}' % (listed, listed, pagination)


def record(document: str) -> bytes:
    """One model; `document` is its JSON text."""
    return _utf8(f'{{"success":true,"model":{document},"data":{document}}}')


def both(values: Mapping[str, Any]) -> bytes:
    """An object at the top level and under `data`."""
    return _body({"success": True, **values, "data": values})


def data(values: Mapping[str, Any]) -> bytes:
    """An object under `data` alone, for calls that came after 1.61.0."""
    return _body({"success": True, "data": values})


def error(status: int, message: str, details: Mapping[str, Any] | None = None) -> bytes:
    """An error in words."""
    code = CODES.get(status, "error")
    return _body({"error": {"code": code, "message": message, "details": details}, "detail": message})


def refused(errors: Sequence[FieldError]) -> bytes:
    """422 with a list of what is wrong, where each generation of SDKs looks for it."""
    listed = [each.as_json() for each in errors]
    message = "; ".join(f"{each.name}: {each.message}" for each in errors)
    found = {"code": CODES[422], "message": message, "details": {"errors": listed}}
    return _body({"error": found, "detail": listed})


def _body(value: object) -> bytes:
    return json_bytes(value, separators=(",", ":"))


def _utf8(text: str) -> bytes:
    # Half a surrogate pair goes out as it came in: `\udXXX` means the same inside a JSON text.
    return text.encode("utf-8", "backslashreplace")
