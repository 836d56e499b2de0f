"""The upstream in a box: two origins on loopback, and a state that may change while they serve."""

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

    Everything that speaks the upstream's protocol works against `base_url` with `api_key`. Subclasses may wrap `api`
    and `storage`; a `ConnectionError` raised there, or by a body's iterator, ends the connection without a word.

    Args:
        models: what it holds at first; their documents are answered as they stand.
        api_key: the one key that it knows.
        organization_id: given to added models whose document names none.
        page_cap: the largest `limit`; more is a 422.
        envelope: `models` as clients up to 1.60 read it, `data` as later ones do, or both in one body.
        pagination: whether a list says if there is more.
        list_rows: `bare` leaves metrics and class mapping to the answer for one model.
        by_name: whether `/models/by-name/{name}` exists, as it once did.
        not_ready_status: what the download of a model that is not ready answers.
        hard_delete: whether DELETE removes the model instead of archiving it.
        url_ttl: seconds that a signed URL is good for.
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
        """Begins to serve. After a `stop` it comes back with its state, on the ports that it had."""
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
        """Closes both origins and every connection to them: a client that calls now is refused."""
        self.disconnect()
        servers, self._servers = self._servers, None
        for server in servers or ():
            server.wait_closed()

    def disconnect(self) -> None:
        """The first half of a stop: closes everything, and does not wait for answers that are being written."""
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
        """What a client takes as its base URL."""
        return f"http://{HOST}:{self._ports[0]}"

    @property
    def storage_url(self) -> str:
        """Scheme, host and port of the signed URLs."""
        return f"http://{HOST}:{self._ports[1]}"

    @property
    def models(self) -> tuple[DemoModel, ...]:
        """What it holds at the moment, archived models included."""
        return self._state.models()

    def api(self, request: Request) -> Response:
        """Answers one request to the models API."""
        return self._api.answer(request).with_headers({"X-Request-Id": uuid.uuid4().hex})

    def storage(self, request: Request) -> Response:
        """Answers one request to the storage."""
        return storage.answer(self._state, request)

    def add(self, model: DemoModel) -> DemoModel:
        """Adds a model, or replaces the one of the same id."""
        if "organization_id" not in model.document:
            model = DemoModel({**model.document, "organization_id": self.organization_id}, model.weights)
        self._state.put(model)
        return model

    def update(self, model_id: str, **fields: Any) -> DemoModel:
        """Changes fields of a model's document; `updated_at` moves on unless it is given.

        Raises:
            KeyError: there is no model of that id. The same holds for the methods below.
        """
        return self._state.change(model_id, fields)

    def set_status(self, model_id: str, status: str) -> DemoModel:
        """Moves a model on in its life."""
        return self.update(model_id, status=status)

    def archive(self, model_id: str) -> DemoModel:
        """Soft-deletes a model, as the platform's own page does."""
        return self.set_status(model_id, "archived")

    def remove(self, model_id: str) -> None:
        """Removes a model for good: from now on it is a 404."""
        self._state.remove(model_id)

    def replace_weights(
        self, model_id: str, data: bytes | Path | SyntheticBytes, *, wire_format: str = "onnx", **fields: Any
    ) -> DemoModel:
        """Gives a model other bytes, as a retraining does, and changes `fields` of its document with them.

        URLs that were signed before give the bytes of before.
        """
        return self._state.change(model_id, fields, {wire_format: DemoWeights(data)})
