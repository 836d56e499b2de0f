"""The types that every room uses: a model, its status, its type, and what the mirror knows about it.

Standard library only: readers import this on machines where nothing else is installed.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


E = TypeVar("E", bound=StrEnum)

ITS_FILE = "its file "
"""The beginning of a failure's text when no fetch failed but a stored file was found damaged or missing."""

_OBEYED = "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
"""Characters that a terminal obeys or hides: DEL, C1 controls, marks of writing direction, and zero-width ones."""

CLOCK_SKEW = 60.0
"""Seconds by which the clocks of two machines may differ."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ModelStatus(StrEnum):
    """The status of a model, as the platform's models page lists it."""

    TRAINING = "training"
    READY = "ready"
    FAILED = "failed"
    ARCHIVED = "archived"


class ModelType(StrEnum):
    """What a model predicts, as the platform's models page lists it."""

    OBJECT_DETECTION = "object_detection"
    SEMANTIC_SEGMENTATION = "semantic_segmentation"
    INSTANCE_SEGMENTATION = "instance_segmentation"
    CLASSIFICATION = "classification"


@dataclass(frozen=True, slots=True)
class MirrorInfo:
    """What the mirror knows about a model beyond the upstream's document.

    Attributes:
        cached: whether the store has current weights of the model, in the requested format or else in any other.
        path: absolute path of the weights described here (the current ones, unless others were requested), or None.
        md5, sha256: lower-case hex digests of the bytes.
        size: bytes.
        first_seen, fetched_at, gone_at: aware UTC; None if it has not happened.
        shadows: ids of other live and ready models of the same name that this one hides, newest first.
        pinned: whether the operator wants its weights kept.
    """

    cached: bool
    path: Path | None
    md5: str | None
    sha256: str | None
    size: int | None
    first_seen: datetime | None
    fetched_at: datetime | None
    gone_at: datetime | None
    shadows: tuple[str, ...] = ()
    pinned: bool = False

    def as_json(self) -> dict[str, Any]:
        """The object under the key "mirror" in `get --json`."""
        return {
            "cached": self.cached,
            "path": None if self.path is None else str(self.path),
            "md5": self.md5,
            "sha256": self.sha256,
            "size": self.size,
            "first_seen": format_time(self.first_seen),
            "fetched_at": format_time(self.fetched_at),
            "gone_at": format_time(self.gone_at),
            "shadows": list(self.shadows),
            "pinned": self.pinned,
        }


