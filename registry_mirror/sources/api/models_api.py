"""The calls of the remote models API, with one method each, and the API as a `Source`."""

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


# For a model that is not ready, the API's documentation says 409 and the official SDK's fixtures say 400.
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
        """Yields the listing page by page, and returns its summary.

        Args:
            page_size: rows to ask for at a time.
            status, model_type, name: filters; None for no filter.
            texts: called for each page; returns the rows to recognise, as `decode_page` takes them.
        """
        filters = {"name": name, "status": status, "model_type": model_type}
        given = {key: value for key, value in filters.items() if value is not None}

        def page(limit: int, offset: int) -> ListingPage:
            params = {"limit": limit, "offset": offset, **given}
            return decode_page(self._session.call("list models", "GET", "/models/", params), texts())

        return walk(page, page_size)

    def document(self, model_id: str) -> ListedModel:
        """Returns one model by its id.

        Raises:
            NotFoundError: there is no such model, or it belongs to another organisation.
        """
        what = f"get model {model_id!r}"
        return decode_document(what, self._session.call(what, "GET", f"/models/{quote_segment(model_id)}"))

    def find(self, model: str, page_size: int) -> ListedModel:
        """Returns one model by its id or name.

        The newest API accepts names in the place of ids. Older ones do not, and some names (`..`, an empty one) cannot
        be in a path at all. Then the listing is searched, and each row's name is compared here, because an upstream
        that ignores `?name=` would return the wrong model.

        Raises:
            NotFoundError: there is no such model.
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
        """Returns a fresh signed address of a model's weights.

        Raises:
            ConflictError: the model is not ready, or was never exported in this format.
            ProtocolError: the upstream gives an address that the mirror must not connect to.
        """
        what = f"download model {model_id!r}"
        path = f"/models/{quote_segment(model_id)}/download"
        body = self._session.call(what, "GET", path, {"format": weights_format}, _NOT_READY)
        return check_target(what, decode_download_url(what, body), self._session.base_url)

    def delete(self, model_id: str) -> None:
        """Soft-deletes a model that was just found. The body of the answer is ignored.

        "Not found" counts as success: the first answer was lost, and the call was retried after it had deleted the
        model.
        """
        with contextlib.suppress(NotFoundError):
            self._session.call(f"delete model {model_id!r}", "DELETE", f"/models/{quote_segment(model_id)}")


def quote_segment(text: str) -> str:
    """A name or id, quoted as a single path quote_segment."""
    return quote(text, safe="")


def addressable(model: str) -> bool:
    """Whether a name can be a path quote_segment: clients and proxies collapse `.` and `..`."""
    return model not in ("", ".", "..")


def is_uuid(text: str) -> bool:
    """Whether a text has the shape of the upstream's ids, 8-4-4-4-12."""
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(text)) == text.lower()
    return False


H = TypeVar("H")


class ApiSource:
    """The remote models API as a `Source`.

    Args:
        client: an open client, which `close` closes.
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
