"""What the writer hands to the index, one model at a time. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
class CheckEntry:
    """The last check of a blob's bytes. Times are aware UTC.

    Attributes:
        checked_at: when they were last hashed and right; None when never, or when its file has changed since.
        size, mtime_ns: of its file then.
        lost_at: since when it is known to be damaged or missing; such a blob is nobody's weights in the index.
    """

    md5: str
    format: str
    checked_at: datetime | None
    size: int | None
    mtime_ns: int | None
    lost_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """A blob that weights name, whichever models have it.

    Attributes:
        size: bytes.
        sha256: every SHA-256 that is recorded for it; none when there is none, and several are a fault of the record.
        check: None when nobody has checked it.
    """

    md5: str
    format: str
    size: int
    sha256: tuple[str, ...]
    check: CheckEntry | None = None


@dataclass(frozen=True, slots=True)
class EvictedEntry:
    """Weights that made room for others. The upstream can give them again. `evicted_at` is aware UTC."""

    format: str
    md5: str
    size: int
    evicted_at: datetime


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model with all that a reader may ask about it.

    Attributes:
        document: the model's JSON exactly as the upstream sent it.
        created_at, updated_at: the upstream's own texts; one that is no ISO-8601 time sorts as the oldest.
        first_seen, gone_at: aware UTC.
        weights: present and past.
        failures: the open ones.
        evicted: weights that a quota took.
        pinned_at: since when the operator wants its weights kept; None when that was never said.
    """

    document: str
    id: str
    name: str
    status: str
    model_type: str | None
    architecture: str | None
    created_at: str | None
    updated_at: str | None
    first_seen: datetime
    gone_at: datetime | None
    weights: tuple[WeightsEntry, ...] = ()
    failures: tuple[FailureEntry, ...] = ()
    evicted: tuple[EvictedEntry, ...] = ()
    pinned_at: datetime | None = None
