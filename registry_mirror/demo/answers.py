"""Bodies of the models API: envelopes, pages and errors, as the protocol's official clients read them."""

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
    """One page of encoded rows. `models` is what clients up to 1.60 read, `data` what later ones do."""
    listed = f"[{', '.join(rows)}]"
    parts = ['"success": true']
    parts += [f'"{key}": {listed}' for key, of in (("models", "models"), ("data", "data")) if envelope in {of, "both"}]
    if pagination is not None:
        parts.append(f'"pagination": {json.dumps(pagination)}')
    return Response(200, _JSON, f"{{{', '.join(parts)}}}".encode())


def record(row: str, envelope: Envelope) -> Response:
    """One encoded row."""
    keys = {"both": ("model", "data"), "models": ("model",), "data": ("data",)}[envelope]
    parts = ['"success": true', *(f'"{key}": {row}' for key in keys)]
    return Response(200, _JSON, f"{{{', '.join(parts)}}}".encode())


def fields(values: dict[str, Any], envelope: Envelope) -> Response:
    """Keys of one object: at the top level for clients up to 1.60, under `data` for later ones."""
    body: dict[str, Any] = {"success": True}
    if envelope != "data":
        body |= values
    if envelope != "models":
        body["data"] = values
    return Response(200, _JSON, json.dumps(body).encode())


def error(status: int, message: str) -> Response:
    """One error in both forms: the envelope of later versions, and the `detail` that earlier ones read."""
    body = {"error": {"code": _CODES.get(status, "error"), "message": message, "details": None}, "detail": message}
    return Response(status, _JSON, json.dumps(body).encode())


def refused_argument(name: str, message: str) -> Response:
    """422 for one query parameter, with the list of errors where either generation of clients looks for it."""
    errors = [{"loc": ["query", name], "msg": message, "type": "value_error"}]
    details = {"code": "validation_error", "message": f"{name}: {message}", "details": {"errors": errors}}
    return Response(422, _JSON, json.dumps({"error": details, "detail": errors}).encode())
