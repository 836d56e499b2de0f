"""The models API: makes a response for each request."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from . import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from .answers import Envelope
    from .library import DemoModel
    from .messages import Request, Response
    from .state import DemoState

PREFIX = ("api", "v1", "developer", "models")
FILTERS = ("name", "status", "model_type", "dataset_name")
# Some SDKs ask for exactly this name, whatever the file is called.
SAFETENSORS_ALIAS = "model.safetensors"


@dataclass(frozen=True)
class Behaviour:
    """The points in which deployments and versions of the real API differ; see `DemoUpstream`."""

    page_cap: int
    envelope: Envelope
    pagination: bool
    list_rows: Literal["full", "bare"]
    by_name: bool
    not_ready_status: Literal[400, 409]
    hard_delete: bool
    url_ttl: float


class Api:
    """Answers requests from the state, and has no state of its own."""

    def __init__(self, state: DemoState, behaviour: Behaviour, api_key: str, storage_url: Callable[[], str]) -> None:
        self._state = state
        self._behaviour = behaviour
        self._key = api_key.encode()
        self._storage_url = storage_url

    def answer(self, request: Request) -> Response:
        """Answers one request. Checks the API key first."""
        if not hmac.compare_digest(request.headers.get("x-api-key", "").encode(), self._key):
            return answers.error(401, "Invalid or missing API key.")
        segments = request.segments
        if segments[: len(PREFIX)] != PREFIX:
            return answers.error(404, "Not Found")
        return self._route(request, segments[len(PREFIX) :])

    def _route(self, request: Request, rest: tuple[str, ...]) -> Response:
        if not rest:
            return answers.error(307, "Temporary Redirect").with_headers({"Location": f"/{'/'.join(PREFIX)}/"})
        if rest == ("",):
            return self._only(request, ("GET",)) or self._list(request.query)
        if self._behaviour.by_name and rest[0] == "by-name" and len(rest) > 1:
            rest = rest[1:]
        key, action = rest[0], rest[1:]
        if action == () and request.method == "DELETE":
            return self._with_model(key, self._delete)
        if action == ():
            return self._only(request, ("GET", "HEAD", "DELETE")) or self._with_model(key, self._get)
        call = {
            ("download",): self._download,
            ("versions",): self._versions,
            ("files",): self._files,
            ("files", "download"): self._download_file,
        }.get(action)
        if call is None:
            return answers.error(404, "Not Found")
        return self._only(request, ("GET", "HEAD")) or self._with_model(key, lambda model: call(model, request.query))

    def _only(self, request: Request, methods: tuple[str, ...]) -> Response | None:
        if request.method in methods or (request.method == "HEAD" and "GET" in methods):
            return None
        return answers.error(405, "Method Not Allowed").with_headers({"Allow": ", ".join(methods)})

    def _with_model(self, key: str, call: Callable[[DemoModel], Response]) -> Response:
        model = self._state.find(key)
        return answers.error(404, f"No model named '{key}'.") if model is None else call(model)

    def _list(self, query: dict[str, str]) -> Response:
        limit, offset = _number(query.get("limit", "50")), _number(query.get("offset", "0"))
        if not 1 <= limit <= self._behaviour.page_cap:
            return answers.refused_argument("limit", f"must be from 1 to {self._behaviour.page_cap}")
        if offset < 0:
            return answers.refused_argument("offset", "must be 0 or more")
        models = self._state.listing(**{name: query[name] for name in FILTERS if name in query})
        chosen = models[offset : offset + limit]
        rows = [model.json if self._behaviour.list_rows == "full" else model.bare_json for model in chosen]
        more = offset + len(chosen) < len(models)
        pagination = {"limit": limit, "offset": offset, "total": len(models), "has_more": more}
        return answers.page(rows, self._behaviour.envelope, pagination if self._behaviour.pagination else None)

    def _get(self, model: DemoModel) -> Response:
        return answers.record(model.json, self._behaviour.envelope)

    def _delete(self, model: DemoModel) -> Response:
        if self._behaviour.hard_delete:
            self._state.remove(model.id)
        else:
            self._state.change(model.id, {"status": "archived"})
        return answers.fields({"id": model.id, "name": model.name, "deleted": True}, self._behaviour.envelope)

    def _download(self, model: DemoModel, query: dict[str, str]) -> Response:
        wanted = query.get("format", "onnx")
        if model.status != "ready":
            return answers.error(
                self._behaviour.not_ready_status, f"Model is not ready for download (status: {model.status})."
            )
        if not model.weights:
            return answers.error(404, "The weights of this model are not in storage.")
        if wanted not in model.weights:
            return answers.error(409, f"This model has no {wanted} export.")
        precision = model.document.get("precision", "fp32")
        if query.get("precision", precision) != precision:
            return answers.error(409, f"This model has no {wanted} export in {query['precision']}.")
        return self._signed(model, wanted)

    def _signed(self, model: DemoModel, wanted: str) -> Response:
        url = self._storage_url() + self._state.sign(model, wanted, self._behaviour.url_ttl)
        values = {"download_url": url, "model_name": model.name, "filename": model.filename(wanted)}
        return answers.fields(values, self._behaviour.envelope)

    def _versions(self, model: DemoModel, _query: dict[str, str]) -> Response:
        pins = {"current_version_id": model.id, "pinned_version_id": None, "latest_version_id": model.id}
        return answers.fields({"versions": [_version(model)], **pins}, self._behaviour.envelope)

    def _files(self, model: DemoModel, _query: dict[str, str]) -> Response:
        rows = [_file(model, wanted) for wanted in model.weights]
        values = {"versions": [_version(model)], "files": rows, "pinned_version_id": None}
        return answers.fields(values, self._behaviour.envelope)

    def _download_file(self, model: DemoModel, query: dict[str, str]) -> Response:
        name = query.get("name", "")
        if query.get("version_id") != model.id:
            return answers.error(404, "This model has no such version.")
        for wanted in model.weights:
            if name == model.filename(wanted) or (name, wanted) == (SAFETENSORS_ALIAS, "safetensors"):
                return self._signed(model, wanted)
        return answers.error(404, f"This version has no file '{name}'.")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _version(model: DemoModel) -> dict[str, Any]:
    """The single version that the real API invents for a model without versions. Its id is the model's id."""
    document = model.document
    return {
        "id": model.id,
        "version_id": model.id,
        "version_number": 1,
        "version_label": document.get("version", "1.0.0"),
        "status": model.status,
        "is_latest": True,
        "is_current": True,
        "precision": document.get("precision", "fp32"),
        "architecture": document.get("architecture"),
        "metrics": document.get("metrics") or {},
        "created_at": document.get("created_at"),
    }


def _file(model: DemoModel, wanted: str) -> dict[str, Any]:
    return {
        "version_id": model.id,
        "name": model.filename(wanted),
        "kind": "weights",
        "format": wanted,
        "size_bytes": model.weights[wanted].size,
        "content_type": "application/octet-stream",
        "precision": model.document.get("precision", "fp32"),
        "stale": False,
        "updated_at": model.document.get("updated_at"),
    }
