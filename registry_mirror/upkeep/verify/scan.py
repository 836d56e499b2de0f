"""Checks stored files: a single one, or many on several threads."""

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
    """The result of checking a blob. All but the first two are bad."""

    GOOD = "good"
    TOUCHED = "touched"
    """A quick verify found another modification time than the last check. Only hashing can tell if the blob is good."""
    MISSING = "missing"
    SIZE = "size"
    CONTENT = "content"
    FORGED = "forged"
    """The MD5 is right and the SHA-256 is wrong: somebody forged the file, or the record is damaged."""
    NO_FILE = "not a file"
    UNREADABLE = "unreadable"
    """Reading fails with an I/O error."""
    REFUSED = "refused"
    """This account may not read the file, or the file changes all the time, so nothing is known."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Values that tell a file from another one under the same name."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileIdentity:
        """Makes the identity from a stat result."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class BlobFinding:
    """The finding about one blob.

    Attributes:
        reason: in words that follow "its file"; empty when there is nothing to report.
        identity: of the file that was checked; None when it could not be looked at.
        hashed: number of bytes hashed.
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
    """Compares presence, size and modification time with the record, without reading the file."""
    found = _stat(path, blob)
    if isinstance(found, BlobFinding):
        return found
    then = blob.check.mtime_ns
    if then is not None and abs(then - found.mtime_ns) > COARSEST_TIME:
        return BlobFinding(blob, BlobVerdict.TOUCHED, "has another time than when it was last hashed", found)
    return BlobFinding(blob, BlobVerdict.GOOD, identity=found)


def study(path: Path, blob: BlobRecord, *, md5: bool, advance: Callable[[int], None]) -> BlobFinding:
    """Compares presence, size and digests with the record. Reads the whole file.

    Args:
        path: of the blob's file.
        blob: its record.
        md5: check the MD5 even when a SHA-256 is on record.
        advance: called with the number of bytes of each hashed piece; may raise to end the work.
    """
    first = _attempt(path, blob, both=md5 or not blob.sha256, advance=advance)
    if first.verdict not in (BlobVerdict.CONTENT, BlobVerdict.FORGED, BlobVerdict.UNREADABLE):
        return first
    # Reads again with both digests, and from the disk: a page that went bad in memory does not mean a damaged blob.
    second = _attempt(path, blob, both=True, advance=lambda _: advance(0), fresh=True)
    if second.verdict is not BlobVerdict.GOOD:
        return second
    reason = f"was read wrong once and right the second time (first: it {first.reason}); this machine's memory or disk"
    return BlobFinding(blob, BlobVerdict.GOOD, f"{reason} may be failing", second.identity, second.hashed)


def _attempt(
    path: Path, blob: BlobRecord, *, both: bool, advance: Callable[[int], None], fresh: bool = False
) -> BlobFinding:
    """Reads and hashes the file once. Starts again if the file is replaced meanwhile, which a running sync may do."""
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
    """Judges a file by its digests. `md5` is None when only the SHA-256 was computed."""
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
    """Computes MD5 (if `both`), SHA-256 and identity of a file in constant memory. `fresh` drops its cached pages."""
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False) if both else None
    with open_regular(path) as stream:
        # Not larger than the file: clearing a large buffer takes longer than hashing a small file.
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


class _TimeIsUp(Exception):  # noqa: N818 - not an error, but a reason to stop
    """The time limit has passed."""


class Scan:
    """Checks blobs in the given order until all are done, the time is up, or a stop is requested.

    Args:
        layout: of the root.
        watcher: receives the progress.
        stop: tells when a stop is requested.
        quick: compare presence, size and time only.
        md5: check the MD5 even when a SHA-256 is on record.
        seconds: the time limit. At least one blob is finished, however long that takes: otherwise every run might
            start the same large blob, and none would finish it.
        workers: number of threads; by default one for each core that this process may use.
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
        """Yields the findings as they come; an empty list when there were none for a moment.

        Blobs without a finding were not checked.
        """
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
        """Waits a few seconds for the threads to end, and no longer: a read may hang on a network mount."""
        until = time.monotonic() + _GRACE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, coming: _Shared, found: queue.SimpleQueue[BlobFinding | BaseException]) -> None:
        """Runs on each thread: checks one blob after another. An exception is raised in `findings`."""
        try:
            while not self._over() and (blob := coming.take()) is not None:
                finding = self._look(blob)
                if finding is not None:
                    found.put(finding)
        except BaseException as error:  # noqa: BLE001 - `_taken` raises it on the main thread
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
    """A list of blobs from which several threads take one after another."""

    def __init__(self, blobs: Iterable[BlobRecord]) -> None:
        self._coming = iter(blobs)
        self._lock = threading.Lock()

    def take(self) -> BlobRecord | None:
        """The next blob; None at the end."""
        with self._lock:
            return next(self._coming, None)


def _taken(found: queue.SimpleQueue[BlobFinding | BaseException], timeout: float) -> list[BlobFinding]:
    """Takes everything from the queue. If it is empty, waits up to `timeout` seconds for a first finding."""
    taken: list[BlobFinding] = []
    with contextlib.suppress(queue.Empty):
        each = found.get(timeout=timeout) if timeout else found.get_nowait()
        while True:
            if isinstance(each, BaseException):
                raise each
            taken.append(each)
            each = found.get_nowait()
    return taken
