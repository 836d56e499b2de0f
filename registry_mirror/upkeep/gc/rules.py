"""The rules of `gc`: what retention lets go, and what makes room when the quota is used up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from ...model import ModelStatus, format_time
from ...store.layout import blob_name
from ...units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from ...catalog import Holding
    from ...config import RetentionSettings, StoreSettings


class Act(StrEnum):
    """What becomes of a file."""

    KEEP = "keep"
    LET_GO = "let go"
    """Off the record and out of the index; the file itself stays for the grace period."""
    EVICT = "evict"
    """The same, to make room; a sync does not fetch it again by itself."""
    WAIT = "wait"
    """No index names it, and its grace period is not over."""
    DELETE = "delete"
    DOUBT = "doubt"
    """Something about it is not understood, so it stays."""


@dataclass(frozen=True, slots=True)
class GcVerdict:
    """An act, the rule that decided, and the reason."""

    act: Act
    rule: str
    reason: str


if TYPE_CHECKING:
    Rule = Callable[[Holding, RetentionSettings, Collection[tuple[str, str]], datetime], GcVerdict | None]


def aged(rule: str, act: Act, what: str, since: datetime | None, limit: float | None, now: datetime) -> GcVerdict:
    """The verdict of a rule that goes by age: `act` once `limit` seconds are over; None is never.

    Doubtful is what has no date, or one that is still to come: a clock was wrong then or is wrong now.
    """
    if limit is None:
        return GcVerdict(Act.KEEP, rule, f"{what}, which is kept for ever")
    if since is None:
        return GcVerdict(Act.DOUBT, rule, f"{what}, and nobody knows since when")
    age = (now - since).total_seconds()
    if age < 0:
        return GcVerdict(Act.DOUBT, rule, f"{what} since a time that is still to come: a clock is wrong")
    if age < limit:
        return GcVerdict(Act.KEEP, rule, f"{what} for {format_duration(age)} of {format_duration(limit)}")
    return GcVerdict(act, rule, f"{what} for {format_duration(age)}, at least {format_duration(limit)}")


def pinned(held: Holding, *_: object) -> GcVerdict | None:
    """A pinned model keeps all that it has."""
    return GcVerdict(Act.KEEP, "pinned", "its model is pinned") if held.pinned else None


def superseded(
    held: Holding, settings: RetentionSettings, whole: Collection[tuple[str, str]], now: datetime
) -> GcVerdict | None:
    """What other weights have taken the place of goes after a time, but not while those are missing."""
    if held.current:
        return None
    verdict = aged("superseded", Act.LET_GO, "superseded", held.superseded_at, settings.superseded, now)
    if verdict.act is Act.LET_GO and (held.model_id, held.format) not in whole:
        return GcVerdict(Act.DOUBT, "superseded", "superseded, but what took its place is not in the store")
    return verdict


def gone(held: Holding, settings: RetentionSettings, _whole: object, now: datetime) -> GcVerdict | None:
    """What the upstream no longer has goes only where the operator says so."""
    if held.gone_at is None:
        return None
    return aged("gone", Act.LET_GO, "gone from the upstream", held.gone_at, settings.gone, now)


def archived(held: Holding, settings: RetentionSettings, _whole: object, now: datetime) -> GcVerdict | None:
    """And so does what was archived there."""
    if held.status != ModelStatus.ARCHIVED:
        return None
    return aged("archived", Act.LET_GO, "archived upstream", held.archived_at, settings.archived, now)


def current(*_: object) -> GcVerdict:
    """Everything else is what the mirror is for."""
    return GcVerdict(Act.KEEP, "current", "its model's own")


RULES: tuple[Rule, ...] = (pinned, superseded, gone, archived, current)


def retain(held: Holding, settings: RetentionSettings, whole: Collection[tuple[str, str]], now: datetime) -> GcVerdict:
    """The verdict on one file on record.

    Args:
        whole: models (by id) and formats whose current weights are in the store with their size.
    """
    verdicts = (rule(held, settings, whole, now) for rule in RULES)
    return next(verdict for verdict in verdicts if verdict is not None)


LISTED_WITHIN = 2 * 86400.0
"""Seconds for which a listing is believed when it comes to what the upstream can give again."""

_OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Evictions:
    """What makes room, with the reason of each, and what stays too large all the same (None: nothing does)."""

    chosen: Mapping[Holding, GcVerdict]
    remark: str | None = None


def unevictable(held: Holding) -> str | None:
    """Why weights cannot be evicted; None when they can: only what a sync could fetch again this very day may go."""
    if held.pinned:
        return "its model is pinned"
    if held.gone_at is not None:
        return "its model is gone from the upstream"
    if held.status != ModelStatus.READY:
        return f"its model is {held.status or 'without a status'}"
    if not held.current:
        return "the upstream gives its successor only"
    if not held.fresh:
        return "its model has changed since"
    if held.failing:
        return "the upstream could not give it at the last try"
    return None


def distrust(listed_at: datetime | None, now: datetime) -> str | None:
    """Why nothing may be evicted at present; None when the upstream has lately said what it has.

    A key that is refused or a listing that shrinks to nothing leaves every model as it was: ready, and with no failure
    of its own.

    Args:
        listed_at: when the last run ended, if it read the whole listing and did not fail.
    """
    if listed_at is None:
        return "the last run did not read the whole listing, or failed"
    age = (now - listed_at).total_seconds()
    if age < 0:
        return "the last run ended at a time that is still to come: a clock is wrong"
    return f"the last run ended {format_duration(age)} ago" if age > LISTED_WITHIN else None


def evict(
    holdings: Iterable[Holding], used: int, store: StoreSettings, blobs: Mapping[str, int], distrusted: str | None
) -> Evictions:
    """Chooses what to evict.

    Args:
        holdings: what stays on record as far as retention goes.
        used: bytes of the blobs that these name; what is on its way out already does not count.
        blobs: sizes by name, as they are on disk.
        distrusted: why the upstream may not be able to give them again, whatever is on record of each.
    """
    if store.quota is None or used * 100 <= store.quota * store.quota_high:
        return Evictions({})
    target = store.quota * min(store.quota_low, store.quota_high) // 100
    reason = f"{format_size(used)} are over {store.quota_high} % of the quota of {format_size(store.quota)}"
    if distrusted is not None:
        return Evictions(
            {}, f"{reason}, and nothing is evicted: {distrusted}; run `mirror sync`, then `mirror gc` again"
        )
    chosen: dict[Holding, GcVerdict] = {}
    for blob, owners in _by_age(holdings):
        if used <= target:
            return Evictions(chosen)
        if blob in blobs:
            used -= blobs[blob]
            verdict = GcVerdict(Act.EVICT, "quota", f"{reason}; published {format_time(owners[0].fetched_at)}")
            chosen |= dict.fromkeys(owners, verdict)
    if used <= target:
        return Evictions(chosen)
    over = f"{format_size(used)} stay, more than {store.quota_low} % of the quota"
    return Evictions(chosen, f"{over}: the rest is pinned, or the upstream cannot give it again")


def _by_age(holdings: Iterable[Holding]) -> list[tuple[str, Sequence[Holding]]]:
    """The blobs that may go, the least recently published first. One that several models have goes with all or none."""
    owners: dict[str, list[Holding]] = {}
    for held in holdings:
        owners.setdefault(blob_name(held.md5, held.format), []).append(held)
    free = [(blob, sorted(each, key=_age, reverse=True)) for blob, each in owners.items()]
    free = [(blob, each) for blob, each in free if all(unevictable(held) is None for held in each)]
    return sorted(free, key=lambda pair: (_age(pair[1][0]), pair[0]))


def _age(held: Holding) -> datetime:
    return held.fetched_at or _OLDEST
