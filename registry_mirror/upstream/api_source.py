"""The remote models API as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from .client import Client
    from .declared import Declared
    from .decode import Page, Row
    from .load import Begun, S
    from .paging import Reading
    from .transfer import Received

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
    ) -> Generator[Page, None, Reading]:
        return self._api.pages(self._page_size, status=status, texts=texts)

    def document(self, model_id: str) -> Row:
        return self._api.document(model_id)

    def find(self, model: str) -> Row:
        return self._api.find(model, self._page_size)

    def look(self, row: Row, weights_format: str) -> Declared:
        return self._client.storage.look(_called(row), self._api.download_url(row.id, weights_format))

    def fetch(
        self,
        row: Row,
        weights_format: str,
        sink: Callable[[Declared], S],
        held: Callable[[Declared], H | None],
        progress: Callable[[int, int | None], None],
        begun: Begun[S] | None = None,
    ) -> Received[S] | H:
        return self._client.storage.fetch(
            _called(row), lambda: self._api.download_url(row.id, weights_format), sink, held, progress, begun
        )

    def abort(self) -> None:
        self._client.storage.abort()

    def close(self) -> None:
        self._client.close()


def _called(row: Row) -> str:
    return f"model {row.name!r}"
