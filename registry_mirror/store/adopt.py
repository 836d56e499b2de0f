"""Continues a fetch that an earlier process left unfinished, without trusting locks or signs of life.

The old part file is copied into a new one while it is hashed, and is then removed. It must be read anyway, because a
digest cannot be continued without its earlier bytes. And if its writer was wrongly taken for dead, that writer goes on
writing to a file that no longer has a name. Appending to the old part file would let the two writers mix their bytes
(`huggingface_hub#4306`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..digests import HEAD, Hasher
from ..errors import NoSpaceError
from ..log import logger
from .parts import Part, has_grown, has_not_helped, incoming_files, is_adoptable, is_written_here
from .sidecar import SIDECAR, UnreadableError, open_part, read_into, read_origin, sidecar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from ..files import Modes
    from .parts import IncomingFile
    from .sidecar import Origin

_READ = 1 << 20
_log = logger("store")


@dataclass(frozen=True, slots=True)
class ResumedPart:
    """A new part file with the bytes of an abandoned one. `hasher` has hashed them; `head` is the first of them."""

    part: Part
    origin: Origin
    hasher: Hasher
    head: bytes


@dataclass(frozen=True, slots=True)
class LeftPart:
    """A part file that nobody writes to any more, and its origin."""

    found: IncomingFile
    origin: Origin

    def renewed(self) -> Origin:
        """Returns the origin for a copy. If the part file has grown since its last adoption, its week starts again."""
        return replace(
            self.origin,
            started_at=None if has_grown(self.found, self.origin) else self.origin.started_at,
            kept=self.found.size,
        )

    def remove(self) -> None:
        """Removes the part file and its sidecar. Another process may have removed them already."""
        for path in (self.found.path, sidecar(self.found.path)):
            with contextlib.suppress(OSError):
                path.unlink()


def adopt(
    folder: Path, modes: Modes, key: str, step: Callable[[int, int], None] = lambda _done, _total: None
) -> ResumedPart | None:
    """Takes over the longest part file of these weights that was left in `incoming/`.

    Removes a part file that it cannot read or has no disk space to copy: a fetch from the first byte then gets that
    space. Also removes one that has not helped for a week.

    Args:
        key: `model id/format`.
        step: called with the bytes copied so far and the size of the whole object, once for each MiB; may raise.

    Returns:
        The new part file, or None when no old one could be copied.
    """
    for left in longest_first(left_behind(folder, key)):
        if has_not_helped(left.found, left.origin):
            left.remove()
            continue
        adopted = _copied(left, folder, modes, step)
        if adopted is not None:
            _forget_like(left, folder)
            return adopted
    return None


def left_behind(folder: Path, key: str) -> list[LeftPart]:
    """Returns the part files of these weights that nobody writes to any more."""
    several = []
    for found in incoming_files(folder, lambda name: not name.endswith(SIDECAR) and not is_written_here(name)):
        if not is_adoptable(found):
            continue
        origin = read_origin(sidecar(found.path))
        if origin is not None and origin.key == key:
            several.append(LeftPart(found, origin))
    return several


def longest_first(several: list[LeftPart]) -> list[LeftPart]:
    """Returns the part files that are neither empty nor longer than their object, the longest first."""
    fitting = [left for left in several if 0 < left.found.size <= left.origin.size]
    return sorted(fitting, key=lambda left: left.found.size, reverse=True)


def _copied(left: LeftPart, folder: Path, modes: Modes, step: Callable[[int, int], None]) -> ResumedPart | None:
    try:
        with open_part(left.found.path) as source:
            return _copied_from(source, left.renewed(), folder, modes, step)
    except (UnreadableError, NoSpaceError) as error:
        _log.debug("cannot adopt %s: %s", left.found.path.name, error)
    left.remove()
    return None


def _copied_from(
    source: BinaryIO, origin: Origin, folder: Path, modes: Modes, step: Callable[[int, int], None]
) -> ResumedPart:
    part = Part(folder, modes, origin=origin)
    try:
        hasher, head = _copy(source, part, origin, step)
    except BaseException:
        part.discard()
        raise
    return ResumedPart(part, origin, hasher, head)


def _copy(source: BinaryIO, part: Part, origin: Origin, step: Callable[[int, int], None]) -> tuple[Hasher, bytes]:
    limit, view = origin.size, memoryview(bytearray(_READ))
    hasher, head = Hasher(origin.digests), b""
    while hasher.size < limit:
        count = read_into(source, view[: min(_READ, limit - hasher.size)])
        if not count:
            break
        part.write(view[:count])
        hasher.update(view[:count])
        head = head or bytes(view[: min(count, HEAD)])
        step(hasher.size, limit)
    return hasher, head


def _forget_like(adopted: LeftPart, folder: Path) -> None:
    """Removes the adopted part file and the others of the same object. Those of another object may still be needed."""
    adopted.remove()
    for left in left_behind(folder, adopted.origin.key):
        if left.origin.same_object(adopted.origin):
            left.remove()
