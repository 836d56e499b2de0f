"""The OpenAPI description of the server, for tools and for the tests that generate requests from it."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ..index.search import State
from .errors import JSON
from .page.facts import LARGEST_PAGE, LONGEST_TEXT
from .requests import API_PREFIX, LARGEST_LIMIT, LARGEST_OFFSET, LONGEST_SEGMENT, STATUSES, TYPES

if TYPE_CHECKING:
    from starlette.requests import Request

_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}
_MODEL = {"name": "model", "in": "path", "required": True, "schema": _TEXT, "description": "An id or a name."}


async def openapi(_request: Request) -> Response:
    """Answers the description. It needs no key, because it says nothing about the mirrored models."""
    return Response(_written(), headers={"Cache-Control": "no-store"}, media_type=JSON)


@functools.cache
def _written() -> str:
    """Returns the description as text. It is made once, since anybody may ask for it."""
    return json.dumps(description(), indent=1)


def description() -> dict[str, Any]:
    """Returns the description in OpenAPI 3.1."""
    from .. import __version__

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "registry-mirror",
            "version": __version__,
            "description": "The models API of the upstream registry, read-only, from a local mirror.",
        },
        "security": [{"key": []}, {}],
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
            "schemas": {"Error": _error_schema()},
        },
        "paths": {**_models(), **_blobs(), **_watching()},
    }


def _models() -> dict[str, Any]:
    one = f"{API_PREFIX}/{{model}}"
    return {
        f"{API_PREFIX}/": {"get": _call("List models, newest first.", _list_parameters(), _page_schema(), 422)},
        one: {"get": _call("One model.", [_MODEL], _envelope("model"), 404)},
        f"{one}/download": {
            "get": _call("An address of a model's weights.", _download_parameters(), _OBJECT, 404, 409)
        },
        f"{one}/versions": {"get": _call("Its one version.", [_MODEL], _envelope(), 404)},
        f"{one}/files": {"get": _call("Its cached files.", [_MODEL], _envelope(), 404)},
        f"{one}/files/download": {"get": _call("An address of one file.", _file_parameters(), _OBJECT, 404, 409)},
        f"{API_PREFIX}/by-name/{{model}}": {"get": _call("One model by its name.", [_MODEL], _envelope("model"), 404)},
    }


def _blobs() -> dict[str, Any]:
    name = {"name": "file", "in": "path", "required": True, "schema": _TEXT, "description": "MD5 and suffix."}
    range_header = {"name": "Range", "in": "header", "required": False, "schema": _TEXT}
    body: dict[str, Any] = {"content": {"application/octet-stream": {}}}
    answers = {
        "200": {"description": "The weights.", **body},
        "206": {"description": "A part of them.", **body},
        "304": {"description": "They have not changed: their ETag is their MD5."},
        **_errors(401, 403, 404, 409, 412, 416, 422, 503),
    }
    call = {"summary": "Weights.", "parameters": [name, range_header], "responses": answers}
    return {"/blobs/{file}": {"get": call}}


def _watching() -> dict[str, Any]:
    plain, refused = {"200": {"description": "The answer."}}, _errors(400, 401, 422, 503)
    view = [
        _query("q", {"type": "string", "maxLength": LONGEST_TEXT}),
        _query("status", {"type": "string", "enum": [str(state) for state in State]}),
        _query("page", {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": 1}),
    ]
    return {
        "/healthz": {"get": {"summary": "Whether the process answers.", "responses": plain}},
        "/readyz": {"get": {"summary": "Whether an index can be read.", "responses": {**plain, **_errors(503)}}},
        "/metrics": {"get": {"summary": "Numbers for Prometheus.", "responses": {**plain, **_errors(401, 503)}}},
        "/": {"get": {"summary": "The status page.", "parameters": view, "responses": {**plain, **refused}}},
    }


def _call(summary: str, parameters: list[dict[str, Any]], schema: dict[str, Any], *errors: int) -> dict[str, Any]:
    good = {"200": {"description": "The answer.", "content": {JSON: {"schema": schema}}}}
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": {**good, **_errors(*sorted({400, 401, 422, *errors}), 503)},
    }


def _errors(*statuses: int) -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": "An error in words.", "content": content} for status in statuses}


def _list_parameters() -> list[dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = {
        "limit": {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": 50},
        "offset": {"type": "integer", "minimum": 0, "maximum": LARGEST_OFFSET, "default": 0},
        "name": {"type": "string", "maxLength": LONGEST_SEGMENT},
        "status": {"type": "string", "enum": list(STATUSES)},
        "model_type": {"type": "string", "enum": list(TYPES)},
    }
    return [_query(name, schema) for name, schema in schemas.items()]


def _download_parameters() -> list[dict[str, Any]]:
    return [_MODEL, *(_query(name, _TEXT) for name in ("format", "precision", "target"))]


def _file_parameters() -> list[dict[str, Any]]:
    return [_MODEL, *({**_query(name, _TEXT), "required": True} for name in ("version_id", "name"))]


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _envelope(*top: str) -> dict[str, Any]:
    keys = ("data", *top)
    return {"type": "object", "required": list(keys), "properties": dict.fromkeys(keys, _OBJECT)}


def _page_schema() -> dict[str, Any]:
    rows = {"type": "array", "items": _OBJECT}
    whole = {"type": "integer"}
    more = {**dict.fromkeys(("limit", "offset", "total"), whole), "has_more": {"type": "boolean"}}
    pagination = {"type": "object", "required": list(more), "properties": more}
    return {
        "type": "object",
        "required": ["models", "data", "pagination"],
        "properties": {"models": rows, "data": rows, "pagination": pagination},
    }


def _error_schema() -> dict[str, Any]:
    inner = {"type": "object", "required": ["code", "message"], "properties": {"code": _TEXT, "message": _TEXT}}
    return {
        "type": "object",
        "required": ["error", "detail"],
        "properties": {"error": inner, "detail": {"type": ["string", "array"]}},
    }
