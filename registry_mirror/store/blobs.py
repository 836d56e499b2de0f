"""The blobs of one root, as a fetch asks for them: is one held, begin or go on with a part, put it under its name.

Room on the disk is reserved before a part is begun, and counted as a blob once it has its name.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from ..errors import MirrorError
from ..files import regular_status
from .adopt import adopt
from .budget import open_budget
from .incoming import Part
from .layout import blob_name
from .publish import examine, inventory, make_durable, publish, touch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..digests import Digest
    from ..files import Modes
    from .adopt import Adopted
    from .budget import DiskBudget, Limits, Reservation
    from .layout import Layout
    from .origin import Origin


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

    def resume(self, key: str, progress: Callable[[int, int], None]) -> Adopted | None:
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
def open_blobs(layout: Layout, modes: Modes, limits: Limits) -> Iterator[Blobs]:
    """Opens the store for writing. All who have it open in this process share one disk budget."""
    with open_budget(layout, limits) as budget:
        yield Blobs(layout, modes, budget)
