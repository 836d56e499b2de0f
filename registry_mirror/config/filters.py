"""The filters of a sync: makes `Rule` values from `[[sync.rules]]` tables. Pure; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from ..model import ModelStatus, ModelType
from .kinds import ValueType
from .mistakes import BadValueError, quote, suggest, suggest_or_list

_ACTIONS = ("include", "exclude")
_LISTS = ("names", "types", "architectures", "statuses")
_CURE = "write a [[sync.rules]] table for each rule"


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[sync.rules]]` table, which includes or excludes the models that all its lists match.

    `names` and `architectures` are globs, `types` and `statuses` are exact. An empty tuple means that the list was not
    given, and matches every model. The first rule that matches a model decides; if none does, the model is included.
    """

    action: Literal["include", "exclude"]
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()


def rules() -> ValueType:
    """The type of `[[sync.rules]]`: a tuple of rules, in the file's order."""
    return ValueType("array of tables", _parse, _show, as_json=_as_json)


def _parse(value: object) -> tuple[Rule, ...]:
    """Makes the rules. Raises BadValueError, whose message counts the rules from 1."""
    if isinstance(value, dict):
        raise BadValueError("is one table", "write [[sync.rules]] with two brackets on each side")
    if not isinstance(value, (list, tuple)):
        raise BadValueError(f"is {quote(value)}, not an array of tables", _CURE)
    return tuple(_parse_rule(number, table) for number, table in enumerate(value, 1))


def _parse_rule(number: int, table: object) -> Rule:
    if not isinstance(table, dict):
        raise BadValueError(f"has {quote(table)} as rule {number}, not a table", _CURE)
    for key in table:
        if key != "action" and key not in _LISTS:
            raise BadValueError(
                f"has an unknown key {quote(key)} in rule {number}", suggest_or_list(key, ("action", *_LISTS))
            )
    action = table.get("action")
    if action not in _ACTIONS:
        has = "has no action" if action is None else f"has the action {quote(action)}"
        raise BadValueError(
            f"{has} in rule {number}", suggest(action, _ACTIONS) or 'write action = "include" or "exclude"'
        )
    lists = {name: _texts(number, name, table[name]) for name in _LISTS if name in table}
    _refuse_other_spellings(number, "types", lists.get("types", ()), ModelType)
    _refuse_other_spellings(number, "statuses", lists.get("statuses", ()), ModelStatus)
    return Rule(action=cast("Literal['include', 'exclude']", action), **lists)


def _texts(number: int, name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) and each.strip() for each in value):
        raise BadValueError(
            f"has {name} = {quote(value)} in rule {number}", f'write a list of texts, like {name} = ["…"]'
        )
    if not value:
        raise BadValueError(f"has an empty list of {name} in rule {number}", "leave the key out to match every model")
    return tuple(each.strip() for each in value)


def _refuse_other_spellings(
    number: int, name: str, values: tuple[str, ...], known: type[ModelType | ModelStatus]
) -> None:
    """Refuses a known word in another spelling, which would match nothing. Allows unknown words, which may be new."""
    for value in values:
        plain = value.lower().replace("-", "_").replace(" ", "_")
        if plain in set(known) and plain != value:
            raise BadValueError(f"has {quote(value)} among the {name} of rule {number}", f"did you mean {plain!r}?")


def _show(rules: tuple[Rule, ...]) -> str:
    """The rules in one line, such as `exclude names=*-draft; include types=classification`."""
    return "; ".join(map(_show_rule, rules)) or "none"


def _show_rule(rule: Rule) -> str:
    return " ".join([rule.action, *(f"{name}={','.join(values)}" for name, values in _given(rule).items())])


def _as_json(rules: tuple[Rule, ...]) -> list[dict[str, object]]:
    """The rules as in the file, without the lists that were not given."""
    return [{"action": rule.action, **_given(rule)} for rule in rules]


def _given(rule: Rule) -> dict[str, list[str]]:
    return {name: list(getattr(rule, name)) for name in _LISTS if getattr(rule, name)}
