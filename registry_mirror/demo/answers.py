"""Makes the responses of the models API: envelopes, pages and errors, in the form that the official clients read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from .messages import Response

if TYPE_CHECKING:
    from collections.abc import Sequence

Envelope = Literal["both", "models", "data"]

_JSON = (("Content-Type", "application/json"),)
_CODES = {400: "validation_error", 401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 409: "conflict"}


def page(rows: Sequence[str], envelope: Envelope, pagination: dict[str, Any] | None) -> Response:
    """A page of encoded rows. Clients up to 1.60 read the key `models`, later ones read `data`."""
    listed = f"[{', '.join(rows)}]"
    parts = ['"success": true']
    parts += [f'"{key}": {listed}' for key, of in (("models", "models"), ("data", "data")) if envelope in {of, "both"}]
    if pagination is not None:
        parts.append(f'"pagination": {json.dumps(pagination)}')
    return Response(200, _JSON, f"{{{', '.join(parts)}}}".encode())


def record(row: str, envelope: Envelope) -> Response:
    """A single encoded row in its envelope."""
    keys = {"both": ("model", "data"), "models": ("model",), "data": ("data",)}[envelope]
    parts = ['"success": true', *(f'"{key}": {row}' for key in keys)]
    return Response(200, _JSON, f"{{{', '.join(parts)}}}".encode())


def fields(values: dict[str, Any], envelope: Envelope) -> Response:
    """The keys of an object: at the top level for clients up to 1.60, under `data` for later ones."""
    body: dict[str, Any] = {"success": True}
    if envelope != "data":
        body |= values
    if envelope != "models":
        body["data"] = values
    return Response(200, _JSON, json.dumps(body).encode())


def error(status: int, message: str) -> Response:
    """An error in both forms: the envelope that later clients read, and the `detail` that earlier ones read."""
    body = {"error": {"code": _CODES.get(status, "error"), "message": message, "details": None}, "detail": message}
    return Response(status, _JSON, json.dumps(body).encode())


def refused_argument(name: str, message: str) -> Response:
    """A 422 for one query parameter, with the list of errors in both places where clients look for it."""
    errors = [{"loc": ["query", name], "msg": message, "type": "value_error"}]
    details = {"code": "validation_error", "message": f"{name}: {message}", "details": {"errors": errors}}
    return Response(422, _JSON, json.dumps({"error": details, "detail": errors}).encode())
