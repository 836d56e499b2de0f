"""Documents in a form that each client can read. Pure.

An SDK fails a whole list when its schema refuses one row. So a field that it refuses is left out of the row, and a row
of a type that it does not know is left out of the list. The rules are those of the official SDK's record: `precision`
is `fp32` or `fp16` and never null (from 1.67.6), `version` is never null or a number, and `keypoint_detection` is known
from 1.67.17. Everything else is passed on as the upstream sent it. `updated_at` stays the same to the letter, because
SDKs name their cached weights after it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from ..model import ModelStatus, ModelType

if TYPE_CHECKING:
    from collections.abc import Callable

_SDK = re.compile(r"pictograph-python(?:-async)?/(\d{1,6})\.(\d{1,6})\.(\d{1,6})")
_KEYPOINTS_SINCE = (1, 67, 17)
_OLD_TYPES = tuple(str(each) for each in ModelType)
_TYPES = (*_OLD_TYPES, "keypoint_detection")
STATUSES = tuple(str(each) for each in ModelStatus)

_TEXTS = ("description", "architecture", "parent_model_id", "forked_from_model_id")
_OBJECTS = ("metrics", "class_mapping", "training_config")
_TIME = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?", re.ASCII)
_decoder = msgspec.json.Decoder()


class RowKind(Enum):
    """The kinds of clients."""

    SDK = "the official SDK"
    MIRROR = "another mirror"
    OTHER = "anybody else"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A client, recognised by its User-Agent. `version` is the SDK's, or None when unknown."""

    kind: RowKind
    version: tuple[int, int, int] | None = None

    @property
    def verbatim(self) -> bool:
        """Whether it gets documents unchanged: a mirror of this mirror is to hold what this one holds."""
        return self.kind is RowKind.MIRROR

    @property
    def types(self) -> tuple[str, ...] | None:
        """The model types that it can read; None for all."""
        if self.kind is not RowKind.SDK:
            return None
        return _OLD_TYPES if self.version is not None and self.version < _KEYPOINTS_SINCE else _TYPES

    @property
    def statuses(self) -> tuple[str, ...] | None:
        """The statuses that it can read; None for all."""
        return STATUSES if self.kind is RowKind.SDK else None


def dialect_of(user_agent: str) -> Dialect:
    """Recognises the client by its User-Agent."""
    if match := _SDK.match(user_agent):
        return Dialect(RowKind.SDK, (int(match[1]), int(match[2]), int(match[3])))
    if user_agent.startswith("registry-mirror"):
        return Dialect(RowKind.MIRROR)
    return Dialect(RowKind.OTHER)


@dataclass(frozen=True, slots=True)
class Substitutes:
    """Values for required fields that a document lacks: the organisation, and when the model was first seen."""

    organization_id: str
    first_seen: str


def fitted(document: str, who: Dialect, substitutes: Callable[[], Substitutes]) -> str:
    """Returns the document's JSON for a client: the same text if nothing has to be changed.

    Args:
        document: JSON text.
        who: the client.
        substitutes: is called only when a required field is missing.
    """
    if who.verbatim and not _names_no_number(document):
        return document
    found, sound = _read(document)
    changes = {} if who.verbatim else _changes(found, substitutes)
    if sound and not changes:
        return document
    fit = {key: value for key, value in {**found, **changes}.items() if value is not _DROP}
    return json.dumps(fit, ensure_ascii=False)


def decoded(document: str) -> dict[str, Any]:
    """Parses a document. Returns an empty dict if it is no object. NaN, infinities and overflows become None."""
    return _read(document)[0]


def _read(document: str) -> tuple[dict[str, Any], bool]:
    """Returns the object, and whether its text is valid JSON."""
    try:
        found = _decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _leniently(document)
    return (found if isinstance(found, dict) else {}), True


def _leniently(document: str) -> tuple[dict[str, Any], bool]:
    beyond = []

    def number(text: str) -> float | None:
        value = float(text)
        if math.isfinite(value):
            return value
        beyond.append(text)
        return None

    try:
        found = json.loads(document, parse_constant=number, parse_float=number)
    except (ValueError, RecursionError):
        return {}, True
    return (found if isinstance(found, dict) else {}), not beyond


def _names_no_number(document: str) -> bool:
    """Returns whether a text contains NaN or Infinity. Python finds a single letter many times faster than a word."""
    return ("N" in document and "NaN" in document) or ("I" in document and "Infinity" in document)


_DROP = object()


def _changes(document: dict[str, Any], substitutes: Callable[[], Substitutes]) -> dict[str, Any]:
    """Returns new values for the fields that some SDK would refuse; `_DROP` for a field to leave out."""
    get = document.get
    changes: dict[str, Any] = {}
    if "precision" in document and get("precision") not in ("fp32", "fp16"):
        changes["precision"] = _DROP
    if "version" in document and not isinstance(get("version"), str):
        changes["version"] = _DROP
    for key in _TEXTS:
        if get(key) is not None and not isinstance(get(key), str):
            changes[key] = _DROP
    for key in _OBJECTS:
        if get(key) is not None and not isinstance(get(key), dict):
            changes[key] = _DROP
    if not isinstance(get("organization_id"), str):
        changes["organization_id"] = substitutes().organization_id
    if get("visibility") not in ("private", "public"):
        changes["visibility"] = "private"
    return changes | _times(document, substitutes)


def _times(document: dict[str, Any], substitutes: Callable[[], Substitutes]) -> dict[str, Any]:
    """Returns values for missing times: the other one of the two, else when the model was first seen here."""
    created, updated = (is_time(document.get(key)) for key in ("created_at", "updated_at"))
    if created and updated:
        return {}
    changes = {}
    if not created:
        changes["created_at"] = document["updated_at"] if updated else substitutes().first_seen
    if not updated:
        changes["updated_at"] = document["created_at"] if created else substitutes().first_seen
    return changes


def is_time(value: object) -> bool:
    """Returns whether an SDK can read it as a time. SDKs know fewer forms of ISO 8601 than Python: no weeks."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True
