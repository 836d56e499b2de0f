"""The blobs of one root: is one held, begin or go on with a part, put it under its name.

A blob under its MD5 is whole, or not there. The order is fsync, read-only, rename, fsync of the folder: a kill between
any two leaves at worst a file that nothing refers to. No lock is taken: two writers of one blob write the same bytes,
and a rename is one act. Room on the disk is reserved before a part is begun, and counts as a blob's once it has its
name.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from ..digests import digest_file
from ..errors import IntegrityError, MirrorError
from ..files import (
    NotAFileError,
    fsync_directory,
    make_directory,
    no_space_named,
    open_regular,
    part_name,
    refuse_linked,
    regular_status,
    set_mode,
)
from .adopt import adopt
from .budget import open_budget
from .layout import blob_name
from .parts import Part
from .root import inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..digests import Digest
    from ..files import Modes
    from .adopt import ResumedPart
    from .budget import DiskBudget, Reservation, StoreLimits
    from .layout import Layout
    from .sidecar import Origin


def publish(layout: Layout, part: Part, digest: Digest, weights_format: str) -> bool:
    """Moves a whole and checked part to its name.

    Returns:
        Whether bytes were published; False when the same blob was there already and the part was dropped.

    Raises:
        IntegrityError: a blob with this MD5 and another SHA-256 is there: somebody made two contents with one MD5.
        NoSpaceError: the disk is full.
    """
    blob = layout.blob(digest.md5, weights_format)
    try:
        present = examine(layout, digest.md5, weights_format)
        if present is not None:
            _refuse_twin(present, digest)
            make_durable(blob)
            part.discard()
            return False
        with no_space_named(str(blob)):
            _rename(part, blob)
    except BaseException:
        part.discard()
        raise
    return True


def _refuse_twin(present: Digest, digest: Digest) -> None:
    if present.sha256 != digest.sha256:
        raise IntegrityError(
            f"two different contents have the MD5 {digest.md5}: SHA-256 {present.sha256} is in the store, "
            f"{digest.sha256} was fetched",
            hint="one of them was made to deceive: find out which before you use either",
        )


def _rename(part: Part, blob: Path) -> None:
    descriptor = part.stream.fileno()
    # 0444 less the umask, which the kernel has already taken from the mode that the file was created with.
    mode = part.modes.blob if part.modes.exact else stat.S_IMODE(os.fstat(descriptor).st_mode) & part.modes.blob
    set_mode(descriptor, mode)
    os.fsync(descriptor)
    make_directory(blob.parent, part.modes)
    refuse_linked(blob.parent)
    os.replace(part.path, blob)
    part.close()
    _make_name_durable(blob)


def _make_name_durable(blob: Path) -> None:
    fsync_directory(blob.parent)
    fsync_directory(blob.parent.parent)


def make_durable(blob: Path) -> None:
    """Makes durable a blob that somebody else has left: one killed after the rename has not synced the folder.

    A row must not outlive the name that it speaks of. Bytes that an operator copied there may be in memory only.
    """
    with contextlib.suppress(FileNotFoundError):
        with open_regular(blob) as stream:
            os.fsync(stream.fileno())
        _make_name_durable(blob)


def examine(layout: Layout, md5: str, weights_format: str) -> Digest | None:
    """Hashes the blob under a name, for one that the catalog does not vouch for.

    Returns:
        Its digests; None when there is none, or when it was damaged and has been moved to `quarantine/`. What was
        put in its place while it was hashed is left alone.
    """
    blob = layout.blob(md5, weights_format)
    _refuse_odd_folder(blob.parent)
    try:
        hashed = os.lstat(blob)
        present = digest_file(blob)
    except FileNotFoundError:
        return None
    except NotAFileError:  # would stand in the way of the file for ever
        present = None
    if present is not None and present.md5 == md5:
        return present
    quarantine_only(layout, blob, lambda found: _traits(found) == _traits(hashed))
    return None


def _refuse_odd_folder(folder: Path) -> None:
    """One thing that is no folder of ours costs the models whose blobs would lie in it, and no others.

    Raises:
        MirrorError: it is a link, or no folder.
    """
    try:
        refuse_linked(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise MirrorError(
            f"no blob can be kept in {folder}: {error.strerror}", hint="move it away, then run again"
        ) from error


def _traits(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def touch(layout: Layout, md5: str, weights_format: str) -> None:
    """Marks a blob that is about to be wanted again, so that a `gc` which is about to take it sees that it must not.

    The time of access is set, and with it the system sets the time of change; the time of modification, by which a
    scrub knows a file again, stays. Another account's file cannot be marked, and one that is gone need not be: its
    row is not written then.
    """
    blob = layout.blob(md5, weights_format)
    with contextlib.suppress(OSError):
        os.utime(blob, ns=(time.time_ns(), regular_status(blob).st_mtime_ns), follow_symlinks=False)


def quarantine(layout: Layout, blob: Path) -> Path:
    """Moves bytes that no longer match their name out of the way, kept for a look."""
    kept = layout.quarantine / f"{blob.name}.{part_name('bad').removesuffix('.part')}"
    refuse_linked(blob.parent, kept.parent)
    os.replace(blob, kept)
    fsync_directory(blob.parent)
    return kept


def quarantine_only(layout: Layout, blob: Path, is_it: Callable[[os.stat_result], bool]) -> Path | None:
    """Moves a file out of the way if it is still the one that was found bad.

    It is asked before and after: a writer may publish whole bytes under the name at any moment, and those are put back.

    Returns:
        Where it is kept; None when another file has the name now, or none.
    """
    try:
        if not is_it(os.lstat(blob)):
            return None
        kept = quarantine(layout, blob)
    except FileNotFoundError:
        return None
    if is_it(os.lstat(kept)):
        return kept
    os.replace(kept, blob)
    fsync_directory(blob.parent)
    return None


class Blobs:
    """The store of one root, open for writing. Threads share it; see `open_blobs`."""

    def __init__(self, layout: Layout, modes: Modes, budget: DiskBudget) -> None:
        self._layout, self._modes, self._budget = layout, modes, budget

    def sizes(self) -> dict[str, int]:
        """The names of all blobs (`ab/abcdef….onnx`) with their sizes in bytes. No file is opened."""
        return inventory(self._layout)

    def holds(self, md5: str, weights_format: str, size: int) -> bool:
        """Whether there is a blob of this name with so many bytes. It is not read."""
        with contextlib.suppress(OSError):
            return regular_status(self._layout.blobs / blob_name(md5, weights_format)).st_size == size
        return False

    def has_name(self, md5: str, weights_format: str) -> bool:
        """Whether anything lies under a blob's name."""
        return os.path.lexists(self._layout.blob(md5, weights_format))

    def examine(self, md5: str, weights_format: str) -> Digest | None:
        """Hashes a blob that nothing vouches for, and makes its name durable when it is whole.

        Returns:
            Its digests; None when there is none, or when it was damaged and was moved to `quarantine/`.
        """
        digest = examine(self._layout, md5, weights_format)
        if digest is not None:
            make_durable(self._layout.blob(md5, weights_format))
        return digest

    def touch(self, md5: str, weights_format: str) -> None:
        """Marks a blob that is about to be wanted again, so that a `gc` which is about to take it sees it."""
        touch(self._layout, md5, weights_format)

    @contextlib.contextmanager
    def incoming(self) -> Iterator[IncomingBlob]:
        """One blob on its way in. Its room is given back at the end of the block, or counts as a blob's by then."""
        with self._budget.reserve() as reservation:
            yield IncomingBlob(self._layout, self._modes, reservation)


