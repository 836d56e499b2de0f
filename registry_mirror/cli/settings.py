"""What the verbs that talk to the upstream begin with."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

import click

from ..config import load_settings, read_api_key, resolve_root
from ..config.root import named_file
from ..errors import ConfigurationError, MirrorError
from ..files import read_regular
from ..store.layout import refuse_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..config import Loaded, Settings
    from ..secret import Secret
    from .options import GlobalOptions


_NAMES_A_COMMAND = re.compile(rb"""^[^#\n]*\bon_failure["']?\s*=""", re.MULTILINE)  # not in a comment


def settings_and_key(options: GlobalOptions, overrides: Mapping[str, object] | None = None) -> tuple[Settings, Secret]:
    """The settings of this call and the API key.

    Raises:
        ConfigurationError: one of them is unusable, or there is no key.
    """
    settings, read_key = _with_reader(settings_of(options, overrides))
    return settings, read_key()


def settings_of(options: GlobalOptions, overrides: Mapping[str, object] | None = None) -> Loaded:
    """The settings of this call, of a root that can be one.

    Raises:
        ConfigurationError: the settings are unusable, or the root is a file.
    """
    _show_warnings()
    loaded = load_settings(root=options.root, config=options.config, overrides=overrides or {})
    refuse_file(loaded.settings.root)
    return loaded


def _show_warnings() -> None:
    """Has what the package warns of told to the operator; a program that uses it has its own log."""
    import logging

    log = logging.getLogger("registry_mirror")
    if log.level in (logging.NOTSET, logging.WARNING) and not any(map(_tells, log.handlers)):
        told = logging.StreamHandler()
        told.setFormatter(logging.Formatter("warning: %(message)s"))
        told.addFilter(lambda record: record.levelno == logging.WARNING)  # an error is told by whom it ends
        log.addHandler(told)


def _tells(handler: object) -> bool:
    import logging

    return isinstance(handler, logging.StreamHandler)


def _with_reader(loaded: Loaded) -> tuple[Settings, Callable[[], Secret]]:
    settings = loaded.settings
    return settings, lambda: read_api_key(settings.upstream, config=loaded.file or settings.root / "config.toml")


def settings_to_run(
    options: GlobalOptions, overrides: Mapping[str, object] | None = None
) -> tuple[Settings, Callable[[], Secret]]:
    """The settings, and what reads the key, for a run: a key that is missing and a root that is a file are failures
    of the run.

    Where it cannot have its settings, it says that the operator's command was not run.
    """
    _show_warnings()
    try:
        return _with_reader(load_settings(root=options.root, config=options.config, overrides=overrides or {}))
    except ConfigurationError:
        if _alert_is_set(options):
            click.echo("note: sync.on_failure was not run: it is one of the settings that cannot be used now", err=True)
        raise


def _alert_is_set(options: GlobalOptions) -> bool:
    """Whether the environment or the file names a command, as far as that can be seen without reading either."""
    if os.environ.get("MIRROR_SYNC_ON_FAILURE"):
        return True
    with contextlib.suppress(OSError, MirrorError):
        file = named_file(options.config, os.environ)
        path = file.path if file else resolve_root(options.root, None, os.environ) / "config.toml"
        return _NAMES_A_COMMAND.search(read_regular(path, follow=True)) is not None
    return False
