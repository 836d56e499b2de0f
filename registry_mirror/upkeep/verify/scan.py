"""Looking at stored files: one look at one file, and many of them on threads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import queue
import stat
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ...environment import cores
from ...errors import Interrupted
from ...files import kind_of, open_regular
from ...status import COARSEST_TIME
from .plan import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ...model import BlobRecord
    from ...store.layout import Layout
    from ...sync.stop import Stop
    from .record import Watcher


_READ = 1 << 20
_TRIES = 3
_REFUSED = frozenset({errno.EACCES, errno.EPERM})


class BlobVerdict(StrEnum):
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
class FileIdentity:
    """What tells one file from another under the same name."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileIdentity:
        """The identity in a stat."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class BlobFinding:
    """What a look at a blob found.

    Attributes:
        reason: in words, to follow "its file"; empty for a good one that gave no trouble.
        identity: of the file that was looked at; None when there was none.
        hashed: bytes that were hashed.
    """

    blob: BlobRecord
    verdict: BlobVerdict
    reason: str = ""
    identity: FileIdentity | None = None
    hashed: int = 0

    @property
    def bad(self) -> bool:
        """Whether the blob cannot be relied on."""
        return self.verdict not in (BlobVerdict.GOOD, BlobVerdict.TOUCHED)


def glance(path: Path, blob: BlobRecord) -> BlobFinding:
    """Presence, size and time, against the record and the last check; no byte is read."""
    found = _stat(path, blob)
    if isinstance(found, BlobFinding):
        return found
    then = blob.check.mtime_ns
    if then is not None and abs(then - found.mtime_ns) > COARSEST_TIME:
        return BlobFinding(blob, BlobVerdict.TOUCHED, "has another time than when it was last hashed", found)
    return BlobFinding(blob, BlobVerdict.GOOD, identity=found)


def study(path: Path, blob: BlobRecord, *, md5: bool, advance: Callable[[int], None]) -> BlobFinding:
    """Presence, size, and the digests of every byte.

    Args:
        md5: check the MD5 also where a SHA-256 is on record.
        advance: called with the bytes of each piece that was hashed; may raise to end the work.
    """
    first = _attempt(path, blob, both=md5 or not blob.sha256, advance=advance)
    if first.verdict not in (BlobVerdict.CONTENT, BlobVerdict.FORGED, BlobVerdict.UNREADABLE):
        return first
    # Once more with both digests, and from the disk: a page that went bad in memory is no damage to the blob.
    second = _attempt(path, blob, both=True, advance=lambda _: advance(0), fresh=True)
    if second.verdict is not BlobVerdict.GOOD:
        return second
    reason = f"was read wrong once and right the second time (first: it {first.reason}); this machine's memory or disk"
    return BlobFinding(blob, BlobVerdict.GOOD, f"{reason} may be failing", second.identity, second.hashed)


def _attempt(
    path: Path, blob: BlobRecord, *, both: bool, advance: Callable[[int], None], fresh: bool = False
) -> BlobFinding:
    """One reading; begun anew when the file is replaced meanwhile, as a sync beside us may do."""
    for _ in range(_TRIES):
        found = _stat(path, blob)
        if isinstance(found, BlobFinding):
            return found
        try:
            md5, sha256, identity = _hash(path, both=both, advance=advance, fresh=fresh)
        except FileNotFoundError:
            continue
        except OSError as error:
            return _unread(blob, error, found)
        if identity == found and _still(path, found):
            return judge(blob, md5, sha256, found)
    return BlobFinding(blob, BlobVerdict.REFUSED, "changes while it is read")


def judge(blob: BlobRecord, md5: str | None, sha256: str, identity: FileIdentity) -> BlobFinding:
    """The verdict on digests. `md5` is None when the SHA-256 alone decides."""
    right_md5 = md5 is None or md5 == blob.md5
    right_sha256 = not blob.sha256 or blob.sha256 == (sha256,)
    if right_md5 and right_sha256:
        return BlobFinding(blob, BlobVerdict.GOOD, identity=identity, hashed=identity.size)
    if right_md5 and md5 is not None:
        reason = f"has the MD5 that it should and another SHA-256: {sha256} instead of {' and '.join(blob.sha256)}"
        return BlobFinding(blob, BlobVerdict.FORGED, reason, identity, identity.size)
    return BlobFinding(blob, BlobVerdict.CONTENT, "does not match its digest", identity, identity.size)


def _stat(path: Path, blob: BlobRecord) -> FileIdentity | BlobFinding:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return BlobFinding(blob, BlobVerdict.MISSING, "is missing")
    except OSError as error:
        return _unread(blob, error, None)
    identity = FileIdentity.of(found)
    if not stat.S_ISREG(found.st_mode):
        return BlobFinding(blob, BlobVerdict.NO_FILE, f"is {kind_of(found.st_mode)}", identity)
    if found.st_size != blob.size:
        return BlobFinding(blob, BlobVerdict.SIZE, f"has {found.st_size} bytes instead of {blob.size}", identity)
    return identity


def _unread(blob: BlobRecord, error: OSError, identity: FileIdentity | None) -> BlobFinding:
    verdict = BlobVerdict.REFUSED if error.errno in _REFUSED else BlobVerdict.UNREADABLE
    return BlobFinding(blob, verdict, f"cannot be read: {error.strerror or error}", identity)


def _still(path: Path, identity: FileIdentity) -> bool:
    try:
        return FileIdentity.of(os.lstat(path)) == identity
    except OSError:
        return False


def _hash(
    path: Path, *, both: bool, advance: Callable[[int], None], fresh: bool
) -> tuple[str | None, str, FileIdentity]:
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
        identity = FileIdentity.of(os.fstat(stream.fileno()))
    return (None if md5 is None else md5.hexdigest()), sha256.hexdigest(), identity


_STEP = 0.2
_GRACE = 5.0


class _TimeIsUp(Exception):  # noqa: N818 - no error: a reason to stop
    """The time limit has passed."""


class Scan:
    """Looks at blobs in their order, until they are done, the time is up or the end is asked for.

    Args:
        seconds: the time limit. One blob is finished whatever it takes: with a limit shorter than that, a large one
            would be begun by every run and finished by none.
        workers: threads; default: as many as this process may use cores.
    """

    def __init__(
        self,
        layout: Layout,
        watcher: Watcher,
        stop: Stop,
        *,
        quick: bool = False,
        md5: bool = False,
        seconds: float | None = None,
        workers: int | None = None,
    ) -> None:
        self._layout, self._watcher, self._stop = layout, watcher, stop
        self._quick, self._md5 = quick, md5
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._workers = workers or cores()
        self._done = 0
        self._ending = threading.Event()

    def findings(self, blobs: Sequence[BlobRecord]) -> Iterator[list[BlobFinding]]:
        """What was found, as it comes; a list is empty when nothing came for a moment. Blobs left out were not done."""
        coming = _Shared(blobs)
        found: queue.SimpleQueue[BlobFinding | BaseException] = queue.SimpleQueue()
        threads = [threading.Thread(target=self._work, args=(coming, found), daemon=True) for _ in range(self._workers)]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                self._stop.tick()
                yield _taken(found, _STEP)
                if self._stop.is_set():
                    self._let_end(threads)
                    break
            yield _taken(found, 0)
        finally:
            self._ending.set()

    def _let_end(self, threads: Sequence[threading.Thread]) -> None:
        """Waits for what ends soon; a read that hangs on a mount is not waited for."""
        until = time.monotonic() + _GRACE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, coming: _Shared, found: queue.SimpleQueue[BlobFinding | BaseException]) -> None:
        """What a thread does: one blob after another. A fault of ours ends the scan where it is seen."""
        try:
            while not self._over() and (blob := coming.take()) is not None:
                finding = self._look(blob)
                if finding is not None:
                    found.put(finding)
        except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
            found.put(error)

    def _over(self) -> bool:
        return self._stop.is_set() or (self._time_is_up() and self._done > 0)

    def _time_is_up(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _look(self, blob: BlobRecord) -> BlobFinding | None:
        try:
            self._advance(0)
            path = self._layout.blobs / name_of(blob)
            found = glance(path, blob) if self._quick else study(path, blob, md5=self._md5, advance=self._advance)
        except (_TimeIsUp, Interrupted):
            return None
        self._done += 1
        self._watcher.looked()
        return found

    def _advance(self, count: int) -> None:
        if self._ending.is_set() or self._stop.is_set():
            raise Interrupted("interrupted")
        if self._done > 0 and self._time_is_up():
            raise _TimeIsUp
        if count:
            self._watcher.advanced(count)


class _Shared:
    """A list that several threads take from, in its order."""

    def __init__(self, blobs: Iterable[BlobRecord]) -> None:
        self._coming = iter(blobs)
        self._lock = threading.Lock()

    def take(self) -> BlobRecord | None:
        """The next one; None at the end."""
        with self._lock:
            return next(self._coming, None)


def _taken(found: queue.SimpleQueue[BlobFinding | BaseException], timeout: float) -> list[BlobFinding]:
    """What lies in the queue, after at most `timeout` seconds without anything."""
    taken: list[BlobFinding] = []
    with contextlib.suppress(queue.Empty):
        each = found.get(timeout=timeout) if timeout else found.get_nowait()
        while True:
            if isinstance(each, BaseException):
                raise each
            taken.append(each)
            each = found.get_nowait()
    return taken
