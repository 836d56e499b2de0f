"""The demo upstream: two origins on loopback, and a state that may be changed while they serve."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal, Self

from . import storage
from .api import Api, Behaviour
from .library import ORGANIZATION_ID, DemoModel
from .messages import Request, RequestLog, Response
from .server import HOST, OriginServer
from .state import DemoState
from .weights import DemoWeights, SyntheticBytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from .answers import Envelope


class DemoUpstream:
    """A remote registry on 127.0.0.1: the models API on one port, the storage of the weights on another.

    Clients of the upstream's API work against `base_url` with `api_key`. Subclasses may wrap `api` and `storage`. A
    `ConnectionError` raised there, or by a body's iterator, closes the connection without a response.

    Args:
        models: its first models.
        api_key: the only key that it accepts.
        organization_id: for added models whose document has none.
        page_cap: the largest `limit`; a larger one is answered with 422.
        envelope: the key for the data: `models` for clients up to 1.60, `data` for later ones, or both in one body.
        pagination: whether a listing says if there are more rows.
        list_rows: `bare` leaves metrics and class mapping out of the listing.
        by_name: whether `/models/by-name/{name}` exists, as in an older API.
        not_ready_status: the status for the download of a model that is not ready.
        hard_delete: whether DELETE removes the model instead of archiving it.
        url_ttl: seconds for which a signed URL is valid.
    """

    def __init__(
        self,
        models: Iterable[DemoModel] = (),
        *,
        api_key: str = "pk_live_demo",
        organization_id: str = ORGANIZATION_ID,
        page_cap: int = 100,
        envelope: Envelope = "both",
        pagination: bool = True,
        list_rows: Literal["full", "bare"] = "full",
        by_name: bool = False,
        not_ready_status: Literal[400, 409] = 400,
        hard_delete: bool = False,
        url_ttl: float = 3600.0,
    ) -> None:
        self.api_key = api_key
        self.organization_id = organization_id
        self.page_cap = page_cap
        self.requests = RequestLog()
        self._state = DemoState(())
        behaviour = Behaviour(
            page_cap, envelope, pagination, list_rows, by_name, not_ready_status, hard_delete, url_ttl
        )
        self._api = Api(self._state, behaviour, api_key, lambda: self.storage_url)
        self._servers: tuple[OriginServer, OriginServer] | None = None
        self._ports = (0, 0)
        for model in models:
            self.add(model)

    def start(self) -> Self:
        """Starts serving. After a `stop`, it serves the same state on the same ports again."""
        if self._servers is None:
            api = OriginServer("api", self.api, self.requests, self._ports[0])
            try:
                objects = OriginServer("storage", self.storage, self.requests, self._ports[1])
            except OSError:
                api.server_close()
                raise
            self._servers = api, objects
            self._ports = api.port, objects.port
            for server in self._servers:
                server.start()
        return self

    def stop(self) -> None:
        """Closes both origins and all connections, and waits for their threads. New connections are refused."""
        self.disconnect()
        servers, self._servers = self._servers, None
        for server in servers or ():
            server.wait_closed()

    def disconnect(self) -> None:
        """Closes both origins and all connections, without waiting for responses that are being written."""
        for server in self._servers or ():
            server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"http://{HOST}:{self._ports[0]}"

    @property
    def storage_url(self) -> str:
        """Scheme, host and port of the signed URLs."""
        return f"http://{HOST}:{self._ports[1]}"

    @property
    def models(self) -> tuple[DemoModel, ...]:
        """The present models, including archived ones."""
        return self._state.models()

    def api(self, request: Request) -> Response:
        """Answers one request to the models API."""
        return self._api.answer(request).with_headers({"X-Request-Id": uuid.uuid4().hex})

    def storage(self, request: Request) -> Response:
        """Answers one request to the storage."""
        return storage.answer(self._state, request)

    def add(self, model: DemoModel) -> DemoModel:
        """Adds a model, or replaces the one with the same id."""
        if "organization_id" not in model.document:
            model = DemoModel({**model.document, "organization_id": self.organization_id}, model.weights)
        self._state.put(model)
        return model

    def update(self, model_id: str, **fields: Any) -> DemoModel:
        """Changes fields of a model's document. `updated_at` becomes a later time, unless it is given.

        Raises:
            KeyError: there is no model with this id. The methods below raise it too.
        """
        return self._state.change(model_id, fields)

    def set_status(self, model_id: str, status: str) -> DemoModel:
        """Sets a model's status."""
        return self.update(model_id, status=status)

    def archive(self, model_id: str) -> DemoModel:
        """Soft-deletes a model, as the platform's own page does."""
        return self.set_status(model_id, "archived")

    def remove(self, model_id: str) -> None:
        """Removes a model for good. It is answered with 404 from now on."""
        self._state.remove(model_id)

    def replace_weights(
        self, model_id: str, data: bytes | Path | SyntheticBytes, *, wire_format: str = "onnx", **fields: Any
    ) -> DemoModel:
        """Replaces a model's weights, as a retraining does, and changes `fields` of its document at the same time.

        URLs that were signed before still give the old bytes.
        """
        return self._state.change(model_id, fields, {wire_format: DemoWeights(data)})
