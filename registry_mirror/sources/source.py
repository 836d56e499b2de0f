"""The protocol of a source, which a sync reads from: it lists models with their documents, and fetches weights.

The remote models API (`api`) is the first source. An index with its blobs, in a folder, a bundle or a bucket, could be
another one; it would get the same sync, with its record, shrink guard, retention, alert and publication.
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
        document: the JSON text, including unknown fields.
        fingerprint: changes when anything in the document changes, except key order and white space.
        stamp: changes when the weights may have changed: a digest of `updated_at`, the version fields and checksums, or
            the fingerprint if there is no `updated_at`.
        detailed: whether the document has metrics and a class mapping; if not, `Source.document` returns more.
        text_digest: digest of the JSON text as it was sent.
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
    """A row that is not a valid model. `id` and `name` are None where they could not be read."""

    id: str | None
    name: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of the listing.

    Attributes:
        has_more: whether the upstream says that more rows follow; None when it did not say.
        same: ids of the rows whose text was recognised as unchanged; `rows` does not have these.
        total: how many rows the upstream says the whole listing has; None when it did not say.
    """

    rows: tuple[ListedModel | UnreadableRow, ...]
    has_more: bool | None
    same: tuple[str, ...] = ()
    total: int | None = None

    @property
    def count(self) -> int:
        """Number of rows that the upstream sent."""
        return len(self.rows) + len(self.same)

    @property
    def ids(self) -> set[str]:
        """Every id that could be read."""
        return {*self.same, *(row.id for row in self.rows if row.id is not None)}

    @property
    def unnamed(self) -> int:
        """Number of rows whose id could not be read."""
        return sum(row.id is None for row in self.rows)


@dataclass(frozen=True, slots=True)
class ListingSummary:
    """The outcome of reading a listing to its end.

    Attributes:
        ids: every id that could be read.
        unnamed: number of rows whose id could not be read.
        total: how many rows the upstream says the listing has; None when it does not say.
        cut: whether the listing ended although the upstream said that more rows follow.
        unfiltered: whether `total` may be the total of the listing without its filter.
    """

    ids: AbstractSet[str]
    unnamed: int = 0
    total: int | None = None
    cut: bool = False
    unfiltered: bool = False

    @property
    def received(self) -> int:
        """Number of different rows received, including rows that cannot be read."""
        return len(self.ids) + self.unnamed

    @property
    def gap(self) -> str:
        """How many rows are missing, compared with the total that the upstream declares; empty for none.

        "some" when the upstream does not say how many, "unfiltered" when its total may ignore the filter. The latter is
        not a number, because a number would change whenever the unfiltered listing grows.
        """
        if self.total is None:
            return "some" if self.cut else ""
        if self.total <= self.received:
            return ""
        return "unfiltered" if self.unfiltered else str(self.total - self.received)


class Source(Protocol):
    """A registry of models, open for reading. Threads may share it.

    Every method may raise a MirrorError: ApiError or a subclass when the source refuses a call, NetworkError when it
    cannot be reached, ListingError when its listing is not plausible.
    """

    @property
    def address(self) -> str:
        """The source's address, without secrets. It identifies the source that a root mirrors if nothing else does."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Ids of the catalogs of the mirrors between us and the registry, as its last response named them.

        Empty when the source is the registry itself.
        """

    @property
    def requests(self) -> tuple[int, int]:
        """Number of requests sent so far: to the API, and to storage."""

    def pages(
        self, *, status: str | None = None, texts: Callable[[], Mapping[bytes, str]] = dict
    ) -> Generator[ListingPage, None, ListingSummary]:
        """Yields the listing page by page, and returns its summary.

        Args:
            status: only models of this status; None for all but archived ones.
            texts: called for each page; returns the ids of rows to recognise, by the SHA-256 of the row's text.

        Raises:
            ValidationError: the source cannot list models by this status.
        """

    def document(self, model_id: str) -> ListedModel:
        """Returns one model by its id, with all its details.

        Raises:
            NotFoundError: there is no such model.
        """

    def find(self, model: str) -> ListedModel:
        """Returns one model by its id or name.

        Raises:
            NotFoundError: there is no such model.
        """

    def look(self, row: ListedModel, weights_format: str) -> Declared:
        """Returns the declared size and digests of a model's weights, without reading the bytes.

        Raises:
            ConflictError: as for `fetch`.
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
        """Fetches a model's weights whole and checks them.

        Args:
            sink: makes an empty sink for the bytes.
            held: looks at the declared size and digests, and returns a value to use instead of the bytes, or None.
            progress: called with bytes done and bytes in all (None when not known); may raise.
            begun: the beginning of the weights that an earlier fetch kept.

        Returns:
            The checked weights, or the value that `held` returned.

        Raises:
            ConflictError: the model is not ready (400), or was never exported in this format (409).
            IntegrityError: the bytes do not match their declared digests.
            TransferError: storage does not give the bytes.
        """

    def abort(self) -> None:
        """Wakes every thread that waits for bytes. Their fetches fail."""

    def close(self) -> None:
        """Closes every connection."""
