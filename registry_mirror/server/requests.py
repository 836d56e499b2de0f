"""Parses requests: the model and action of a path, and the parameters of a query. Pure."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


API_PREFIX = "/api/v1/developer/models"
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
LONGEST_SEGMENT = 1024


class ModelAction(StrEnum):
    """The actions of the models resource."""

    LIST = "list"
    GET = "get"
    DOWNLOAD = "download"
    VERSIONS = "versions"
    FILES = "files"
    FILE_DOWNLOAD = "files/download"
    OTHER = "other"
    """An action of the upstream that a mirror does not have: a write, a prediction, a fork."""
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Address:
    """The model and action of a path. `model` is an id or a name; with `by_name` it is a name."""

    action: ModelAction
    model: str = ""
    by_name: bool = False


class BadPathError(ValueError):
    """The path cannot be decoded: a broken escape, not UTF-8, a NUL."""


_ACTIONS = {
    (): ModelAction.GET,
    ("download",): ModelAction.DOWNLOAD,
    ("versions",): ModelAction.VERSIONS,
    ("files",): ModelAction.FILES,
    ("files", "download"): ModelAction.FILE_DOWNLOAD,
}


def address(rest: bytes) -> Address:
    """Parses the part of the raw path after `API_PREFIX`.

    SDKs have addressed a name in three ways: a filter of the list, `/by-name/NAME` (1.61.0 to 1.69.43) and the plain
    segment (from 1.69.44).

    Raises:
        BadPathError: the path cannot be decoded.
    """
    if rest == b"/":
        return Address(ModelAction.LIST)
    if not rest.startswith(b"/"):
        return Address(ModelAction.NOWHERE)
    segments = tuple(decode_segment(raw) for raw in rest[1:].split(b"/"))
    by_name = segments[0] == "by-name" and len(segments) > 1
    if by_name:
        segments = segments[1:]
    action = _ACTIONS.get(segments[1:], ModelAction.OTHER)
    return Address(action, segments[0], by_name)


def decode_segment(raw: bytes) -> str:
    """Decodes one path segment, once.

    Raises:
        BadPathError: it cannot be decoded.
    """
    if len(raw) > 3 * LONGEST_SEGMENT:
        raise BadPathError(f"a part of the path is longer than {LONGEST_SEGMENT} characters")
    if _BAD_ESCAPE.search(raw):
        raise BadPathError("the path has a % that two hex digits do not follow")
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadPathError("the path is not UTF-8") from None
    if "\0" in text:
        raise BadPathError("the path has a NUL in it")
    if len(text) > LONGEST_SEGMENT:
        raise BadPathError(f"a part of the path is longer than {LONGEST_SEGMENT} characters")
    return text


def usual_id(text: str) -> str:
    """Returns a UUID in its usual spelling, since SDKs pass on any; other text unchanged."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return text


def without_prefix(raw_path: bytes, prefix: str | None) -> tuple[bytes, bool]:
    """Returns the raw path without the configured prefix, and whether it had the prefix.

    A proxy may pass the prefix on or strip it. Both work.
    """
    if prefix:
        head = prefix.encode()
        if raw_path == head or raw_path.startswith(head + b"/"):
            return raw_path[len(head) :] or b"/", True
    return raw_path, False


DEFAULT_LIMIT = 50
LARGEST_LIMIT = 1000
LARGEST_OFFSET = 1 << 53
STATUSES = ("training", "ready", "failed", "archived")
TYPES = ("object_detection", "semantic_segmentation", "instance_segmentation", "classification", "keypoint_detection")
_MOST_FIELDS = 64
_BAD_ESCAPE_CURE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one parameter."""

    name: str
    message: str
    kind: str = "value_error"

    def as_json(self) -> dict[str, object]:
        """Returns the error in the form of the upstream's framework."""
        return {"loc": ["query", self.name], "msg": self.message, "type": self.kind}


class BadQueryError(ValueError):
    """Parameters of a query are wrong."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{each.name}: {each.message}" for each in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The parameters of a list. A filter that was not given is None."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    name: str | None = None
    status: str | None = None
    model_type: str | None = None


def parameters(query: bytes) -> dict[str, str]:
    """Parses a query string.

    Raises:
        BadQueryError: it cannot be decoded, or has a parameter twice.
    """
    text = query.decode("latin-1")
    if _BAD_ESCAPE_CURE.search(text):
        raise BadQueryError(FieldError("query", "a % must be followed by two hex digits"))
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except UnicodeDecodeError:
        raise BadQueryError(FieldError("query", "must be UTF-8")) from None
    except ValueError:
        raise BadQueryError(FieldError("query", f"must have at most {_MOST_FIELDS} parameters")) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise BadQueryError(FieldError(_shown(name), "must be given once"))
        if "\0" in value:
            raise BadQueryError(FieldError(_shown(name), "must not have a NUL in it"))
        found[name] = value
    return found


def list_query(given: Mapping[str, str], known_type: Callable[[str], bool] = TYPES.__contains__) -> ListQuery:
    """Checks the parameters of a list.

    Args:
        given: the parameters by name.
        known_type: returns whether some model has this type, for types that are newer than this code.

    Raises:
        BadQueryError: some are wrong; it names all of them.
    """
    errors = [FieldError(_shown(name), _unknown(name)) for name in given if name not in _FIELDS]
    limit = _number(given, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT, errors)
    offset = _number(given, "offset", 0, 0, LARGEST_OFFSET, errors)
    status, model_type = given.get("status"), given.get("model_type")
    if status is not None and status not in STATUSES:
        errors.append(FieldError("status", f"must be one of {', '.join(STATUSES)}", "enum"))
    if model_type is not None and model_type not in TYPES and not known_type(model_type):
        errors.append(FieldError("model_type", f"must be one of {', '.join(TYPES)}", "enum"))
    if len(given.get("name", "")) > LONGEST_SEGMENT:
        errors.append(FieldError("name", f"must have at most {LONGEST_SEGMENT} characters", "string_too_long"))
    if errors:
        raise BadQueryError(*errors)
    return ListQuery(limit, offset, given.get("name"), status, model_type)


_FIELDS = frozenset({"limit", "offset", "name", "status", "model_type"})


def _unknown(name: str) -> str:
    if name == "dataset_name":
        return "this mirror does not know which dataset a model was trained on; leave it out"
    return f"no such filter; those known are {', '.join(sorted(_FIELDS))}"


def _number(given: Mapping[str, str], name: str, default: int, low: int, high: int, errors: list[FieldError]) -> int:
    text = given.get(name)
    if text is None:
        return default
    if re.fullmatch(r"[0-9]{1,19}", text) and low <= int(text) <= high:
        return int(text)
    errors.append(FieldError(name, f"must be a whole number from {low} to {high}", "int_range"))
    return default


def _shown(name: str) -> str:
    """Returns a parameter's name in a form that an answer can quote."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:64])
