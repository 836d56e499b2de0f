"""What the verbs that talk to the upstream begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import load_settings, read_api_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..config import Settings
    from ..secret import Secret
    from .globals import GlobalOptions


def settings_and_key(options: GlobalOptions, overrides: Mapping[str, object] | None = None) -> tuple[Settings, Secret]:
    """The settings of this call and the API key.

    Raises:
        ConfigurationError: one of them is unusable, or there is no key.
    """
    loaded = load_settings(root=options.root, config=options.config, overrides=overrides or {})
    settings = loaded.settings
    return settings, read_api_key(settings.upstream, config=loaded.file or settings.root / "config.toml")
