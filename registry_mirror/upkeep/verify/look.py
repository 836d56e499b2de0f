"""Looking at one blob: is it there, and are its bytes those on record?

Bytes are condemned only after a second reading: one that differs from the first speaks of the memory or the
controller of this machine, and not of the blob.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ...files import kind_of, open_regular
from ...status import COARSEST_TIME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ...model import BlobRecord

_READ = 1 << 20
_TRIES = 3
_REFUSED = frozenset({errno.EACCES, errno.EPERM})


class Verdict(StrEnum):
    """What was found. All but the first two are bad."""

    GOOD = "good"
    TOUCHED = "touched"
    """A quick look met another time than the last check recorded: nothing is known before it is hashed."""
    MISSING = "missing"
    SIZE = "size"
    CONTENT = "content"
    FORGED = "forged"
    """The MD5 is right and the SHA-256 is not: made so, or the record is damaged."""
    NO_FILE = "not a file"
    UNREADABLE = "unreadable"
    """The disk does not give its bytes."""
    REFUSED = "refused"
    """This account may not read it, so nothing is known."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one file from another under the same name."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """The identity in a stat."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at a blob found.

    Attributes:
        reason: in words, to follow "its file"; empty for a good one that gave no trouble.
        identity: of the file that was looked at; None when there was none.
        hashed: bytes that were hashed.
    """

    blob: BlobRecord
    verdict: Verdict
    reason: str = ""
    identity: Identity | None = None
    hashed: int = 0

    @property
    def bad(self) -> bool:
        """Whether the blob cannot be relied on."""
        return self.verdict not in (Verdict.GOOD, Verdict.TOUCHED)


def glance(path: Path, blob: BlobRecord) -> Finding:
    """Presence, size and time, against the record and the last check; no byte is read."""
    found = _stat(path, blob)
    if isinstance(found, Finding):
        return found
    then = blob.check.mtime_ns
    if then is not None and abs(then - found.mtime_ns) > COARSEST_TIME:
        return Finding(blob, Verdict.TOUCHED, "has another time than when it was last hashed", found)
    return Finding(blob, Verdict.GOOD, identity=found)


def study(path: Path, blob: BlobRecord, *, md5: bool, advance: Callable[[int], None]) -> Finding:
    """Presence, size, and the digests of every byte.

    Args:
        md5: check the MD5 also where a SHA-256 is on record.
        advance: called with the bytes of each piece that was hashed; may raise to end the work.
    """
    first = _attempt(path, blob, both=md5 or not blob.sha256, advance=advance)
    if first.verdict not in (Verdict.CONTENT, Verdict.FORGED, Verdict.UNREADABLE):
        return first
    # Once more with both digests, and from the disk: a page that went bad in memory is no damage to the blob.
    second = _attempt(path, blob, both=True, advance=lambda _: advance(0), fresh=True)
    if second.verdict is not Verdict.GOOD:
        return second
    reason = f"was read wrong once and right the second time (first: it {first.reason}); this machine's memory or disk"
    return Finding(blob, Verdict.GOOD, f"{reason} may be failing", second.identity, second.hashed)


def _attempt(
    path: Path, blob: BlobRecord, *, both: bool, advance: Callable[[int], None], fresh: bool = False
) -> Finding:
    """One reading; begun anew when the file is replaced meanwhile, as a sync beside us may do."""
    for _ in range(_TRIES):
        found = _stat(path, blob)
        if isinstance(found, Finding):
            return found
        try:
            md5, sha256, identity = _hash(path, both=both, advance=advance, fresh=fresh)
        except FileNotFoundError:
            continue
        except OSError as error:
            return _unread(blob, error, found)
        if identity == found and _still(path, found):
            return judge(blob, md5, sha256, found)
    return Finding(blob, Verdict.REFUSED, "changes while it is read")


def judge(blob: BlobRecord, md5: str | None, sha256: str, identity: Identity) -> Finding:
    """The verdict on digests. `md5` is None when the SHA-256 alone decides."""
    right_md5 = md5 is None or md5 == blob.md5
    right_sha256 = not blob.sha256 or blob.sha256 == (sha256,)
    if right_md5 and right_sha256:
        return Finding(blob, Verdict.GOOD, identity=identity, hashed=identity.size)
    if right_md5 and md5 is not None:
        reason = f"has the MD5 that it should and another SHA-256: {sha256} instead of {' and '.join(blob.sha256)}"
        return Finding(blob, Verdict.FORGED, reason, identity, identity.size)
    return Finding(blob, Verdict.CONTENT, "does not match its digest", identity, identity.size)


def _stat(path: Path, blob: BlobRecord) -> Identity | Finding:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Finding(blob, Verdict.MISSING, "is missing")
    except OSError as error:
        return _unread(blob, error, None)
    identity = Identity.of(found)
    if not stat.S_ISREG(found.st_mode):
        return Finding(blob, Verdict.NO_FILE, f"is {kind_of(found.st_mode)}", identity)
    if found.st_size != blob.size:
        return Finding(blob, Verdict.SIZE, f"has {found.st_size} bytes instead of {blob.size}", identity)
    return identity


def _unread(blob: BlobRecord, error: OSError, identity: Identity | None) -> Finding:
    verdict = Verdict.REFUSED if error.errno in _REFUSED else Verdict.UNREADABLE
    return Finding(blob, verdict, f"cannot be read: {error.strerror or error}", identity)


def _still(path: Path, identity: Identity) -> bool:
    try:
        return Identity.of(os.lstat(path)) == identity
    except OSError:
        return False


def _hash(path: Path, *, both: bool, advance: Callable[[int], None], fresh: bool) -> tuple[str | None, str, Identity]:
    """MD5 (when asked for), SHA-256 and identity of an open file, in constant memory."""
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False) if both else None
    with open_regular(path) as stream:
        # No more than the file needs: to clear a large buffer takes longer than to hash a small file.
        buffer = bytearray(min(_READ, os.fstat(stream.fileno()).st_size + 1))
        view = memoryview(buffer)
        if fresh and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while count := stream.readinto(buffer):
            sha256.update(view[:count])
            if md5 is not None:
                md5.update(view[:count])
            advance(count)
        identity = Identity.of(os.fstat(stream.fileno()))
    return (None if md5 is None else md5.hexdigest()), sha256.hexdigest(), identity
