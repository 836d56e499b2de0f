"""Reads a TOML file whole, and says what is wrong with one that cannot be read. Standard library only."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(r" \(at line (\d+), column \d+\)")
_END = " (at end of document)"
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

    Raises:
        ConfigurationError: it is there, and unreadable or not TOML.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise ConfigurationError(
            f"{path} {reason(error)}", hint="mend it, or name another file with --config"
        ) from None
    return _parse(data, path)


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
