"""The upstream's calls, one method each: paths and parameters out, rows and addresses in."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..errors import ConflictError, NotFoundError, ValidationError
from .decode import Row, decode_document, decode_download_url, decode_page
from .paging import walk
from .target import check_target

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from .decode import Page
    from .paging import Reading
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
    ) -> Generator[Page, None, Reading]:
        """The listing, page by page, and what came in all.

        Args:
            texts: asked before each page for the rows that are to be recognised, as `decode_page` takes them.
        """
        filters = {"name": name, "status": status, "model_type": model_type}
        given = {key: value for key, value in filters.items() if value is not None}

        def page(limit: int, offset: int) -> Page:
            params = {"limit": limit, "offset": offset, **given}
            return decode_page(self._session.call("list models", "GET", "/models/", params), texts())

        return walk(page, page_size)

    def document(self, model_id: str) -> Row:
        """One model by its id.

        Raises:
            NotFoundError: there is none, or it belongs to another organisation.
        """
        what = f"get model {model_id!r}"
        return decode_document(what, self._session.call(what, "GET", f"/models/{segment(model_id)}"))

    def find(self, model: str, page_size: int) -> Row:
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
                if isinstance(row, Row) and model in (row.name, row.id):
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
