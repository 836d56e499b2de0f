"""Whether a file fits, asked before it is begun and again while it comes: free space, the floor and the quota.

What `statvfs` says is a guess that other writers make worse, and some file systems say nothing at all: a full disk is
still met, and named, where it is written to.
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
"""Seconds after which a count of the blobs is too old to admit a file by: other processes publish as well."""
_LARGE = 0.01
"""The share of the quota from which on a file gets a count of its own: a hundred of them fit."""
_MOMENT = 1.0
"""Seconds that a file may take from its publication until it is told."""
_NEAR = 0.9
"""The share of the quota from which on no count is good enough but a new one."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What the operator allows, in bytes: `floor` stays free on the disk, `quota` is the most that blobs may take."""

    floor: int = 0
    quota: int | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """How things are, in bytes: free on the disk (None: it does not say), taken by blobs, promised to other files."""

    free: int | None
    used: int = 0
    promised: int = 0


def misfit(size: int, space: Space, limits: StoreLimits) -> tuple[str, str] | None:
    """Why a file of `size` bytes must not be begun, as a scope of `NoSpaceError` and in words; None when it may.

    Of a file that is there in part, `size` is the rest. `space.promised` counts other files only.
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
    """Bytes that this account may still write; None when the file system does not tell.

    One that has no blocks at all is not believed: BlobFuse says so of a container with room (huggingface_hub#3097).
    """
    try:
        found = os.statvfs(path)
    except (OSError, AttributeError):
        return None
    return found.f_bavail * found.f_frsize if found.f_blocks else None


class Reservation:
    """One file on its way in."""

    def __init__(self, room: DiskBudget) -> None:
        self._budget = room
        self.size, self.done = 0, 0
        self._asked = 0

    @property
    def promised(self) -> int:
        """Bytes that it will still take from the disk, as far as its length is known."""
        return max(0, self.size - self.done)

    def admit(self, size: int | None, done: int = 0) -> None:
        """Asks for room for a file of `size` bytes, `done` of which are on the disk; None when its length is not known.

        Raises:
            NoSpaceError: it does not fit.
            StoreError: the root is no longer there.
        """
        self._budget.root.check()
        self.size, self.done, self._asked = 0, done, done
        self._budget.admit(self, size or 0)

    def stored(self, size: int) -> None:
        """Tells that its blob of `size` bytes has been published: it counts as a blob from now on."""
        self._budget.stored(self, size)

    def came(self, done: int) -> None:
        """Tells how much has come. Every few megabytes the floor is looked at, and the quota.

        Raises:
            NoSpaceError: the disk has filled up to the floor in the meantime.
        """
        self.done = done
        if done - self._asked >= _EVERY:
            self._asked = done
            self._budget.look(self)


class DiskBudget:
    """The room of one root. Threads share it, and so do all who have the root open in this process (`open_budget`)."""

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
        """Room for one file, until its blob counts (`Reservation.stored`) or the block ends, which gives it back."""
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
        """Counts a blob in the place of its reservation, as one act, so that it counts once at every moment."""
        with self._lock:
            self._reservations.discard(reservation)
            self._used += size
            if self._told is not None:
                self._told += size
            self._lock.notify_all()

    def admit(self, reservation: Reservation, size: int) -> None:
        """Promises `size` bytes to a file, or refuses."""
        with self._lock:
            needed = max(0, size - reservation.done)
            space = self._with_others(reservation)
            if self._is_doubtful(needed, space):
                space = self._counted_anew(reservation)
            refusal = misfit(needed, space, self._limits)
            whole = [other for other in self._reservations if other is not reservation and 0 < other.size <= other.done]
            less = Space(space.free, space.used - sum(other.done for other in whole), space.promised)
            if refusal and whole and not misfit(needed, less, self._limits):
                # They have come and may be among the blobs already, and so count twice: they tell in a moment.
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
        """Looks whether a file that is coming may go on."""
        with self._lock:
            space = self._space(reservation)
            refusal = misfit(reservation.promised, Space(None, space.used, space.promised), self._limits)
            if refusal is None and not reservation.size:
                # It may have no end: the last of the disk is not for it, nor what others were promised.
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
        used = max(self._used, self._told or 0)  # what this process has stored counts, whatever a count finds
        return Space(free_space(self._layout.root), used + come, sum(other.promised for other in others))

    def _is_doubtful(self, needed: int, space: Space) -> bool:
        """Whether the blobs must be counted again: the count is old, or others may have published what tips the scale.

        A count takes milliseconds, so the many small files of a run share one, as long as there is room.
        """
        quota = self._limits.quota
        if quota is None or self._counted_at is None:
            return False
        old = time.monotonic() - self._counted_at > _COUNT_AFTER
        return old or needed > _LARGE * quota or space.used + space.promised + needed > _NEAR * quota

    def _with_others(self, reservation: Reservation) -> Space:
        """With what other processes fetch at this moment, as far as it concerns the quota."""
        if self._limits.quota is None:
            return self._space(reservation)
        used = promised = 0
        # Before blobs are counted: what is published in between counts twice rather than never.
        for found, whole in coming_elsewhere(self._layout.incoming):
            used += found
            promised += whole - found
        space = self._space(reservation)
        return Space(space.free, space.used + used, space.promised + promised)


_budgets: dict[tuple[Path, StoreLimits], tuple[DiskBudget, int]] = {}
_budgets_lock = threading.Lock()


@contextlib.contextmanager
def open_budget(layout: Layout, limits: StoreLimits) -> Iterator[DiskBudget]:
    """The room of a root: one for all in this process that have the root open, so that no two give the same bytes."""
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