class IncomingBlob:
    """One blob on its way in, with the room that is reserved for it."""

    def __init__(self, layout: Layout, modes: Modes, reservation: Reservation) -> None:
        self._layout, self._modes, self._reservation = layout, modes, reservation

    def begin(self, size: int | None, origin: Origin | None) -> Part:
        """A new, empty part.

        Args:
            size: bytes of the whole; None when storage does not say.
            origin: lets a later fetch go on with the part; None when it could not rely on it.

        Raises:
            NoSpaceError: it does not fit.
            StoreError: the root is no longer there.
        """
        self._reservation.admit(size)
        part = Part(self._layout.incoming, self._modes, origin=origin)
        try:
            # Once more: of two processes that ask at the same time, the later one sees the other's part now.
            self._reservation.admit(size)
        except MirrorError:
            part.discard()
            raise
        return part

    def resume(self, key: str, progress: Callable[[int, int], None]) -> ResumedPart | None:
        """The beginning that an earlier fetch left of these weights, copied and hashed; None when there is none.

        Args:
            key: `model id/format`.
            progress: called with the bytes copied so far and those of the whole, once for each MiB; may raise.

        Raises:
            NoSpaceError: the rest does not fit; the beginning stays for a later fetch.
        """
        found = adopt(self._layout.incoming, self._modes, key, progress)
        if found is not None:
            try:
                self._reservation.admit(found.origin.size, found.hasher.size)
            except MirrorError:
                found.part.keep()
                raise
        return found

    def came(self, done: int) -> None:
        """Tells how many bytes have come.

        Raises:
            NoSpaceError: the disk has filled up to the floor in the meantime, or the quota is used up.
        """
        self._reservation.came(done)

    def put(self, part: Part, digest: Digest, weights_format: str) -> bool:
        """Gives a whole and checked part its name. On any error the part is discarded.

        Returns:
            False when the same blob was there already and the part was dropped.

        Raises:
            IntegrityError: a blob with this MD5 and another SHA-256 is there.
            NoSpaceError: it does not fit.
        """
        try:
            if digest.size > self._reservation.size:  # its length was not known, or not all of it was told
                self._reservation.admit(digest.size, digest.size)
        except MirrorError:
            part.discard()
            raise
        published = publish(self._layout, part, digest, weights_format)
        if published:
            self._reservation.stored(digest.size)
        return published


@contextlib.contextmanager
def open_blobs(layout: Layout, modes: Modes, limits: StoreLimits) -> Iterator[Blobs]:
    """Opens the store for writing. All who have it open in this process share one disk budget."""
    with open_budget(layout, limits) as budget:
        yield Blobs(layout, modes, budget)
