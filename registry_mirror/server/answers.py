"""Response bodies in a form that every version of the official SDK reads. Pure.

Versions up to 1.60.0 read `models`, `model` and `download_url` at the top level; versions from 1.61.0 read `data`. One
body has both. An error has the envelope that later versions read and the string `detail` that earlier ones read.
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
    502: "bad_gateway",
    503: "not_ready",
    507: "insufficient_storage",
}


def page(documents: Sequence[str], *, limit: int, offset: int, total: int) -> bytes:
    """Returns one page of a list. `documents` are JSON texts.

    `has_more` is a real boolean, because SDKs from 1.61.0 go on until they see `false`.
    """
    listed = _utf8(",".join(documents))
    more = offset + len(documents) < total
    pagination = _body({"limit": limit, "offset": offset, "total": total, "has_more": more})
    return b'{"success":true,"models":[%b],"data":[%b],"pagination":%b}' % (listed, listed, pagination)


def record(document: str) -> bytes:
    """Returns the body for one model. `document` is its JSON text."""
    return _utf8(f'{{"success":true,"model":{document},"data":{document}}}')


def both(values: Mapping[str, Any]) -> bytes:
    """Returns a body with the values at the top level and under `data`."""
    return _body({"success": True, **values, "data": values})


def data(values: Mapping[str, Any]) -> bytes:
    """Returns a body with the values under `data` only, for calls that SDKs make since 1.61.0."""
    return _body({"success": True, "data": values})


def error(status: int, message: str, details: Mapping[str, Any] | None = None) -> bytes:
    """Returns the body of an error."""
    code = CODES.get(status, "error")
    return _body({"error": {"code": code, "message": message, "details": details}, "detail": message})


def refused(errors: Sequence[FieldError]) -> bytes:
    """Returns the body of a 422: the list of errors, in both places where SDKs look for it."""
    listed = [each.as_json() for each in errors]
    message = "; ".join(f"{each.name}: {each.message}" for each in errors)
    found = {"code": CODES[422], "message": message, "details": {"errors": listed}}
    return _body({"error": found, "detail": listed})


def _body(value: object) -> bytes:
    return json_bytes(value, separators=(",", ":"))


def _utf8(text: str) -> bytes:
    # Half a surrogate pair is sent as it came: the escape `\udXXX` means the same in a JSON text.
    return text.encode("utf-8", "backslashreplace")
