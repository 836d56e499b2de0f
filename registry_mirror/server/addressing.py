"""From a raw request path to what is asked for. Pure.

A model's name may hold anything, a slash and a percent sign too, so the path is split first and decoded after.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote_to_bytes

API_PREFIX = "/api/v1/developer/models"
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
LONGEST_SEGMENT = 1024


class Action(StrEnum):
    """What can be asked of the models resource."""

    LIST = "list"
    GET = "get"
    DOWNLOAD = "download"
    VERSIONS = "versions"
    FILES = "files"
    FILE_DOWNLOAD = "files/download"
    OTHER = "other"
    """Something that the upstream may do and a mirror does not: a write, a prediction, a fork."""
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Address:
    """One call. `model` is an id or a name, or a name alone when `by_name`."""

    action: Action
    model: str = ""
    by_name: bool = False


class BadPathError(ValueError):
    """The path is no path: a broken escape, not UTF-8, a NUL."""


_ACTIONS = {
    (): Action.GET,
    ("download",): Action.DOWNLOAD,
    ("versions",): Action.VERSIONS,
    ("files",): Action.FILES,
    ("files", "download"): Action.FILE_DOWNLOAD,
}


def address(rest: bytes) -> Address:
    """What the part of the raw path after `API_PREFIX` asks for.

    Three addressings of a name have been in use: a filter of the list, `/by-name/NAME` (SDK 1.61.0 to 1.69.43) and the
    plain segment (from 1.69.44).

    Raises:
        BadPathError: it cannot be decoded.
    """
    if rest == b"/":
        return Address(Action.LIST)
    if not rest.startswith(b"/"):
        return Address(Action.NOWHERE)
    segments = tuple(segment(raw) for raw in rest[1:].split(b"/"))
    by_name = segments[0] == "by-name" and len(segments) > 1
    if by_name:
        segments = segments[1:]
    action = _ACTIONS.get(segments[1:], Action.OTHER)
    return Address(action, segments[0], by_name)


def segment(raw: bytes) -> str:
    """One path segment, decoded once.

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
    """What reads as a UUID, in its usual spelling; SDKs pass on ids in any. Everything else as it is."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return text


def without_prefix(raw_path: bytes, prefix: str | None) -> tuple[bytes, bool]:
    """The raw path without the configured prefix, and whether it had it.

    A proxy may pass the prefix on or strip it; both are served.
    """
    if prefix:
        head = prefix.encode()
        if raw_path == head or raw_path.startswith(head + b"/"):
            return raw_path[len(head) :] or b"/", True
    return raw_path, False
