"""Which folder is the root. Light, because every reading verb asks. Standard library only."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .file import Found, read_named
from .wrong import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_APP = "registry-mirror"


def resolve_root(
    flag: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Path:
    """The root, absolute. Nothing is created or looked for.

    It is the flag, else MIRROR_ROOT, else `root` in the file that `config` or MIRROR_CONFIG names, else `default_root`.

    Raises:
        ConfigurationError: one of them is empty, or the file cannot be read or has an unknown key in it.
    """
    env = os.environ if env is None else env
    found, file = named_root(flag, env), named_file(config, env)
    if file is not None:
        document = _known(file, needed=found is None)
        found = found or root_of_document(document, file.path)
    return found.path if found else default_root(env)


def _known(file: Found, *, needed: bool) -> dict[str, Any]:
    """The tables of the named file, when each of its keys is one: a misspelt `root` would lead to another mirror.

    One that is not needed, because the root is named already, is the writer's affair: it may be closed to readers, or
    absent from their machine when the environment names it.
    """
    from .known import refuse_unknown_keys  # not at the top: it brings every option there is

    try:
        document = read_named(file)
    except ConfigurationError:
        if needed or not _is_elsewhere(file):
            raise
        return {}
    refuse_unknown_keys(document, file.path)
    return document


def _is_elsewhere(file: Found) -> bool:
    try:
        there = file.path.exists()
    except OSError:  # a folder on its way may not be entered
        return True
    return not os.access(file.path, os.R_OK) if there else file.origin != "flag"


def named_root(flag: str | os.PathLike[str] | None, env: Mapping[str, str]) -> Found | None:
    """The root that a flag or the environment names."""
    return _named(flag, "--root", "MIRROR_ROOT", env)


def named_file(flag: str | os.PathLike[str] | None, env: Mapping[str, str]) -> Found | None:
    """The configuration file that a flag or the environment names."""
    return _named(flag, "--config", "MIRROR_CONFIG", env)


def root_of_document(document: Mapping[str, Any], file: Path) -> Found | None:
    """The root that a file names, relative to the file's own folder."""
    if "root" not in document:
        return None
    value = document["root"]
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ConfigurationError(
            f"{file}: root is {quote(value)}, not a path in quotes", hint='write it like root = "/srv/models"'
        )
    return Found(absolute(value.strip(), file.parent), str(file))


def absolute(path: str | os.PathLike[str], folder: Path | None = None) -> Path:
    """`path` with a leading `~` expanded, relative to `folder` or else to the present one. Links are left alone."""
    return Path(os.path.abspath(os.path.join(folder or "", os.path.expanduser(path))))


def default_root(env: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """The user's data folder for this application, the same as `platformdirs.user_data_dir` says; not created.

    Raises:
        ConfigurationError: the user has no home folder.
    """
    env = os.environ if env is None else env
    if platform == "win32":
        local = env.get("LOCALAPPDATA")
        return Path(local or os.path.join(_home(env, "USERPROFILE"), "AppData", "Local")) / _APP
    data = env.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):  # the XDG specification: a relative one is invalid and ignored
        return Path(data) / _APP
    middle = "Library/Application Support" if platform == "darwin" else ".local/share"
    return Path(_home(env, "HOME")) / middle / _APP


def _named(flag: str | os.PathLike[str] | None, flag_name: str, variable: str, env: Mapping[str, str]) -> Found | None:
    value, place, origin = flag, flag_name, "flag"
    if value is None:
        value, place, origin = env.get(variable), f"environment {variable}", f"environment {variable}"
    if value is None:
        return None
    if not os.fspath(value).strip() or "\0" in os.fspath(value):
        raise ConfigurationError(f"{place} is empty or no path", hint="give it a path, or leave it out")
    try:
        return Found(absolute(value), origin)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{place}: {quote(os.fspath(value))} is relative, and the present folder was removed",
            hint="give it as an absolute path",
        ) from None


def _home(env: Mapping[str, str], variable: str) -> str:
    home = env.get(variable, "")
    if os.path.isabs(home):
        return home
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError):
        raise ConfigurationError(
            "this user has no home folder to keep the mirror in", hint="name a folder with --root or MIRROR_ROOT"
        ) from None
