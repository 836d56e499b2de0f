"""The configuration as it may be shown: every key with its value and origin, secrets masked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .schema import OPTIONS

if TYPE_CHECKING:
    from .load import Loaded
    from .schema import Option, Settings

_AFTER = "upstream.api_key_file"  # the key's own row comes after the two options that lead to it


class ShownOption(NamedTuple):
    """One line of `config show`."""

    key: str
    value: str
    origin: str


def show_rows(loaded: Loaded, api_key: tuple[str, str]) -> tuple[ShownOption, ...]:
    """A row for each option in the table's order. `api_key` is what `describe_key` says."""
    rows = []
    for option in OPTIONS:
        rows.append(ShownOption(option.key, _text(option, loaded.settings), loaded.origins[option.key]))
        if option.key == _AFTER:
            rows.append(ShownOption("upstream.api_key", *api_key))
    return tuple(rows)


def show_json(loaded: Loaded, api_key: tuple[str, str]) -> dict[str, Any]:
    """`{"settings": {key: {"value", "origin"}}}`: durations in seconds, lists as lists, what is not set as null."""
    rows = show_rows(loaded, api_key)
    values = {option.key: _plain(option, loaded.settings) for option in OPTIONS}
    return {"settings": {row.key: {"value": values.get(row.key, row.value), "origin": row.origin} for row in rows}}


def value_of(settings: Settings, key: str) -> Any:
    """The setting under a dotted key."""
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _text(option: Option, settings: Settings) -> str:
    value = value_of(settings, option.key)
    return "none" if value == option.kind.absent else option.kind.show(value)


def _plain(option: Option, settings: Settings) -> object:
    value = value_of(settings, option.key)
    if value == option.kind.absent:
        return None
    return (option.kind.as_json or option.kind.show)(value)
