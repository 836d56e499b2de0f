"""What a sync reads from: rows with their documents, weights by address, and whose they are.

The remote models API is the first source (`api`). An index with its blobs, in a folder, a bundle or a bucket, is the
same thing by other means, and gets the same sync: its record, shrink guard, retention, alert and publication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from collections.abc import Set as AbstractSet

    from ..transfer.declared import Declared
    from ..transfer.download import Received
    from ..transfer.partial_body import Beginning, S

H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One model as the upstream sent it.

    Attributes:
        document: the JSON text, unknown fields included.
        fingerprint: changes when anything in the document does; key order and white space do not count.
        stamp: changes when the weights may have: a digest of `updated_at`, the version fields and checksums, or the
            fingerprint where there is no `updated_at`.
        detailed: whether the row carries metrics and class mapping; if not, `get` has more.
        text_digest: of the JSON text as it was sent.
    """

    id: str
    name: str
    status: str
    model_type: str | None
    architecture: str | None
    organization_id: str | None
    visibility: str | None
    version: str | None
    created_at: str | None
    updated_at: str | None
    document: str
    fingerprint: str
    stamp: str
    detailed: bool
    text_digest: bytes


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that is no model; `id` and `name` are what could be read of it."""

    id: str | None
    name: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of the listing.

    Attributes:
        has_more: None when the upstream did not say.
        same: ids of rows whose text was recognised; those are not among `rows`.
        total: how many rows it says the whole listing has; None when it did not say.
    """

    rows: tuple[ListedModel | UnreadableRow, ...]
    has_more: bool | None
    same: tuple[str, ...] = ()
    total: int | None = None

    @property
    def count(self) -> int:
        """How many rows the upstream sent."""
        return len(self.rows) + len(self.same)

    @property
    def ids(self) -> set[str]:
        """Every id that could be read."""
        return {*self.same, *(row.id for row in self.rows if row.id is not None)}

    @property
    def unnamed(self) -> int:
        """How many rows have no id that could be read."""
        return sum(row.id is None for row in self.rows)


@dataclass(frozen=True, slots=True)
class ListingSummary:
    """What came of a listing.

    Attributes:
        ids: every id that could be read.
        unnamed: how many rows had none.
        total: how many rows the listing says it has; None when it does not say.
        cut: it said that more was to come, and ended.
        unfiltered: its total may be that of the listing without its filter.
    """

    ids: AbstractSet[str]
    unnamed: int = 0
    total: int | None = None
    cut: bool = False
    unfiltered: bool = False

    @property
    def received(self) -> int:
        """How many different rows came. Those that cannot be read are among them."""
        return len(self.ids) + self.unnamed

    @property
    def gap(self) -> str:
        """How many rows it says it has and did not bring; empty for none.

        "some" when it does not say how many, "unfiltered" when it may say so of another listing: as that one grows, so
        does the number, and the manner of the upstream stays the same.
        """
        if self.total is None:
            return "some" if self.cut else ""
        if self.total <= self.received:
            return ""
        return "unfiltered" if self.unfiltered else str(self.total - self.received)


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
    ) -> Generator[ListingPage, None, ListingSummary]:
        """The listing, page by page, and at the end what came in all.

        Args:
            status: only models of this status; None for all but archived ones.
            texts: asked before each page for the rows that are to be recognised: ids by the SHA-256 of a row's text.

        Raises:
            ValidationError: it cannot list models by this status.
        """

    def document(self, model_id: str) -> ListedModel:
        """One model by its id, with all its details.

        Raises:
            NotFoundError: there is none.
        """

    def find(self, model: str) -> ListedModel:
        """One model by id or by name.

        Raises:
            NotFoundError: there is none.
        """

    def look(self, row: ListedModel, weights_format: str) -> Declared:
        """What is declared of a model's weights: size and digests. The bytes are not read.

        Raises:
            ConflictError: as `fetch`.
        """

    def fetch(
        self,
        row: ListedModel,
        weights_format: str,
        sink: Callable[[Declared], S],
        held: Callable[[Declared], H | None],
        progress: Callable[[int, int | None], None],
        begun: Beginning[S] | None = None,
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
