"""Finds the root, and reads the configuration file. Standard library only.

The module is quick to import, because every command that reads needs the root.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_APP = "registry-mirror"
_LINE = re.compile(r" \(at line (\d+), column \d+\)")
_END = " (at end of document)"
# Do not follow a link, and do not wait for a FIFO.
_LOOK_FIRST = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class NamedPath:
    """A path and where it was named: "flag", "environment MIRROR_ROOT", a file's path, or "default"."""

    path: Path
    origin: str


def resolve_root(
    flag: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Path:
    """Returns the absolute path of the root, which need not exist. Creates nothing.

    It is the flag, else MIRROR_ROOT, else `root` in the file that `config` or MIRROR_CONFIG names, else `default_root`.

    Raises:
        ConfigurationError: a path is empty, the file cannot be read or has an unknown key, or there is no home folder.
    """
    env = os.environ if env is None else env
    found, file = named_root(flag, env), named_file(config, env)
    if file is not None:
        document = _read_checked(file, needed=found is None)
        found = found or root_of_document(document, file.path)
    return found.path if found else default_root(env)


def _read_checked(file: NamedPath, *, needed: bool) -> dict[str, Any]:
    """Reads the named file and refuses unknown keys, because a misspelt `root` would lead to another mirror.

    If the file is not `needed`, because the root is known already, it need not be readable: readers may lack the right
    to, or, if the environment names it, the file itself.
    """
    from .load import refuse_unknown_keys  # not at the top, because it imports every option

    try:
        document = read_named(file)
    except ConfigurationError:
        if needed or not _is_elsewhere(file):
            raise
        return {}
    refuse_unknown_keys(document, file.path)
    return document


def _is_elsewhere(file: NamedPath) -> bool:
    try:
        there = file.path.exists()
    except OSError:  # this account may not enter one of its folders
        return True
    return not os.access(file.path, os.R_OK) if there else file.origin != "flag"


def named_root(flag: str | os.PathLike[str] | None, env: Mapping[str, str]) -> NamedPath | None:
    """The root that the flag or the environment names; None if neither does."""
    return _named(flag, "--root", "MIRROR_ROOT", env)


def named_file(flag: str | os.PathLike[str] | None, env: Mapping[str, str]) -> NamedPath | None:
    """The configuration file that the flag or the environment names; None if neither does."""
    return _named(flag, "--config", "MIRROR_CONFIG", env)


def root_of_document(document: Mapping[str, Any], file: Path) -> NamedPath | None:
    """The root that a file names, resolved against the file's own folder; None if it names none."""
    if "root" not in document:
        return None
    value = document["root"]
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        from .mistakes import quote

        raise ConfigurationError(
            f"{file}: root is {quote(value)}, not a path in quotes", hint='write it like root = "/srv/models"'
        )
    return NamedPath(absolute(value.strip(), file.parent), str(file))


def absolute(path: str | os.PathLike[str], folder: Path | None = None) -> Path:
    """Makes a path absolute, from `folder` or else the present one, and expands a leading `~`. Keeps links.

    Raises:
        FileNotFoundError: the path is relative, and the present folder was removed.
    """
    return Path(os.path.abspath(os.path.join(folder or "", os.path.expanduser(path))))


def default_root(env: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """The user's data folder for this application, as in `platformdirs.user_data_dir`. Does not create it.

    Raises:
        ConfigurationError: the user has no home folder.
    """
    env = os.environ if env is None else env
    if platform == "win32":
        local = env.get("LOCALAPPDATA")
        return Path(local or os.path.join(_home(env, "USERPROFILE"), "AppData", "Local")) / _APP
    data = env.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):  # the XDG specification says to ignore a relative path
        return Path(data) / _APP
    middle = "Library/Application Support" if platform == "darwin" else ".local/share"
    return Path(_home(env, "HOME")) / middle / _APP


def _named(
    flag: str | os.PathLike[str] | None, flag_name: str, variable: str, env: Mapping[str, str]
) -> NamedPath | None:
    value, place, origin = flag, flag_name, "flag"
    if value is None:
        value, place, origin = env.get(variable), f"environment {variable}", f"environment {variable}"
    if value is None:
        return None
    if not os.fspath(value).strip() or "\0" in os.fspath(value):
        raise ConfigurationError(f"{place} is empty or no path", hint="give it a path, or leave it out")
    try:
        return NamedPath(absolute(value), origin)
    except FileNotFoundError:
        from .mistakes import quote

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


def read_named(file: NamedPath) -> dict[str, Any]:
    """Reads the file that --config or MIRROR_CONFIG names.

    Raises:
        ConfigurationError: the file is missing, unreadable or not TOML.
    """
    who = "--config" if file.origin == "flag" else file.origin
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{who}: {file.path} {why_unreadable(error)}",
            hint="check the path, or leave it out to use ROOT/config.toml",
        ) from None
    return _parse(data, file.path)


