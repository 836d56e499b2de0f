"""Decides whether a file fits, by the free space, the floor and the quota: before it is begun and while it is fetched.

`statvfs` gives a guess that other writers make worse, and some file systems do not answer it. So every write must still
expect a full disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import NoSpaceError
from ..units import format_size
from .parts import coming_elsewhere
from .root import RootWatch, inventory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .layout import Layout

_EVERY = 8 << 20
_COUNT_AFTER = 1.0
"""Seconds after which the blobs are counted again before a file is admitted, as other processes store blobs too."""
_LARGE = 0.01
"""The blobs are counted again for a file larger than this share of the quota."""
_MOMENT = 1.0
"""Seconds to wait for files that are whole to be published and reported by `stored`."""
_NEAR = 0.9
"""The blobs are counted again for every file that would take the store above this share of the quota."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """The operator's limits in bytes: `floor` must stay free on the disk, `quota` is the most that blobs may take."""

    floor: int = 0
    quota: int | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """Space in bytes: free on the disk (None when unknown), used by blobs, and promised to other files."""

    free: int | None
    used: int = 0
    promised: int = 0


def misfit(size: int, space: Space, limits: StoreLimits) -> tuple[str, str] | None:
    """Returns why `size` more bytes do not fit, as a scope of `NoSpaceError` and in words; None when they fit.

    For a file that is partly on the disk, `size` is the rest. `space.promised` counts other files only.
    """
    if limits.quota is not None and space.used + space.promised + size > limits.quota:
        taken = space.used + space.promised
        return "quota", (
            f"the quota of {format_size(limits.quota)} is used up: {format_size(size)} are needed and "
            f"{format_size(max(0, limits.quota - taken))} are left"
        )
    if space.free is None:
        return None
    left = space.free - space.promised
    if left - size >= limits.floor:
        return None
    floor = f", of which store.min_free keeps {format_size(limits.floor)}" if limits.floor else ""
    return "file", (
        f"no space left: {format_size(size)} are needed and {format_size(max(0, left))} are free on its disk{floor}"
    )


def free_space(path: Path) -> int | None:
    """Returns the bytes that this account may still write; None when the file system does not tell.

    A file system that claims to have no blocks counts as not telling: BlobFuse claims that for a container with free
    space (huggingface_hub#3097).
    """
    try:
        found = os.statvfs(path)
    except (OSError, AttributeError):
        return None
    return found.f_bavail * found.f_frsize if found.f_blocks else None


class Reservation:
    """The disk space reserved for one file that is being fetched."""

    def __init__(self, room: DiskBudget) -> None:
        self._budget = room
        self.size, self.done = 0, 0
        self._asked = 0

    @property
    def promised(self) -> int:
        """Bytes that the file will still take from the disk; 0 when its length is not known."""
        return max(0, self.size - self.done)

    def admit(self, size: int | None, done: int = 0) -> None:
        """Reserves space for a file.

        Args:
            size: bytes of the whole file; None when its length is not known.
            done: bytes of it that are on the disk already.

        Raises:
            NoSpaceError: the file does not fit.
            StoreError: the root is no longer the same folder.
        """
        self._budget.root.check()
        self.size, self.done, self._asked = 0, done, done
        self._budget.admit(self, size or 0)

    def stored(self, size: int) -> None:
        """Ends the reservation, because the file is now a blob of `size` bytes and counts as such."""
        self._budget.stored(self, size)

    def came(self, done: int) -> None:
        """Notes how many bytes were received so far. Checks the floor and the quota every 8 MiB.

        Raises:
            NoSpaceError: less than the floor is free by now, or the quota is used up.
        """
        self.done = done
        if done - self._asked >= _EVERY:
            self._asked = done
            self._budget.look(self)


