"""The configuration room: config.toml, environment and flags to `Settings`. Standard library only.

Its modules are imported on first use: a reading verb asks for the root alone, and should not pay for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import check_surroundings
    from .key import describe_key, read_api_key
    from .load import Loaded, load_settings
    from .root import default_root, resolve_root
    from .schema import OPTIONS, Option
    from .settings import (
        DaemonSettings,
        RetentionSettings,
        Rule,
        ServeSettings,
        Settings,
        StoreSettings,
        SyncSettings,
        UpstreamSettings,
    )
    from .show import ShownOption, show_json, show_rows

__all__ = [
    "OPTIONS",
    "DaemonSettings",
    "Loaded",
    "Option",
    "RetentionSettings",
    "Rule",
    "ServeSettings",
    "Settings",
    "ShownOption",
    "StoreSettings",
    "SyncSettings",
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
    "check": ("check_surroundings",),
    "key": ("describe_key", "read_api_key"),
    "load": ("Loaded", "load_settings"),
    "root": ("default_root", "resolve_root"),
    "schema": ("OPTIONS", "Option"),
    "settings": (
        "DaemonSettings",
        "RetentionSettings",
        "Rule",
        "ServeSettings",
        "Settings",
        "StoreSettings",
        "SyncSettings",
        "UpstreamSettings",
    ),
    "show": ("ShownOption", "show_json", "show_rows"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
