"""The flags before the verb, `mirror [--root DIR] [--config FILE] [-v] VERB`, and the mirror, settings and API key that
they lead to.

Every verb imports this module, so it imports what only some verbs need inside its functions.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..config import Loaded, Settings
    from ..mirror import Mirror
    from ..secret import Secret

_READ_BY_READERS = frozenset({"MIRROR_ROOT", "MIRROR_CONFIG"})
_NAMES_A_COMMAND = re.compile(rb"""^[^#\n]*\bon_failure["']?\s*=""", re.MULTILINE)  # not in a comment


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The flags that all verbs share, as they were typed; None for a flag that was not given."""

    root: str | None = None
    config: str | None = None
    verbose: bool = False


pass_globals = click.make_pass_decorator(GlobalOptions)


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """A click callback: converts a flag's text like "24h" to seconds."""
    from ..units import parse_duration

    if value is None:
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def open_mirror(options: GlobalOptions) -> Mirror:
    """Opens the mirror that the options name.

    Refuses unknown MIRROR_ variables: with a misspelt MIRROR_ROOTT, another mirror would be opened.

    Raises:
        ConfigurationError: a variable, the configuration file or the root cannot be used.
    """
    from ..config.root import resolve_root
    from ..mirror import Mirror
    from ..store.layout import refuse_file

    if any(name.startswith("MIRROR_") and name not in _READ_BY_READERS for name in os.environ):
        from ..config.load import refuse_unknown_variables  # slow, because it imports every setting

        refuse_unknown_variables(os.environ)
    root = resolve_root(options.root, options.config, os.environ)
    refuse_file(root)
    return Mirror(root)


def settings_and_key(options: GlobalOptions, overrides: Mapping[str, object] | None = None) -> tuple[Settings, Secret]:
    """Loads the settings and the API key. `overrides` has the verb's flags, by setting.

    Raises:
        ConfigurationError: a setting or the key cannot be used, or there is no key.
    """
    settings, read_key = _with_reader(settings_of(options, overrides))
    return settings, read_key()


def settings_of(options: GlobalOptions, overrides: Mapping[str, object] | None = None) -> Loaded:
    """Loads the settings. `overrides` has the verb's flags, by setting.

    Raises:
        ConfigurationError: a setting cannot be used, or the root is a file.
    """
    from ..store.layout import refuse_file

    loaded = _load(options, overrides)
    refuse_file(loaded.settings.root)
    return loaded


def settings_to_run(
    options: GlobalOptions, overrides: Mapping[str, object] | None = None
) -> tuple[Settings, Callable[[], Secret]]:
    """Loads the settings for a run, and returns them with a function that reads the API key.

    It neither reads the key nor checks the root: if these are wrong, the run itself fails, and alerts the operator. If
    the settings cannot be used, there is no alert, so it prints a note that `sync.on_failure` was not run.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    from ..errors import ConfigurationError

    try:
        return _with_reader(_load(options, overrides))
    except ConfigurationError:
        if _alert_is_set(options):
            click.echo("note: sync.on_failure was not run: it is one of the settings that cannot be used now", err=True)
        raise


def _load(options: GlobalOptions, overrides: Mapping[str, object] | None) -> Loaded:
    from ..config import load_settings

    _show_warnings()
    return load_settings(root=options.root, config=options.config, overrides=overrides or {})


def _show_warnings() -> None:
    """Prints the package's warnings for the operator, unless there is a handler already, as with -v."""
    import logging

    log = logging.getLogger("registry_mirror")
    prints = any(isinstance(handler, logging.StreamHandler) for handler in log.handlers)
    if log.level in (logging.NOTSET, logging.WARNING) and not prints:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("warning: %(message)s"))
        handler.addFilter(lambda record: record.levelno == logging.WARNING)  # `run` prints errors
        log.addHandler(handler)


def _with_reader(loaded: Loaded) -> tuple[Settings, Callable[[], Secret]]:
    from ..config import read_api_key

    settings = loaded.settings
    return settings, lambda: read_api_key(settings.upstream, config=loaded.file or settings.root / "config.toml")


def _alert_is_set(options: GlobalOptions) -> bool:
    """Whether the environment or the file seems to set `sync.on_failure`. Parses neither, because they may be wrong."""
    from ..config.root import named_file, resolve_root
    from ..errors import MirrorError
    from ..files import read_regular

    if os.environ.get("MIRROR_SYNC_ON_FAILURE"):
        return True
    with contextlib.suppress(OSError, MirrorError):
        file = named_file(options.config, os.environ)
        path = file.path if file else resolve_root(options.root, None, os.environ) / "config.toml"
        return _NAMES_A_COMMAND.search(read_regular(path, follow=True)) is not None
    return False
