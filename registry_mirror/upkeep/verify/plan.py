"""Decides which blobs a verify checks, in which order, and when missing blobs count as lost. Pure: no clock, no disk.

A disk can mislead: an unmounted folder looks empty, and a failing controller cannot read any file. So blobs that are
missing or unreadable count as lost only if they are few.
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
    """What a verify does.

    Attributes:
        blobs: the blobs to check, in this order.
        awaiting: blobs that are known to be lost, and are not checked.
        unreferenced: sizes of the files in the store that belong to no blob on record, by name.
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
    """Decides which blobs to check.

    Args:
        blobs: the blobs on record.
        present: sizes of the files in the store by name, from `inventory`.
        quick: whether nothing is hashed. Blobs that are known to be lost are then skipped, even if a file is present.
        older_than: check only blobs whose last check is at least this long ago, or that were never checked. A check
            dated in the future does not count: a clock was wrong, and the blob might not be checked again for years.
        now: the time of the verify.
        everything: whether `blobs` is complete, so that any other file present is unreferenced.
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
    """Sorts the blobs by their last check, oldest first, so that a verify continues where a stopped one ended."""
    return sorted(blobs, key=lambda blob: (last_check(blob, now), blob.md5, blob.format))


def last_check(blob: BlobRecord, now: datetime) -> datetime:
    """When the blob was last hashed and found good; the earliest datetime if never, or if that is in the future."""
    checked = blob.check.checked_at
    return _NEVER if checked is None or is_to_come(checked, now) else checked


def is_lost(blob: BlobRecord) -> bool:
    """Whether the blob is on record as damaged or missing."""
    return blob.check.lost_at is not None


def name_of(blob: BlobRecord) -> str:
    """The blob's name in the store."""
    return blob_name(blob.md5, blob.format)


def believable(affected: int, well: int) -> bool:
    """Whether `affected` blobs may be recorded as lost, when `well` others are present and readable.

    If no blob is well, or if more than five and more than a fifth are affected, a missing mount or a failing disk is
    the likelier cause.
    """
    return well > 0 and (affected <= LOSS_COUNT or affected <= LOSS_SHARE * (affected + well))
