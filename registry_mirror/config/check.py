"""The checks of `mirror config check` that go beyond the values: do the things that they name work on this machine?

They use no network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..environment import check_network
from ..errors import ConfigurationError
from .key import read_api_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .load import Loaded


def check_surroundings(loaded: Loaded, env: Mapping[str, str] | None = None) -> None:
    """Checks that the API key can be read, the certificates load, the proxies are valid, and the alert command exists.

    Otherwise a run, or its alert, would fail at night.

    Raises:
        ConfigurationError: one of these checks failed.
    """
    settings = loaded.settings
    check_network(settings.upstream.proxy, settings.upstream.ca_file)
    read_api_key(settings.upstream, env, config=loaded.file or settings.root / "config.toml")
    if settings.upstream.ca_file is not None:
        _check_certificates(settings.upstream.ca_file, loaded.origins["upstream.ca_file"])
    if settings.sync.on_failure:
        _check_command(settings.sync.on_failure[0], loaded.origins["sync.on_failure"])


def _check_certificates(path: Path, origin: str) -> None:
    import ssl

    from .root import why_unreadable

    cure = "name a readable file of certificates in PEM"
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise ConfigurationError(f"{origin}: upstream.ca_file {path} holds no certificates", hint=cure) from None
    except OSError as error:
        raise ConfigurationError(f"{origin}: upstream.ca_file {path} {why_unreadable(error)}", hint=cure) from None


def _check_command(program: str, origin: str) -> None:
    import shutil

    if shutil.which(program) is None:
        raise ConfigurationError(
            f"{origin}: sync.on_failure names {program!r}, which is no program here",
            hint="give its full path, and see that it is executable",
        )
