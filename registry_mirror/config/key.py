"""Reads the API key and returns it as a `Secret`. No message shows the key. Standard library only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..secret import Secret
from .mistakes import KEY_PREFIX
from .root import why_unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .settings import UpstreamSettings

_LONGEST = 4096


def read_api_key(
    upstream: UpstreamSettings, env: Mapping[str, str] | None = None, *, config: Path | None = None
) -> Secret:
    """Reads the key from `api_key_file` if that is set, else from the environment variable named by `api_key_env`.

    Args:
        upstream: the settings.
        env: the environment; None for `os.environ`.
        config: the configuration file, which the error message names.

    Raises:
        ConfigurationError: there is no key, or the text found cannot be a key.
    """
    env = os.environ if env is None else env
    if upstream.api_key_file is not None:
        return _from_file(upstream.api_key_file)
    name = upstream.api_key_env
    key = env.get(name, "").strip()
    if not key:
        raise ConfigurationError(
            f"no API key: the environment variable {name} is not set",
            hint=f"give one with `export {name}={KEY_PREFIX}live_…`, or put it in a file and name that as api_key_file "
            f"under [upstream] in {config or 'config.toml'}",
        )
    return _sound(key, f"environment {name}: the API key", f"set {name} to the key alone, as the platform shows it")


def describe_key(upstream: UpstreamSettings, env: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Two texts: whether there is a usable key, and where it was looked for. Never shows the key."""
    env = os.environ if env is None else env
    file, name = upstream.api_key_file, upstream.api_key_env
    origin = f"environment {name}" if file is None else str(file)
    if file is None and not env.get(name, "").strip():
        return "not set", origin
    try:
        read_api_key(upstream, env)
    except ConfigurationError as error:
        return f"not usable: {error.message}", origin
    return f"set ({origin})", origin


def _from_file(path: Path) -> Secret:
    place = f"upstream.api_key_file: {path}"
    cure = "put the key on one line in it, readable by the user who runs the mirror"
    try:
        with path.open("rb") as stream:
            data = stream.read(_LONGEST + 1)
    except OSError as error:
        raise ConfigurationError(f"{place} {why_unreadable(error)}", hint=cure) from None
    text = data.removeprefix(b"\xef\xbb\xbf").decode("latin-1").strip()
    if not text:
        raise ConfigurationError(f"{place} is empty", hint=cure)
    if len(data) > _LONGEST or len(text.splitlines()) > 1:
        raise ConfigurationError(f"{place} has several lines or is too long for a key", hint=cure)
    return _sound(text, place, cure)


def _sound(key: str, place: str, cure: str) -> Secret:
    """Returns the key if it can be sent in a header unchanged, else raises ConfigurationError naming `place`."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(f"{place} has white space or a character that is not plain ASCII in it", hint=cure)
    if key[0] in "\"'" or key[-1] in "\"'":
        raise ConfigurationError(f"{place} has quotes around it", hint=f"{cure}, without quotes")
    return Secret(key)
