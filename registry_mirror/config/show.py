"""Shows the configuration: every key with its value and origin, and secrets masked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .settings import OPTIONS

if TYPE_CHECKING:
    from .kinds import Option
    from .load import Loaded
    from .settings import Settings

_AFTER = "upstream.api_key_file"  # the API key's row comes after the two options that say where it is


class SettingRow(NamedTuple):
    """One line of `config show`."""

    key: str
    value: str
    origin: str


def show_rows(loaded: Loaded, api_key: tuple[str, str]) -> tuple[SettingRow, ...]:
    """A row for each option in the order of `OPTIONS`. `api_key` is the result of `describe_key`."""
    rows = []
    for option in OPTIONS:
        rows.append(SettingRow(option.key, _text(option, loaded.settings), loaded.origins[option.key]))
        if option.key == _AFTER:
            rows.append(SettingRow("upstream.api_key", *api_key))
    return tuple(rows)


def show_json(loaded: Loaded, api_key: tuple[str, str]) -> dict[str, Any]:
    """`{"settings": {key: {"value", "origin"}}}`, with durations in seconds, and null for a value that is not set."""
    rows = show_rows(loaded, api_key)
    values = {option.key: _plain(option, loaded.settings) for option in OPTIONS}
    return {"settings": {row.key: {"value": values.get(row.key, row.value), "origin": row.origin} for row in rows}}


def value_of(settings: Settings, key: str) -> Any:
    """The value of the setting with this dotted key."""
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _text(option: Option, settings: Settings) -> str:
    kind, value = option.kind, value_of(settings, option.key)
    return kind.when_absent if value == kind.absent else kind.show(value)


def _plain(option: Option, settings: Settings) -> object:
    kind, value = option.kind, value_of(settings, option.key)
    if value == kind.absent:
        return None
    if kind.as_json:
        return kind.as_json(value)
    return value if isinstance(value, (bool, int, float)) else kind.show(value)
