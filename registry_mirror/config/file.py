"""Reads a TOML file whole, and says what is wrong with one that cannot be read. Standard library only."""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(r" \(at line (\d+), column \d+\)")
_END = " (at end of document)"
# A link is not followed, and a FIFO is not waited for.
_LOOK_FIRST = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class Found:
    """A path and who named it: "flag", "environment MIRROR_ROOT", a file, or "default"."""

    path: Path
    origin: str


def read_named(file: Found) -> dict[str, Any]:
    """The tables of the file that --config or MIRROR_CONFIG names.

    Raises:
        ConfigurationError: it is missing, unreadable or not TOML.
    """
    who = "--config" if file.origin == "flag" else file.origin
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{who}: {file.path} {reason(error)}", hint="check the path, or leave it out to use ROOT/config.toml"
        ) from None
    return _parse(data, file.path)


def read_if_there(path: Path) -> dict[str, Any] | None:
    """The tables of a root's own file, None when it has none.

    It says where the API key goes and which command runs, and nobody named it: it counts only when no other account
    could have written it. Who may write in the folder does not matter, because a root may be shared.

    Raises:
        ConfigurationError: it is there, and unreadable, not TOML, or might be somebody else's.
    """
    cure = "mend it, or name another file with --config"
    try:
        descriptor = os.open(path, os.O_RDONLY | _LOOK_FIRST)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        problem = "is a link, and only a plain file counts here" if error.errno == errno.ELOOP else reason(error)
        raise ConfigurationError(f"{path} {problem}", hint=cure) from None
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise ConfigurationError(f"{path} is a folder, not a file", hint=cure)
        if doubt := _distrust(found, getattr(os, "geteuid", lambda: found.st_uid)()):
            raise ConfigurationError(f"{path} does not count: {doubt[0]}", hint=doubt[1])
        with open(descriptor, "rb", closefd=False) as stream:
            return _parse(stream.read(), path)
    finally:
        os.close(descriptor)


def _distrust(found: os.stat_result, account: int) -> tuple[str, str] | None:
    """Why a file is not to be trusted by an account, and the cure; None when it is."""
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


def reason(error: OSError) -> str:
    """Why a file could not be read, to follow its name."""
    if error.errno in _ABSENT:
        return "does not exist"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read ({os.strerror(error.errno).lower()})" if error.errno else "cannot be read"


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    import tomllib

    try:
        text = data.decode("utf-8-sig")  # Windows editors put a byte order mark first, which TOML does not know
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line}: not UTF-8", hint="save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number too long for int() is a plain ValueError
        line, problem = _place(str(error), text)
        raise ConfigurationError(
            f"{path}, line {line}: not TOML: {problem}",
            hint="mend that line; `mirror config check` says when it is right",
        ) from None


def _place(message: str, text: str) -> tuple[int, str]:
    """The line and the problem of tomllib's message, which has them in one text before Python 3.14."""
    if match := _LINE.search(message):
        return int(match[1]), _first_lower(message.replace(match[0], ""))
    return len(text.splitlines()) or 1, _first_lower(message.replace(_END, ""))


def _first_lower(message: str) -> str:
    line = " ".join(message.split())
    return line[:1].lower() + line[1:]