@dataclass(frozen=True, slots=True)
class Model:
    """One trained model.

    The fields are those of the platform's models page. `document` is the JSON object as the upstream sent it, including
    fields that this version does not know. A status or type that this version does not know is kept as a string.
    `mirror` is None for a model that was read online.
    """

    id: str
    name: str
    status: ModelStatus | str
    model_type: ModelType | str | None = None
    architecture: str | None = None
    description: str | None = None
    organization_id: str | None = None
    visibility: str | None = None
    version: str | None = None
    precision: str | None = None
    metrics: Mapping[str, Any] | None = None
    class_mapping: Mapping[str, Any] | None = None
    training_config: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    mirror: MirrorInfo | None = field(default=None, compare=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], mirror: MirrorInfo | None = None) -> Self:
        """Reads the upstream's JSON object.

        Raises:
            ValueError: `id` or `name` is missing or not a string.
        """
        for key in ("id", "name"):
            if not isinstance(document.get(key), str):
                raise ValueError(  # noqa: TRY004 - one error for any wrong document
                    f"a model needs a string {key!r}, not {document.get(key)!r}"
                )
        return cls(
            id=document["id"],
            name=document["name"],
            status=known_or_text(ModelStatus, document.get("status")) or "",
            model_type=known_or_text(ModelType, document.get("model_type")),
            architecture=_text(document.get("architecture")),
            description=_text(document.get("description")),
            organization_id=_text(document.get("organization_id")),
            visibility=_text(document.get("visibility")),
            version=_text(document.get("version")),
            precision=_text(document.get("precision")),
            metrics=_object(document.get("metrics")),
            class_mapping=_object(document.get("class_mapping")),
            training_config=_object(document.get("training_config")),
            created_at=parse_time(document.get("created_at")),
            updated_at=parse_time(document.get("updated_at")),
            document=document,
            mirror=mirror,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order, from either shape of `class_mapping` (`{"classes": [...]}` or `{"0": name}`)."""
        return class_names(self.class_mapping)


@dataclass(frozen=True, slots=True)
class BlobCheck:
    """What the last check of a blob found. Times are aware UTC.

    Attributes:
        checked_at: when the bytes last matched their digests; None when never, or when the file changed since.
        size, mtime_ns: bytes and modification time of the file at that check, in nanoseconds since 1970.
        lost_at: when the blob was found damaged or missing; None if it was not. The index names no weights of a lost
            blob.
    """

    checked_at: datetime | None = None
    size: int | None = None
    mtime_ns: int | None = None
    lost_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """A blob that recorded weights name, whichever models have it.

    Attributes:
        size: bytes.
        sha256: every SHA-256 that is recorded for the blob; more than one means that the records are wrong.
        check: the last check; all its values are None when the blob was never checked.
    """

    md5: str
    format: str
    size: int
    sha256: tuple[str, ...]
    check: BlobCheck = BlobCheck()


def class_names(mapping: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Returns class names in index order; empty when there are none.

    The upstream documents a mapping from index to name, and its SDK also reads `{"classes": [...]}`.
    """
    if not mapping:
        return ()
    listed = mapping.get("classes")
    if isinstance(listed, list):
        return tuple(str(name) for name in listed)
    indexed = {int(key): value for key, value in mapping.items() if key.isdecimal()}
    return tuple(str(indexed[index]) for index in sorted(indexed))


def known_or_text(kind: type[E], value: object) -> E | str | None:
    """Returns the member of `kind` for a text, the text itself when no member matches, and None for a non-text."""
    if not isinstance(value, str):
        return None
    try:
        return kind(value)
    except ValueError:
        return value


def parse_time(value: object) -> datetime | None:
    """Parses an ISO-8601 text with `Z`, an offset or neither (meaning UTC). Returns aware UTC; None for any other."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # year 1 or 9999 with an offset
        return None


def format_time(moment: datetime | None) -> str | None:
    """Formats an aware time as `2026-03-02T09:30:00Z`, in UTC, to the second. Returns None for None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micros(moment: datetime | None) -> int | None:
    """Returns an aware time as microseconds since 1970 in UTC, as both databases store it; None for None."""
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND


def moment(value: int | None) -> datetime | None:
    """Returns the aware UTC time for microseconds since 1970; None for None. The inverse of `micros`."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)


def known_moment(value: int) -> datetime:
    """Returns the same as `moment`, for a database column that is never NULL."""
    return _EPOCH + timedelta(microseconds=value)


def is_to_come(moment: datetime, now: datetime) -> bool:
    """Returns whether a recorded time is more than `CLOCK_SKEW` in the future, so that some clock must be wrong."""
    return (moment - now).total_seconds() > CLOCK_SKEW


def utc_now() -> datetime:
    """Returns the present time, aware, in UTC."""
    return datetime.now(UTC)


def json_bytes(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> bytes:
    r"""Encodes a value as JSON in UTF-8, whatever the locale. NaN and the infinities, which JSON lacks, become null.

    Half a surrogate pair is escaped as `\udXXX`. Characters that a terminal would obey or hide are escaped likewise.
    """

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)

    try:
        found = text(value)
    except ValueError:
        found = text(_finite(value))
    if not found.isascii() or "\x7f" in found:
        found = re.sub(_OBEYED, _escaped, found)
    return found.encode("utf-8", "backslashreplace")


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1] if match[0] != "\x7f" else "\\u007f"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _object(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None
