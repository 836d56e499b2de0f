"""What the catalog gives and takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """Current weights of a model in one format."""

    format: str
    md5: str
    sha256: str
    size: int
    stamp: str
    lost: bool = False
    """Its blob was found damaged or missing, and has not come again since."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a plan asks about a model that the catalog has."""

    name: str
    status: str
    fingerprint: str
    stamp: str
    gone: bool
    weights: tuple[KnownWeights, ...] = ()
    absent: frozenset[tuple[str, str]] = frozenset()
    """Pairs of a format and the stamp at which the upstream had no weights in it."""
    evicted: frozenset[tuple[str, str]] = frozenset()
    """Pairs of a format and the stamp at which its weights made room for others."""

    def weights_of(self, weights_format: str) -> KnownWeights | None:
        """The current weights in a format."""
        return next((each for each in self.weights if each.format == weights_format), None)


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights to record as current."""

    model_id: str
    format: str
    version: str | None
    md5: str
    sha256: str
    size: int
    stamp: str
    declared_md5: bool
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model with all that the catalog holds of it; columns as in the schema."""

    model: Row[Any]
    weights: tuple[Row[Any], ...]
    failures: tuple[Row[Any], ...]
    evictions: tuple[Row[Any], ...]
    pinned_at: str | None
