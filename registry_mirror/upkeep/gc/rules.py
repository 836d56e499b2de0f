"""The rules of `gc`: which weights retention lets go, and which are evicted when the quota is used up. Pure."""

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
    """What is done with weights or a file."""

    KEEP = "keep"
    LET_GO = "let go"
    """Remove the row from the record and the index. The file stays for the grace period."""
    EVICT = "evict"
    """The same, to make room. A sync does not fetch the weights again by itself."""
    WAIT = "wait"
    """Keep the file for now: no row wants it, but its grace period is not over."""
    DELETE = "delete"
    DOUBT = "doubt"
    """Keep the file, because something about it is not understood."""


@dataclass(frozen=True, slots=True)
class GcVerdict:
    """A decision: the act, the rule that decided, and the reason in words."""

    act: Act
    rule: str
    reason: str


if TYPE_CHECKING:
    Rule = Callable[[Holding, RetentionSettings, Collection[tuple[str, str]], datetime], GcVerdict | None]


def aged(rule: str, act: Act, what: str, since: datetime | None, limit: float | None, now: datetime) -> GcVerdict:
    """The verdict of a rule about age: `act` once `limit` seconds have passed, else KEEP.

    Args:
        rule: its name.
        act: what to do after the limit.
        what: the state since `since`, in words.
        since: when the state began. The verdict is DOUBT if it is None or in the future, when a clock was wrong.
        limit: seconds; None for never.
        now: the present time.
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
    """Keeps all weights of a pinned model."""
    return GcVerdict(Act.KEEP, "pinned", "its model is pinned") if held.pinned else None


def superseded(
    held: Holding, settings: RetentionSettings, whole: Collection[tuple[str, str]], now: datetime
) -> GcVerdict | None:
    """Lets superseded weights go after a time, but not while the weights in their place are missing."""
    if held.current:
        return None
    verdict = aged("superseded", Act.LET_GO, "superseded", held.superseded_at, settings.superseded, now)
    if verdict.act is Act.LET_GO and (held.model_id, held.format) not in whole:
        return GcVerdict(Act.DOUBT, "superseded", "superseded, but what took its place is not in the store")
    return verdict


def gone(held: Holding, settings: RetentionSettings, _whole: object, now: datetime) -> GcVerdict | None:
    """Lets the weights of models that are gone from the upstream go after `retention.gone`; by default never."""
    if held.gone_at is None:
        return None
    return aged("gone", Act.LET_GO, "gone from the upstream", held.gone_at, settings.gone, now)


def archived(held: Holding, settings: RetentionSettings, _whole: object, now: datetime) -> GcVerdict | None:
    """Lets the weights of models that are archived upstream go after `retention.archived`; by default never."""
    if held.status != ModelStatus.ARCHIVED:
        return None
    return aged("archived", Act.LET_GO, "archived upstream", held.archived_at, settings.archived, now)


def current(*_: object) -> GcVerdict:
    """Keeps all other weights."""
    return GcVerdict(Act.KEEP, "current", "its model's own")


RULES: tuple[Rule, ...] = (pinned, superseded, gone, archived, current)


def retain(held: Holding, settings: RetentionSettings, whole: Collection[tuple[str, str]], now: datetime) -> GcVerdict:
    """Judges weights on record by retention. The first rule with a verdict decides.

    Args:
        held: the weights.
        settings: of retention.
        whole: pairs of model id and format whose current weights are in the store with the right size.
        now: the present time.
    """
    verdicts = (rule(held, settings, whole, now) for rule in RULES)
    return next(verdict for verdict in verdicts if verdict is not None)


LISTED_WITHIN = 2 * 86400.0
"""Weights are evicted only if the last listing is at most this many seconds old."""

_OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Evictions:
    """The weights to evict, each with its reason. `remark` says why the store stays too large; None if it does not."""

    chosen: Mapping[Holding, GcVerdict]
    remark: str | None = None


def unevictable(held: Holding) -> str | None:
    """The reason not to evict weights; None if a sync could fetch them again at once, so that they may go."""
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
    """The reason not to evict anything at present; None if the upstream's listing was read a short time ago.

    The records of single models do not show it if the key is refused or the listing is empty: they stay "ready" and
    without a failure.

    Args:
        listed_at: when the last run ended, if it read the whole listing and did not fail; else None.
        now: the present time.
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
    """Chooses the weights to evict, so that the blobs fit into the quota.

    Args:
        holdings: weights that retention keeps on record.
        used: bytes of their blobs. Blobs that retention lets go do not count.
        store: has the quota.
        blobs: sizes on disk, by name.
        distrusted: the reason not to evict anything, from `distrust`; None when evicting is safe.
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
    """The blobs that may be evicted, with their weights; the least recently published blob first.

    If several models share a blob, it is evicted for all of them or for none.
    """
    owners: dict[str, list[Holding]] = {}
    for held in holdings:
        owners.setdefault(blob_name(held.md5, held.format), []).append(held)
    free = [(blob, sorted(each, key=_age, reverse=True)) for blob, each in owners.items()]
    free = [(blob, each) for blob, each in free if all(unevictable(held) is None for held in each)]
    return sorted(free, key=lambda pair: (_age(pair[1][0]), pair[0]))


def _age(held: Holding) -> datetime:
    return held.fetched_at or _OLDEST