class DiskBudget:
    """The disk space of one root. Threads share it, and so does all code in this process that uses `open_budget`."""

    def __init__(self, layout: Layout, limits: StoreLimits) -> None:
        self._layout, self._limits = layout, limits
        self.root = RootWatch(layout.root)
        self._lock = threading.Condition()
        self._reservations: set[Reservation] = set()
        self._told: int | None = None
        self._used = 0
        self._counted_at: float | None = None

    @contextlib.contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Yields a reservation for one file. It ends with the block, or when `Reservation.stored` is called."""
        reservation = Reservation(self)
        with self._lock:
            self._reservations.add(reservation)
        try:
            yield reservation
        finally:
            with self._lock:
                self._reservations.discard(reservation)
                self._lock.notify_all()

    def stored(self, reservation: Reservation, size: int) -> None:
        """Replaces a reservation by its blob of `size` bytes under one lock, so that it always counts exactly once."""
        with self._lock:
            self._reservations.discard(reservation)
            self._used += size
            if self._told is not None:
                self._told += size
            self._lock.notify_all()

    def admit(self, reservation: Reservation, size: int) -> None:
        """Reserves `size` bytes for a file, or raises NoSpaceError."""
        with self._lock:
            needed = max(0, size - reservation.done)
            space = self._with_others(reservation)
            if self._is_doubtful(needed, space):
                space = self._counted_anew(reservation)
            refusal = misfit(needed, space, self._limits)
            whole = [other for other in self._reservations if other is not reservation and 0 < other.size <= other.done]
            less = Space(space.free, space.used - sum(other.done for other in whole), space.promised)
            if refusal and whole and not misfit(needed, less, self._limits):
                # Whole files may be published but not yet reported, and then count twice. Wait for their reports.
                self._lock.wait_for(lambda: self._reservations.isdisjoint(whole), _MOMENT)
                refusal = misfit(needed, self._counted_anew(reservation), self._limits)
            if refusal is None:
                reservation.size = size
                return
        raise _no_space(*refusal)

    def _counted_anew(self, reservation: Reservation) -> Space:
        self._counted_at = None
        return self._with_others(reservation)

    def look(self, reservation: Reservation) -> None:
        """Checks whether a file that is being fetched still fits. Raises NoSpaceError when it does not."""
        with self._lock:
            space = self._space(reservation)
            refusal = misfit(reservation.promised, Space(None, space.used, space.promised), self._limits)
            if refusal is None and not reservation.size:
                # A file of unknown length may never end. It must leave the floor and what other files were promised.
                refusal = misfit(2 * _EVERY, Space(space.free, 0, space.promised), StoreLimits(self._limits.floor))
        if refusal is not None:
            raise _no_space(*refusal)
        if space.free is not None and space.free < self._limits.floor:
            floor = format_size(self._limits.floor)
            raise _no_space("disk", f"no space left: less than store.min_free ({floor}) is free on the root's disk")

    def _space(self, reservation: Reservation) -> Space:
        others = [other for other in self._reservations if other is not reservation]
        if self._limits.quota is None:
            return Space(free_space(self._layout.root), 0, sum(other.promised for other in others))
        if self._counted_at is None:
            self._used = sum(inventory(self._layout).values())
            self._told = self._used if self._told is None else self._told
            self._counted_at = time.monotonic()
        come = sum(each.done for each in self._reservations)
        used = max(self._used, self._told or 0)  # a count may miss blobs that this process stored
        return Space(free_space(self._layout.root), used + come, sum(other.promised for other in others))

    def _is_doubtful(self, needed: int, space: Space) -> bool:
        """Returns whether the blobs must be counted again: the count is old, or the file is large or near the quota.

        A count takes milliseconds, so the many small files of a run share one while the store is far from its quota.
        """
        quota = self._limits.quota
        if quota is None or self._counted_at is None:
            return False
        old = time.monotonic() - self._counted_at > _COUNT_AFTER
        return old or needed > _LARGE * quota or space.used + space.promised + needed > _NEAR * quota

    def _with_others(self, reservation: Reservation) -> Space:
        """Returns the space, and adds to it what other processes are fetching now when there is a quota."""
        if self._limits.quota is None:
            return self._space(reservation)
        used = promised = 0
        # Read this before counting the blobs: a file that is published in between counts twice rather than never.
        for found, whole in coming_elsewhere(self._layout.incoming):
            used += found
            promised += whole - found
        space = self._space(reservation)
        return Space(space.free, space.used + used, space.promised + promised)


_budgets: dict[tuple[Path, StoreLimits], tuple[DiskBudget, int]] = {}
_budgets_lock = threading.Lock()


@contextlib.contextmanager
def open_budget(layout: Layout, limits: StoreLimits) -> Iterator[DiskBudget]:
    """Yields the disk budget of a root. All callers in this process with the same root and limits share it.

    Two budgets would promise the same bytes twice.
    """
    key = layout.root, limits
    with _budgets_lock:
        budget, holders = _budgets.get(key) or (DiskBudget(layout, limits), 0)
        _budgets[key] = budget, holders + 1
    try:
        yield budget
    finally:
        with _budgets_lock:
            budget, holders = _budgets.pop(key)
            if holders > 1:
                _budgets[key] = budget, holders - 1


def _no_space(scope: str, reason: str) -> NoSpaceError:
    if scope == "quota":
        hint = "`mirror gc` makes room by its plan (--dry-run shows it), or raise store.quota"
    else:
        hint = "free some space (`mirror gc --dry-run` shows what can go), then run again: what is finished is kept"
    return NoSpaceError(reason, hint=hint, scope=scope)