def read_if_there(path: Path) -> dict[str, Any] | None:
    """Reads a root's own config.toml; None when it has none.

    The file decides where the API key is sent and which command is run, but the user has not named it. So it is used
    only if no other account could have written it. The folder's permissions do not matter: a root may be shared.

    Raises:
        ConfigurationError: the file exists, but is unreadable, not TOML, or another account may have written it.
    """
    cure = "mend it, or name another file with --config"
    try:
        descriptor = os.open(path, os.O_RDONLY | _LOOK_FIRST)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        problem = (
            "is a link, and only a plain file counts here" if error.errno == errno.ELOOP else why_unreadable(error)
        )
        raise ConfigurationError(f"{path} {problem}", hint=cure) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise ConfigurationError(f"{path} is a folder, not a file", hint=cure)
        if doubt := _distrust(status, getattr(os, "geteuid", lambda: status.st_uid)()):
            raise ConfigurationError(f"{path} does not count: {doubt[0]}", hint=doubt[1])
        with open(descriptor, "rb", closefd=False) as stream:
            return _parse(stream.read(), path)
    finally:
        os.close(descriptor)


def _distrust(found: os.stat_result, account: int) -> tuple[str, str] | None:
    """The reason why an account must not trust a file, and the cure; None if it may."""
    other = "or name a file that you trust with --config"
    if not stat.S_ISREG(found.st_mode):
        return "it is no plain file", f"put one there, {other}"
    if found.st_nlink != 1:
        return f"it has {found.st_nlink} names, so it may be a file of another place", f"copy it, {other}"
    if found.st_uid not in (account, 0):
        return (
            f"it belongs to account {found.st_uid}, and account {account} would give its API key to whom that names",
            f"have root or the account that runs the mirror own it, {other}",
        )
    if os.name == "posix" and found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        return f"others than its owner may write it (mode {mode:04o})", f"take that from them with chmod go-w, {other}"
    return None


def why_unreadable(error: OSError) -> str:
    """The reason why a file could not be read, in words that follow its name."""
    if error.errno in _ABSENT:
        return "does not exist"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read ({os.strerror(error.errno).lower()})" if error.errno else "cannot be read"


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    import tomllib

    try:
        text = data.decode("utf-8-sig")  # sig: Windows editors write a byte order mark, which TOML does not allow
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line}: not UTF-8", hint="save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:  # int() raises a plain ValueError for a very long number
        line, problem = _place(str(error), text)
        raise ConfigurationError(
            f"{path}, line {line}: not TOML: {problem}",
            hint="mend that line; `mirror config check` says when it is right",
        ) from None


def _place(message: str, text: str) -> tuple[int, str]:
    """The line and the problem in tomllib's message. Before Python 3.14, the error has no attributes for them."""
    if match := _LINE.search(message):
        return int(match[1]), _first_lower(message.replace(match[0], ""))
    return len(text.splitlines()) or 1, _first_lower(message.replace(_END, ""))


def _first_lower(message: str) -> str:
    line = " ".join(message.split())
    return line[:1].lower() + line[1:]
