"""What a sync reads from: rows with their documents, weights by address, and whose they are.

The remote models API is the first source (`api`). An index with its blobs, in a folder, a bundle or a bucket, is the
same thing by other means, and gets the same sync: its record, shrink guard, retention, alert and publication.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from .declared import Declared
    from .decode import Page, Row
    from .load import Begun, S
    from .paging import Reading
    from .transfer import Received

H = TypeVar("H")


class Source(Protocol):
    """A registry of models, open for reading. Threads share it.

    Every method raises a MirrorError: ApiError and its kinds for what the source refuses, NetworkError when it cannot
    be reached, ListingError for a listing that cannot be believed.
    """

    @property
    def address(self) -> str:
        """Where it is, without anything secret. A root mirrors one source, which this tells where nothing else does."""

    @property
    def chain(self) -> tuple[str, ...]:
        """The catalogs of the mirrors that its last answer came through; none when it is the registry itself."""

    @property
    def requests(self) -> tuple[int, int]:
        """How many requests were sent so far: to the API, to storage."""

    def pages(
        self, *, status: str | None = None, texts: Callable[[], Mapping[bytes, str]] = dict
    ) -> Generator[Page, None, Reading]:
        """The listing, page by page, and at the end what came in all.

        Args:
            status: only models of this status; None for all but archived ones.
            texts: asked before each page for the rows that are to be recognised: ids by the SHA-256 of a row's text.

        Raises:
            ValidationError: it cannot list models by this status.
        """

    def document(self, model_id: str) -> Row:
        """One model by its id, with all its details.

        Raises:
            NotFoundError: there is none.
        """

    def find(self, model: str) -> Row:
        """One model by id or by name.

        Raises:
            NotFoundError: there is none.
        """

    def look(self, row: Row, weights_format: str) -> Declared:
        """What is declared of a model's weights: size and digests. The bytes are not read.

        Raises:
            ConflictError: as `fetch`.
        """

    def fetch(
        self,
        row: Row,
        weights_format: str,
        sink: Callable[[Declared], S],
        held: Callable[[Declared], H | None],
        progress: Callable[[int, int | None], None],
        begun: Begun[S] | None = None,
    ) -> Received[S] | H:
        """A model's weights, whole and checked, or what `held` made of what is declared of them.

        Args:
            sink: makes an empty place for the bytes.
            held: looks at what is declared; anything but None is returned, and no bytes come.
            progress: called with bytes done and bytes in all (None when not known); may raise.
            begun: a beginning of the bytes that an earlier fetch left.

        Raises:
            ConflictError: the model is not ready (400), or was never exported in this format (409).
            IntegrityError: the bytes do not match what is declared of them.
            TransferError: the bytes do not come.
        """

    def abort(self) -> None:
        """Wakes every thread that waits for bytes; each of their fetches fails."""

    def close(self) -> None:
        """Closes every connection."""
