"""What a verify looks at, in which order, and what it may believe. Pure: no clock, no disk.

A disk can be wrong as an upstream can: a mount that has gone shows an empty folder, and a failing controller cannot
read a single file. So blobs that cannot be seen or read are called lost only while they are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ...model import is_to_come
from ...store.layout import blob_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import timedelta

    from ...model import BlobRecord

LOSS_SHARE = 0.2
LOSS_COUNT = 5

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """What there is to do.

    Attributes:
        blobs: to look at, in this order.
        awaiting: blobs that are known to be lost, and of which nothing is here.
        unreferenced: names and sizes of blobs that nothing on record names.
    """

    blobs: tuple[BlobRecord, ...]
    awaiting: tuple[BlobRecord, ...]
    unreferenced: Mapping[str, int]


def plan(
    blobs: Collection[BlobRecord],
    present: Mapping[str, int],
    *,
    quick: bool = False,
    older_than: timedelta | None = None,
    now: datetime,
    everything: bool = True,
) -> VerifyPlan:
    """Decides what to look at.

    Args:
        blobs: those on record.
        present: what is in the store, as `inventory` tells.
        quick: nothing is hashed; so a blob that is known to be lost is not looked at, whatever lies in its place.
        older_than: only blobs whose last check is as long ago, or that were never checked. A check that is still to
            come is none: a clock was wrong, and for years nothing would be looked at again.
        everything: `blobs` are all there are, so that whatever else is present is unreferenced.
    """
    lost = [blob for blob in blobs if is_lost(blob)]
    sound = [blob for blob in blobs if not is_lost(blob)]
    again = [] if quick else [blob for blob in lost if name_of(blob) in present]
    due = [blob for blob in sound if older_than is None or last_check(blob, now) <= now - older_than]
    named = {name_of(blob) for blob in blobs}
    return VerifyPlan(
        blobs=(*in_order(again, now), *in_order(due, now)),
        awaiting=tuple(blob for blob in lost if blob not in again),
        unreferenced={name: size for name, size in present.items() if everything and name not in named},
    )


def in_order(blobs: Iterable[BlobRecord], now: datetime) -> list[BlobRecord]:
    """The one that has waited longest first, so that a verify that was stopped is gone on with by the next one."""
    return sorted(blobs, key=lambda blob: (last_check(blob, now), blob.md5, blob.format))


def last_check(blob: BlobRecord, now: datetime) -> datetime:
    """When its bytes were last hashed and right; the beginning of time when never, or not before now."""
    checked = blob.check.checked_at
    return _NEVER if checked is None or is_to_come(checked, now) else checked


def is_lost(blob: BlobRecord) -> bool:
    """Whether it is known to be damaged or missing."""
    return blob.check.lost_at is not None


def name_of(blob: BlobRecord) -> str:
    """Its name in the store."""
    return blob_name(blob.md5, blob.format)


def believable(affected: int, well: int) -> bool:
    """Whether so many blobs can be lost when `well` others are there and can be read.

    None that is well, or more than a fifth and more than five lost: that is likelier a mount that is gone, or a disk
    that fails as a whole.
    """
    return well > 0 and (affected <= LOSS_COUNT or affected <= LOSS_SHARE * (affected + well))
