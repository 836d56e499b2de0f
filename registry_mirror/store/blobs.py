"""The blobs of one root: looks them up, begins or continues part files, and moves whole ones to their names.

A file under a blob's name is always whole. To publish one, this makes it read-only, calls fsync, renames it and calls
fsync on the folder, so a kill between any two steps leaves at worst a file that nothing refers to. No lock is taken:
two writers of one blob write the same bytes, and a rename is atomic. Disk space is reserved before a part file is
begun, and counts as the blob's once the blob has its name.
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
    """Moves a whole and checked part file to its blob's name. On any error the part file is discarded.

    Returns:
        True when the part file became the blob; False when the store held the same blob and the part file was dropped.

    Raises:
        IntegrityError: the store holds a blob with this MD5 and another SHA-256, so somebody forged one of them.
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
    # 0444 less the umask. The kernel has already removed the umask's bits from the mode of the created file.
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
    """Calls fsync on a blob that another process stored, and on its folders. A missing blob is ignored.

    A writer killed after its rename has not synced the folder, and a file that an operator copied there may still be
    in memory only. After a power cut the catalog must not have a row for a blob that is gone.
    """
    with contextlib.suppress(FileNotFoundError):
        with open_regular(blob) as stream:
            os.fsync(stream.fileno())
        _make_name_durable(blob)


def examine(layout: Layout, md5: str, weights_format: str) -> Digest | None:
    """Hashes a blob that the catalog does not vouch for. Moves it to `quarantine/` when its bytes do not match its MD5.

    A file that replaced it while it was hashed is left alone.

    Returns:
        The blob's digests; None when it is missing or damaged.

    Raises:
        MirrorError: the blob's folder is a link or no folder.
    """
    blob = layout.blob(md5, weights_format)
    _refuse_odd_folder(blob.parent)
    try:
        hashed = os.lstat(blob)
        present = digest_file(blob)
    except FileNotFoundError:
        return None
    except NotAFileError:  # move it away as well: it would block the blob's name for ever
        present = None
    if present is not None and present.md5 == md5:
        return present
    quarantine_only(layout, blob, lambda found: _traits(found) == _traits(hashed))
    return None


def _refuse_odd_folder(folder: Path) -> None:
    """Refuses a blob folder that is a link or no folder. A MirrorError fails only the models with blobs in it.

    Raises:
        MirrorError: the folder is a link, or no folder.
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
    """Marks a blob that will get a row, so that a `gc` that is about to remove it leaves it.

    Sets the access time, and the system then sets the change time. The modification time stays, because a scrub
    recognises a file by it. Errors are ignored: another account's file cannot be marked, and a missing blob gets no
    row anyway.
    """
    blob = layout.blob(md5, weights_format)
    with contextlib.suppress(OSError):
        os.utime(blob, ns=(time.time_ns(), regular_status(blob).st_mtime_ns), follow_symlinks=False)


def quarantine(layout: Layout, blob: Path) -> Path:
    """Moves a damaged blob to `quarantine/`, where an operator can examine it. Returns its new path."""
    kept = layout.quarantine / f"{blob.name}.{part_name('bad').removesuffix('.part')}"
    refuse_linked(blob.parent, kept.parent)
    os.replace(blob, kept)
    fsync_directory(blob.parent)
    return kept


def quarantine_only(layout: Layout, blob: Path, is_it: Callable[[os.stat_result], bool]) -> Path | None:
    """Moves a file to `quarantine/` if it is still the one that was found bad.

    A writer may publish a whole blob under the name at any moment. So `is_it` is called before and after the move, and
    a file that proves to be another one is moved back.

    Returns:
        The file's new path; None when the name is free or belongs to another file now.
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
    """The store of one root, open for writing. Threads may share it. `open_blobs` makes one."""

    def __init__(self, layout: Layout, modes: Modes, budget: DiskBudget) -> None:
        self._layout, self._modes, self._budget = layout, modes, budget

    def sizes(self) -> dict[str, int]:
        """Returns the sizes in bytes of all blobs by their names (`ab/abcdef….onnx`). No file is opened."""
        return inventory(self._layout)

    def holds(self, md5: str, weights_format: str, size: int) -> bool:
        """Returns whether the store has a blob of this name and size. The blob is not read."""
        with contextlib.suppress(OSError):
            return regular_status(self._layout.blobs / blob_name(md5, weights_format)).st_size == size
        return False

    def has_name(self, md5: str, weights_format: str) -> bool:
        """Returns whether anything has the blob's name, be it a file, a folder or a broken link."""
        return os.path.lexists(self._layout.blob(md5, weights_format))

    def examine(self, md5: str, weights_format: str) -> Digest | None:
        """Hashes a blob that the catalog does not vouch for, and makes it durable when it is whole.

        Returns:
            The blob's digests; None when it is missing, or was damaged and moved to `quarantine/`.
        """
        digest = examine(self._layout, md5, weights_format)
        if digest is not None:
            make_durable(self._layout.blob(md5, weights_format))
        return digest

    def touch(self, md5: str, weights_format: str) -> None:
        """Marks a blob that will get a row, so that a `gc` that is about to remove it leaves it."""
        touch(self._layout, md5, weights_format)

    @contextlib.contextmanager
    def incoming(self) -> Iterator[IncomingBlob]:
        """Yields one incoming blob. Its reservation ends with the block, or earlier when the blob is stored."""
        with self._budget.reserve() as reservation:
            yield IncomingBlob(self._layout, self._modes, reservation)


class IncomingBlob:
    """One blob that is being fetched, with its reservation of disk space."""

    def __init__(self, layout: Layout, modes: Modes, reservation: Reservation) -> None:
        self._layout, self._modes, self._reservation = layout, modes, reservation

    def begin(self, size: int | None, origin: Origin | None) -> Part:
        """Reserves disk space and creates an empty part file.

        Args:
            size: bytes of the whole blob; None when storage does not declare it.
            origin: is written as the sidecar, so that a later fetch can continue the part file; None for no sidecar.

        Raises:
            NoSpaceError: the blob does not fit.
            StoreError: the root is no longer the same folder.
        """
        self._reservation.admit(size)
        part = Part(self._layout.incoming, self._modes, origin=origin)
        try:
            # Ask once more: when two processes ask at the same time, the later one sees the other's part file now.
            self._reservation.admit(size)
        except MirrorError:
            part.discard()
            raise
        return part

    def resume(self, key: str, progress: Callable[[int, int], None]) -> ResumedPart | None:
        """Copies and hashes the part file that an earlier fetch left of these weights. Returns None when there is none.

        Args:
            key: `model id/format`.
            progress: called with the bytes copied so far and the size of the whole, once for each MiB; may raise.

        Raises:
            NoSpaceError: the rest does not fit. The part file is kept for a later fetch.
            StoreError: the root is no longer the same folder.
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
        """Tells the reservation how many bytes were received so far.

        Raises:
            NoSpaceError: less than the floor is free by now, or the quota is used up.
        """
        self._reservation.came(done)

    def put(self, part: Part, digest: Digest, weights_format: str) -> bool:
        """Moves a whole and checked part file to its blob's name. On any error the part file is discarded.

        Returns:
            False when the store held the same blob already and the part file was dropped.

        Raises:
            IntegrityError: the store holds a blob with this MD5 and another SHA-256.
            NoSpaceError: the blob does not fit.
        """
        try:
            if digest.size > self._reservation.size:  # the length was not declared, or was declared too small
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
    """Opens the store for writing. All callers in this process that use the same limits share one disk budget."""
    with open_budget(layout, limits) as budget:
        yield Blobs(layout, modes, budget)
