"""The values that queries of the index take and return. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..model import ModelStatus
from .schema import storable

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One file of a model that is in the store, current or superseded.

    Attributes:
        version: the upstream's name for this version; None when it has none.
        md5, sha256: lower-case hex digests of the bytes.
        size: bytes.
        fetched_at: aware UTC.
        current: False once another file of the same format has taken its place.
    """

    format: str
    version: str | None
    md5: str
    sha256: str | None
    size: int
    fetched_at: datetime
    current: bool = True


@dataclass(frozen=True, slots=True)
class FailureEntry:
    """Weights that could not be fetched, and were not fetched since. Times are aware UTC."""

    format: str
    error: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime


@dataclass(frozen=True, slots=True)
class EvictedEntry:
    """Weights that were evicted to make room. They can be fetched again. `evicted_at` is aware UTC."""

    format: str
    md5: str
    size: int
    evicted_at: datetime


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of the index.

    Attributes:
        rank: its rank among the models of its name (see `schema.RANK`).
        order: its place in lists; the largest comes first.
        first_seen, gone_at: aware UTC.
        weights: the current weights in the requested format, else in any other format, else None.
        shadows: ids of live and ready models that this one hides, newest first.
        document: the upstream's JSON text.
        pinned: whether the operator wants its weights kept.
    """

    id: str
    name: str
    status: str
    rank: int
    order: tuple[int, int, str]
    first_seen: datetime | None
    gone_at: datetime | None
    weights: WeightsEntry | None
    shadows: tuple[str, ...]
    document: str
    pinned: bool = False


Place = tuple[int, int, str]
"""A model's place in lists: created, updated, id."""


class Document(NamedTuple):
    """One model as the upstream sent it, when it was first seen, and its place in lists."""

    text: str
    first_seen: datetime
    place: Place


class Record(NamedTuple):
    """One model as the upstream sent it, when it was first seen, and whether it is gone from the upstream."""

    text: str
    first_seen: datetime
    gone: bool


@dataclass(frozen=True, slots=True)
class OpenFailure:
    """An open failure, with the id and the name of its model."""

    model_id: str
    name: str
    failure: FailureEntry


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the index.

    Attributes:
        statuses: live models by status.
        gone: models gone from the upstream, whatever their last status.
        files, bytes: distinct blobs that the index names, superseded ones included.
        cached_models: models with current weights.
        ready_not_cached: live and ready models without current weights.
        evicted: files of live and ready models that were evicted to make room.
        pinned: models whose weights the operator wants kept.
    """

    statuses: dict[str, int]
    gone: int
    files: int
    bytes: int
    cached_models: int
    ready_not_cached: int
    evicted: int = 0
    pinned: int = 0


class Condition(Protocol):
    """A condition on models. In its SQL, `m` is the table of models."""

    def where(self) -> tuple[str, dict[str, str]]:
        """Returns the SQL condition and the values of its parameters."""


@dataclass(frozen=True, slots=True)
class CheckTotals:
    """How many blobs were checked, and how long ago.

    Attributes:
        never: blobs without a recorded check, with one dated in the future, or whose file changed since the check.
        oldest: when the blob that has waited longest was last checked; None when no blob was ever checked.
        lost: blobs that are known to be damaged or missing, and were not fetched again.
    """

    never: int = 0
    oldest: datetime | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which models a list shows. Archived models are also shown when `status` asks for them.

    `types` and `statuses` are those that the client can read; a model with any other is left out.
    """

    status: str | None = None
    model_type: str | None = None
    include_archived: bool = False
    include_gone: bool = False
    name: str | None = None
    types: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None

    def where(self) -> tuple[str, dict[str, str]]:
        """Returns the SQL condition and the values of its parameters."""
        terms, values = ["1"], {"archived": str(ModelStatus.ARCHIVED)}
        for column, value in (("status", self.status), ("model_type", self.model_type), ("name", self.name)):
            if value is not None:
                terms.append(f"m.{column} = :{column}")
                values[column] = storable(str(value))
        for column, known in (("status", self.statuses), ("model_type", self.types)):
            if known is not None:
                names = [f"{column}_{place}" for place in range(len(known))]
                terms.append(f"m.{column} IN ({', '.join(f':{name}' for name in names)})")
                values |= dict(zip(names, known, strict=True))
        if self.status is None and not self.include_archived:
            terms.append("m.status <> :archived")
        if not self.include_gone:
            terms.append("m.gone_at IS NULL")
        return " AND ".join(terms), values
