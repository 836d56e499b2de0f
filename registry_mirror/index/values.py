"""What is asked of the index and what it finds, as values. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..model import ModelStatus
from .schema import storable

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One file of a model that is in the store, now or from before.

    Attributes:
        version: the upstream's name for it; None when it has none.
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
    """Weights that could not be fetched and have not been since. Times are aware UTC."""

    format: str
    error: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime


@dataclass(frozen=True, slots=True)
class EvictedEntry:
    """Weights that made room for others. The upstream can give them again. `evicted_at` is aware UTC."""

    format: str
    md5: str
    size: int
    evicted_at: datetime


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of the index.

    Attributes:
        rank: its place among those of its name (see `rank`).
        order: its place in lists, the largest first.
        first_seen, gone_at: aware UTC.
        weights: the current ones of the asked format, else of any other, else None.
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
"""Where a model stands in lists: created, updated, id."""


class Document(NamedTuple):
    """One model as the upstream sent it, when it was first seen, and its place in lists."""

    text: str
    first_seen: datetime
    place: Place


class Record(NamedTuple):
    """One model as the upstream sent it, when it was first seen, and whether it is gone from there."""

    text: str
    first_seen: datetime
    gone: bool


@dataclass(frozen=True, slots=True)
class OpenFailure:
    """Weights that are wanted and could not be fetched so far."""

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
        ready_not_cached: live and ready models without.
        evicted: files that made room for others, of the live and ready models.
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
    """What some models of the table `m` meet."""

    def where(self) -> tuple[str, dict[str, str]]:
        """The condition, and the values in it."""


@dataclass(frozen=True, slots=True)
class CheckTotals:
    """How well the stored bytes are known.

    Attributes:
        never: blobs of which no check is on record, or one that is still to come, or whose file had changed since it.
        oldest: the last check of the blob that has waited longest; None when none was ever checked.
        lost: blobs that are known to be damaged or missing, and have not come again.
    """

    never: int = 0
    oldest: datetime | None = None
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which models a list shows. Archived ones also show when `status` asks for them.

    `types` and `statuses` are what the asker can read: a model of another one is not there for it.
    """

    status: str | None = None
    model_type: str | None = None
    include_archived: bool = False
    include_gone: bool = False
    name: str | None = None
    types: tuple[str, ...] | None = None
    statuses: tuple[str, ...] | None = None

    def where(self) -> tuple[str, dict[str, str]]:
        """The condition, and the values in it."""
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
