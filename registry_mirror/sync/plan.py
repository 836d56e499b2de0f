"""Decides what a sync does with each model, and why. Pure: no clock, no disk, no network.

A model costs requests only when its weights may have changed since they were fetched, when they are missing from the
store, or when the last try failed. Weights that are in the store stay, whatever the model's status has become.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..model import ModelStatus
from ..store.layout import blob_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from ..catalog import Known, KnownWeights
    from ..config import Rule
    from ..sources.source import ListedModel

SHRINK_SHARE = 0.2
SHRINK_COUNT = 5


class Change(StrEnum):
    """How a listed model compares with the catalog."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class Action(StrEnum):
    """What a sync does about one file of a model."""

    FETCH = "fetch"
    KEEP = "keep"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class FileStep:
    """One format of one model: the action, the reason, and the size in bytes when it is known."""

    format: str
    action: Action
    reason: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One listed model: how it changed and what to do about its files. `rule` names the filter that decided."""

    row: ListedModel
    change: Change
    rule: str
    files: tuple[FileStep, ...]

    @property
    def fetches(self) -> tuple[str, ...]:
        """The formats to fetch."""
        return tuple(each.format for each in self.files if each.action is Action.FETCH)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants: formats, filters, and the models named on the command line (empty means all)."""

    formats: tuple[str, ...] = ("onnx",)
    rules: tuple[Rule, ...] = ()
    named: frozenset[str] = frozenset()


def plan_model(row: ListedModel, known: Known | None, policy: Policy, blobs: Mapping[str, int]) -> Step:
    """Decides what to do with one listed model.

    Args:
        blobs: sizes of the blobs in the store by the names that `blob_name` returns.
    """
    included, rule = decide(row, policy.rules)
    named = bool(policy.named & {row.id, row.name})
    if policy.named and not named:
        included, rule = False, "not named on the command line"
    if known is not None and named:
        known = replace(known, evicted=frozenset())  # a model that is named is fetched even if it was evicted
    files = tuple(_plan_file(row, known, each, blobs, included=included) for each in policy.formats)
    return Step(row, change_of(row, known), rule, files)


def change_of(row: ListedModel, known: Known | None) -> Change:
    """Returns whether a listed model is new, changed or the same. A model that was marked gone counts as changed."""
    if known is None:
        return Change.ADDED
    same = known.fingerprint == row.fingerprint and not known.gone
    return Change.UNCHANGED if same else Change.CHANGED


def _plan_file(
    row: ListedModel, known: Known | None, weights_format: str, blobs: Mapping[str, int], *, included: bool
) -> FileStep:
    recorded = known.weights_of(weights_format) if known else None
    size = recorded.size if recorded else None
    found = blobs.get(blob_name(recorded.md5, weights_format)) if recorded else None
    held = recorded if recorded and found == recorded.size and not recorded.lost else None
    if row.status != ModelStatus.READY:
        reason = f"its status is {row.status or 'not given'}"
        return FileStep(weights_format, Action.KEEP if held else Action.NOTHING, reason, size)
    if not included:
        return FileStep(weights_format, Action.KEEP if held else Action.NOTHING, "excluded", size)
    if held and held.stamp == row.stamp:
        return FileStep(weights_format, Action.KEEP, "unchanged since it was fetched", size)
    if known and (weights_format, row.stamp) in known.absent:
        return FileStep(weights_format, Action.NOTHING, f"the upstream has no {weights_format} of it")
    if known and (weights_format, row.stamp) in known.evicted:
        reason = "evicted to make room; fetched again when it changes or when it is named"
        return FileStep(weights_format, Action.NOTHING, reason)
    if recorded and not held:
        return FileStep(weights_format, Action.FETCH, _why_not_held(recorded, found), size)
    return FileStep(weights_format, Action.FETCH, "it may have changed" if held else "not fetched yet")


def _why_not_held(recorded: KnownWeights, found: int | None) -> str:
    if found is None:
        return "its blob is missing from the store"
    return "its blob has not the size that it had" if found != recorded.size else "its blob was found damaged"


def decide(row: ListedModel, rules: Sequence[Rule]) -> tuple[bool, str]:
    """Returns whether the filters include a model, and the rule that decided. The first rule that matches wins."""
    for number, rule in enumerate(rules, start=1):
        if matches(rule, row):
            return rule.action == "include", f"rule {number}: {rule.action} {_describe(rule)}"
    return True, "no rule matches: included"


def matches(rule: Rule, row: ListedModel) -> bool:
    """Returns whether a model meets every condition that a rule gives."""
    return (
        _any_glob(rule.names, row.name)
        and (not rule.types or row.model_type in rule.types)
        and _any_glob(rule.architectures, row.architecture or "")
        and (not rule.statuses or row.status in rule.statuses)
    )


def _any_glob(patterns: Sequence[str], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def _describe(rule: Rule) -> str:
    given = {
        "names": rule.names,
        "types": rule.types,
        "architectures": rule.architectures,
        "statuses": rule.statuses,
    }
    return "; ".join(f"{key} {', '.join(values)}" for key, values in given.items() if values) or "everything"


def absent_models(present: Iterable[str], listed: Collection[str]) -> list[str]:
    """Returns the ids of models that are present in the catalog and missing from the listing."""
    return [model_id for model_id in present if model_id not in listed]


def shrinks(known: int, absent: int) -> bool:
    """Returns whether so many models are absent that the listing is probably wrong.

    This is so when all are absent, or when more than five and more than a fifth are. `known` counts the models that
    were present before the run.
    """
    if known == 0 or absent == 0:
        return False
    return absent == known or (absent > SHRINK_COUNT and absent > SHRINK_SHARE * known)


def unknown_names(named: Collection[str], listed: Callable[[str], bool]) -> list[str]:
    """Returns the names on the command line that are neither the name nor the id of a listed model, sorted."""
    return sorted(name for name in named if not listed(name))
