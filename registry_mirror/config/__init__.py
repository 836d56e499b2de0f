"""Makes `Settings` from config.toml, the environment and flags. Standard library only.

The modules are imported on first use: a command that only reads needs only the root, and should start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import check_surroundings
    from .filters import Rule
    from .key import describe_key, read_api_key
    from .kinds import Option
    from .load import Loaded, load_settings
    from .root import default_root, resolve_root
    from .settings import OPTIONS, RetentionSettings, Settings, StoreSettings, UpstreamSettings
    from .show import SettingRow, show_json, show_rows

__all__ = [
    "OPTIONS",
    "Loaded",
    "Option",
    "RetentionSettings",
    "Rule",
    "SettingRow",
    "Settings",
    "StoreSettings",
    "UpstreamSettings",
    "check_surroundings",
    "default_root",
    "describe_key",
    "load_settings",
    "read_api_key",
    "resolve_root",
    "show_json",
    "show_rows",
]

_MODULES = {
    "Loaded": "load",
    "Option": "kinds",
    "Rule": "filters",
    "SettingRow": "show",
    "check_surroundings": "check",
    "default_root": "root",
    "describe_key": "key",
    "load_settings": "load",
    "read_api_key": "key",
    "resolve_root": "root",
    "show_json": "show",
    "show_rows": "show",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES.get(name, 'settings')}", __name__), name)
