"""The calls of the remote models API, one method each, and the API as a source."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from ...errors import ConflictError, NotFoundError, ValidationError
from ...transfer.target import check_target
from ..source import ListedModel
from .decode import decode_document, decode_download_url, decode_page
from .paging import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from ...transfer.declared import Declared
    from ...transfer.download import Received
    from ...transfer.partial_body import Beginning, S
    from ..source import ListingPage, ListingSummary
    from .client import Client
    from .session import ApiSession


# The page of the models resource says 409 for a model that is not ready, the official SDK's fixtures say 400.
_NOT_READY = {400: ConflictError, 409: ConflictError}
_MAY_BE_NO_NAME = (400, 404, 422)


class ModelsApi:
    """The `models` resource over one session. Every method raises what `ApiSession.call` raises."""

    def __init__(self, session: ApiSession) -> None:
        self._session = session

    def pages(
        self,
        page_size: int,
        *,
        status: str | None = None,
        model_type: str | None = None,
        name: str | None = None,
        texts: Callable[[], Mapping[bytes, str]] = dict,
    ) -> Generator[ListingPage, None, ListingSummary]:
        """The listing, page by page, and what came in all.

        Args:
            texts: asked before each page for the rows that are to be recognised, as `decode_page` takes them.
        """
        filters = {"name": name, "status": status, "model_type": model_type}
        given = {key: value for key, value in filters.items() if value is not None}

        def page(limit: int, offset: int) -> ListingPage:
            params = {"limit": limit, "offset": offset, **given}
            return decode_page(self._session.call("list models", "GET", "/models/", params), texts())

        return walk(page, page_size)

    def document(self, model_id: str) -> ListedModel:
        """One model by its id.

        Raises:
            NotFoundError: there is none, or it belongs to another organisation.
        """
        what = f"get model {model_id!r}"
        return decode_document(what, self._session.call(what, "GET", f"/models/{segment(model_id)}"))

    def find(self, model: str, page_size: int) -> ListedModel:
        """One model by id or by name.

        The newest API takes names in the place of ids. Older ones do not, and some names (`..`, an empty one) cannot
        stand in a path at all: then the listing is searched, and each row's name compared here, because one that
        ignores `?name=` hands out the wrong model.
        """
        if addressable(model):
            try:
                return self.document(model)
            except (NotFoundError, ValidationError) as error:
                if error.status not in _MAY_BE_NO_NAME or is_uuid(model):
                    raise
        for page in self.pages(page_size, name=model):
            for row in page.rows:
                if isinstance(row, ListedModel) and model in (row.name, row.id):
                    return row
        raise NotFoundError(
            f"no model has the name or id {model!r}",
            hint="names are case-sensitive; `mirror list` shows those mirrored",
            status=404,
        )

    def download_url(self, model_id: str, weights_format: str) -> str:
        """A fresh signed address of a model's weights.

        Raises:
            ConflictError: the model is not ready, or was never exported in this format.
            ProtocolError: the upstream gives an address that must not be dialled.
        """
        what = f"download model {model_id!r}"
        path = f"/models/{segment(model_id)}/download"
        body = self._session.call(what, "GET", path, {"format": weights_format}, _NOT_READY)
        return check_target(what, decode_download_url(what, body), self._session.base_url)

    def delete(self, model_id: str) -> None:
        """Soft-deletes a model that was just found; what the upstream answers beside success does not matter.

        Not found is a success as well: an answer got lost, and the call was repeated after it had done its work.
        """
        with contextlib.suppress(NotFoundError):
            self._session.call(f"delete model {model_id!r}", "DELETE", f"/models/{segment(model_id)}")


def segment(text: str) -> str:
    """A name or id as one path segment, with nothing left to split or decode twice."""
    return quote(text, safe="")


def addressable(model: str) -> bool:
    """Whether a name survives as a path segment: clients and proxies collapse `.` and `..`."""
    return model not in ("", ".", "..")


def is_uuid(text: str) -> bool:
    """Whether a text has the shape of the upstream's ids, 8-4-4-4-12."""
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(text)) == text.lower()
    return False


H = TypeVar("H")


class ApiSource:
    """See `Source`.

    Args:
        page_size: rows to ask for at a time, 1 to 500.
    """

    def __init__(self, client: Client, page_size: int) -> None:
        self._client, self._api, self._page_size = client, client.models.api, page_size

    @property
    def address(self) -> str:
        return self._client.session.base_url

    @property
    def chain(self) -> tuple[str, ...]:
        return self._client.session.chain

    @property
    def requests(self) -> tuple[int, int]:
        return self._client.session.requests.value, self._client.storage.requests.value

    def pages(
        self, *, status: str | None = None, texts: Callable[[], Mapping[bytes, str]] = dict
    ) -> Generator[ListingPage, None, ListingSummary]:
        return self._api.pages(self._page_size, status=status, texts=texts)

    def document(self, model_id: str) -> ListedModel:
        return self._api.document(model_id)

    def find(self, model: str) -> ListedModel:
        return self._api.find(model, self._page_size)

    def look(self, row: ListedModel, weights_format: str) -> Declared:
        return self._client.storage.look(_called(row), self._api.download_url(row.id, weights_format))

    def fetch(
        self,
        row: ListedModel,
        weights_format: str,
        sink: Callable[[Declared], S],
        held: Callable[[Declared], H | None],
        progress: Callable[[int, int | None], None],
        begun: Beginning[S] | None = None,
    ) -> Received[S] | H:
        return self._client.storage.fetch(
            _called(row), lambda: self._api.download_url(row.id, weights_format), sink, held, progress, begun
        )

    def abort(self) -> None:
        self._client.storage.abort()

    def close(self) -> None:
        self._client.close()


def _called(row: ListedModel) -> str:
    return f"model {row.name!r}"
