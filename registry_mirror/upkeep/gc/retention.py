"""How long weights stay on record. Tiny rules with a name; the first that has something to say decides. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...model import ModelStatus
from .verdicts import Act, Verdict, aged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from ...catalog import Holding
    from ...config import RetentionSettings

    Rule = Callable[[Holding, RetentionSettings, Collection[tuple[str, str]], datetime], Verdict | None]


def pinned(held: Holding, *_: object) -> Verdict | None:
    """A pinned model keeps all that it has."""
    return Verdict(Act.KEEP, "pinned", "its model is pinned") if held.pinned else None


def superseded(
    held: Holding, settings: RetentionSettings, whole: Collection[tuple[str, str]], now: datetime
) -> Verdict | None:
    """What other weights have taken the place of goes after a time, but not while those are missing."""
    if held.current:
        return None
    verdict = aged("superseded", Act.LET_GO, "superseded", held.superseded_at, settings.superseded, now)
    if verdict.act is Act.LET_GO and (held.model_id, held.format) not in whole:
        return Verdict(Act.DOUBT, "superseded", "superseded, but what took its place is not in the store")
    return verdict


def gone(held: Holding, settings: RetentionSettings, _whole: object, now: datetime) -> Verdict | None:
    """What the upstream no longer has goes only where the operator says so."""
    if held.gone_at is None:
        return None
    return aged("gone", Act.LET_GO, "gone from the upstream", held.gone_at, settings.gone, now)


def archived(held: Holding, settings: RetentionSettings, _whole: object, now: datetime) -> Verdict | None:
    """And so does what was archived there."""
    if held.status != ModelStatus.ARCHIVED:
        return None
    return aged("archived", Act.LET_GO, "archived upstream", held.archived_at, settings.archived, now)


def current(*_: object) -> Verdict:
    """Everything else is what the mirror is for."""
    return Verdict(Act.KEEP, "current", "its model's own")


RULES: tuple[Rule, ...] = (pinned, superseded, gone, archived, current)


def retain(held: Holding, settings: RetentionSettings, whole: Collection[tuple[str, str]], now: datetime) -> Verdict:
    """The verdict on one file on record.

    Args:
        whole: models (by id) and formats whose current weights are in the store with their size.
    """
    verdicts = (rule(held, settings, whole, now) for rule in RULES)
    return next(verdict for verdict in verdicts if verdict is not None)
