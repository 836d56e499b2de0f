"""The types of value that a setting may have: how each is read, checked and shown. Standard library only.

A value from the environment or a flag is text. `split` converts it to the value that TOML would have given, and `parse`
checks that, so that a mistake gets the same message wherever it was made.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..secret import MASK
from ..units import DURATION_EXAMPLES, SIZE_EXAMPLES, format_duration, format_size, parse_duration, parse_size
from ..urls import hide_secrets
from .mistakes import KEY_PREFIX, BadValueError, quote, suggest

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = "never"
_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Option:
    """One setting, as a person writes it.

    Attributes:
        key: dotted, as in "upstream.base_url".
        kind: the type of its value.
        help: what it is, in one sentence.
        why: the reason for the default, or for the option.
        default: a TOML value; None for no default.
        example: a TOML value, for an option without a default.
        details: further text for the reference in the docs.
        also_env: environment variables that are read after the option's own.
        in_env: whether it can be set in the environment; False if its value does not fit into one line.
    """

    key: str
    kind: ValueType
    help: str
    why: str
    default: object = None
    example: object = None
    details: str = ""
    also_env: tuple[str, ...] = ()
    in_env: bool = True

    @property
    def section(self) -> str:
        """The name of its TOML table; empty for the top level."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key inside its table."""
        return self.key.rpartition(".")[2]

    @property
    def env_names(self) -> tuple[str, ...]:
        """The environment variables that set it; the first one that is set counts."""
        return (f"MIRROR_{self.key.replace('.', '_').upper()}", *self.also_env) if self.in_env else ()


@dataclass(frozen=True, slots=True)
class ValueType:
    """One type of value.

    Attributes:
        name: its name in the reference, such as "whole number, 1 to 64".
        parse: converts a TOML value to the setting; raises `BadValueError`.
        show: formats the setting as text, with secrets masked.
        split: converts text of the environment or a flag to a TOML value; returns text that it cannot convert as it is.
        as_json: converts the setting for JSON; if None, numbers and booleans stay, and the rest becomes text by `show`.
        absent: the setting when no value is given and there is no default.
        when_absent: the text that shows `absent`.
    """

    name: str
    parse: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    split: Callable[[str], object] = lambda line: line
    as_json: Callable[[Any], object] | None = None
    absent: object = None
    when_absent: str = "none"

    def setting(self, what: str, why: str, *, secret: bool = False, default: object = None, **more: Any) -> Any:
        """Makes a field of a settings class.

        Args:
            what: what it is, in one sentence (`Option.help`).
            why: the reason for the default, or for the option.
            secret: whether to leave it out of the repr.
            default: a TOML value; None for no default.
            more: further attributes of `Option`.
        """
        value = self.absent if default is None else self.parse(default)
        option = Option("", self, what, why, default, **more)
        return field(default=value, repr=not secret, metadata={"option": option})


def text(name: str, check: Callable[[str], str] = str, show: Callable[[str], str] = str) -> ValueType:
    """A line of text, which `check` returns in its final form; `check` raises BadValueError to refuse it."""
    return ValueType(name, lambda value: check(_line(value, "a text in quotes")), show)


def environment_name() -> ValueType:
    """The name of an environment variable, in capitals.

    No API key is all capitals, so a key that was pasted here by mistake is refused before anything prints it.
    """

    def check(name: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise BadValueError(
                "is not the name of an environment variable", 'write a name like "PICTOGRAPH_API_KEY", never the key'
            )
        return name

    return text("name of an environment variable, in capitals", check)


def host() -> ValueType:
    """An address or a name to listen on, without brackets, port or scheme."""

    def check(value: str) -> str:
        bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        cure = 'write it like "127.0.0.1", "0.0.0.0", "::" or a host name'
        return _matching(r"[\w.-]+|[0-9a-fA-F.]*:[0-9a-fA-F:.]*", bare, f"is {quote(value)}, not an address", cure)

    return text("address or host name", check)


def path_prefix() -> ValueType:
    """The path under which a server is reached. A slash at its end is removed."""

    def check(value: str) -> str:
        problem = f"is {quote(value)}, not a path prefix"
        return _matching(r"(/[A-Za-z0-9._~-]+)+", value.rstrip("/"), problem, 'write it like "/models"')

    return text("path", check)


def public_url() -> ValueType:
    """The address under which clients reach a server. A slash at its end is removed."""
    pattern = r"(?i:https?)://[\w.\-\[\]:]+(/[A-Za-z0-9._~-]+)*"

    def check(value: str) -> str:
        problem = f"is {quote(value)}, not an http or https URL"
        return _matching(pattern, value.rstrip("/"), problem, 'write it like "https://mirror.example/models"')

    return text("http or https URL", check)


def choice(*words: str) -> ValueType:
    """One of the given words."""
    name = " or ".join(f'"{word}"' for word in words)

    def parse(value: object) -> str:
        word = _line(value, name)
        if word not in words:
            raise BadValueError(f"is {quote(value)}, which it cannot be", suggest(word, words) or f"use {name}")
        return word

    return ValueType(name, parse)


def choices(*words: str) -> ValueType:
    """A list of at least one of the given words, without repetition, in the operator's order."""
    known = ", ".join(words)
    cure = f"list at least one of {known}"

    def parse(value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)):
            raise BadValueError(f"is {quote(value)}, not a list", f'write it like ["{words[0]}"]')
        if not value:
            raise BadValueError("is an empty list", cure)
        for place, word in enumerate(value):
            if word not in words:
                raise BadValueError(f"names {quote(word)}, which nobody knows", suggest(word, words) or cure)
            if word in value[:place]:
                raise BadValueError(f"names {quote(word)} twice", "name each once")
        return tuple(value)

    return ValueType(f"list of {known}", parse, ", ".join, _comma_separated, as_json=list)


def networks() -> ValueType:
    """A list of IP addresses and networks, in CIDR form. It may be empty."""
    cure = 'write it like ["127.0.0.1", "10.0.0.0/8"]'

    def parse(value: object) -> tuple[str, ...]:
        import ipaddress

        if not isinstance(value, (list, tuple)):
            raise BadValueError(f"is {quote(value)}, not a list", cure)
        found = []
        for each in value:
            try:
                found.append(str(ipaddress.ip_network(each if isinstance(each, str) else "", strict=False)))
            except ValueError:
                problem = f"names {quote(each)}, which is neither an address nor a network"
                raise BadValueError(problem, cure) from None
        return tuple(found)

    def show(value: tuple[str, ...]) -> str:
        return ", ".join(value) or "none"

    return ValueType("list of addresses and networks", parse, show, _comma_separated, as_json=list)


def whole(low: int, high: int) -> ValueType:
    """A whole number from `low` to `high`."""
    cure = f"use a whole number from {low} to {high}"

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadValueError(f"is {quote(value)}, not a whole number", cure)
        if not low <= value <= high:
            raise BadValueError(f"is {value}, out of range", cure)
        return value

    def split(line: str) -> object:
        digits = line.strip()
        return int(digits) if digits.lstrip("-").isdecimal() and len(digits) < 20 else line

    return ValueType(f"whole number, {low} to {high}", parse, split=split)


def switch() -> ValueType:
    """True or false."""

    def parse(value: object) -> bool:
        if not isinstance(value, bool):
            raise BadValueError(f"is {quote(value)}, not true or false", "use true or false")
        return value

    def split(line: str) -> object:
        return _SWITCHES.get(line.strip().lower(), line)

    return ValueType("true or false", parse, lambda value: "true" if value else "false", split)


def duration(low: str, high: str) -> ValueType:
    """A duration in seconds, written like "90s" or "1h", from `low` to `high`."""

    def parse(value: Any) -> float:
        try:
            seconds = parse_duration(value)
        except ValueError:
            problem = f"is {quote(value)}, which is not a duration"
            raise BadValueError(problem, f"write it like {DURATION_EXAMPLES}") from None
        if not parse_duration(low) <= seconds <= parse_duration(high):
            raise BadValueError(f"is {quote(value)}, out of range", f"use a duration from {low} to {high}")
        return seconds

    def show(seconds: float) -> str:
        short = format_duration(seconds)
        return short if not short.endswith("ms") and parse_duration(short) == seconds else f"{seconds:.15g} s"

    return ValueType(f"duration, {low} to {high}", parse, show)


def duration_or_never(low: str, high: str) -> ValueType:
    """A duration in seconds from `low` to `high`, or None, written "never"."""
    seconds = duration(low, high)

    def parse(value: Any) -> float | None:
        return None if isinstance(value, str) and value.strip().lower() == NEVER else seconds.parse(value)

    return ValueType(f'{seconds.name}, or "{NEVER}"', parse, seconds.show, when_absent=NEVER)


def size() -> ValueType:
    """A number of bytes, written like "10 GB"."""

    def parse(value: Any) -> int:
        try:
            return parse_size(value)
        except ValueError:
            raise BadValueError(f"is {quote(value)}, which is not a size", f"write it like {SIZE_EXAMPLES}") from None

    return ValueType("size", parse, _show_size)


def rate(low: str) -> ValueType:
    """Bytes a second, at least `low`: a size with or without "/s"."""
    cure = 'write it like "10 MB/s" or "512 KiB/s"'

    def parse(value: Any) -> int:
        try:
            found = parse_size(value.strip().removesuffix("/s") if isinstance(value, str) else value)
        except ValueError:
            raise BadValueError(f"is {quote(value)}, which is not a rate", cure) from None
        if found < parse_size(low):
            raise BadValueError(
                f"is {quote(value)}, out of range", f"use {low}/s or more, or leave it out for no limit"
            )
        return found

    return ValueType("size a second", parse, lambda value: f"{_show_size(value)}/s")


def path(check: Callable[[str], str] = str) -> ValueType:
    """A path; `check` raises BadValueError to refuse it.

    The loader makes it absolute, because only the loader knows the folder of the file that has it.
    """

    def parse(value: object) -> Path:
        line = os.fspath(value) if isinstance(value, os.PathLike) else value
        return Path(check(_line(line, "a path in quotes")))

    return ValueType("path", parse)


def key_file() -> ValueType:
    """The path of a file with an API key. If it is the key itself, it is refused before anything prints it."""

    def check(value: str) -> str:
        if os.path.basename(value).startswith(KEY_PREFIX):
            cure = "put the key in a file of its own, and give that file's path"
            raise BadValueError("looks like the API key itself", cure)
        return value

    return path(check)


def command() -> ValueType:
    """A command's arguments, from one line or a list. No shell reads them, so `|`, `>` and `$` mean nothing."""
    cure = 'write it like "/usr/local/bin/alert --team vision", or as a list of its words'

    def parse(value: object) -> tuple[str, ...]:
        words = _words(value, cure) if isinstance(value, str) else value
        if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
            raise BadValueError("is neither a text nor a list of texts", cure)
        if not words or not words[0].strip():
            raise BadValueError("is empty", f"{cure}; leave it out for none")
        if any("\0" in word for word in words):
            raise BadValueError("has a NUL character in it", cure)
        return tuple(words)

    return ValueType("command line, or list of its words", parse, _show_command, absent=())


def _line(value: object, wanted: str) -> str:
    """Returns a text without surrounding white space. Raises BadValueError unless it is one line that is not empty."""
    if not isinstance(value, str):
        raise BadValueError(f"is {quote(value)}, not {wanted}", f"write {wanted}")
    line = value.strip()
    if not line:
        raise BadValueError("is empty", "give it a value, or leave it out for the default")
    if any(ord(character) < 32 or ord(character) == 127 for character in line):
        raise BadValueError("has a line end or another control character in it", f"write {wanted}, on one line")
    return line


def _matching(pattern: str, value: str, problem: str, cure: str) -> str:
    if not re.fullmatch(pattern, value):
        raise BadValueError(problem, cure)
    return value


def _comma_separated(line: str) -> object:
    return [word.strip() for word in line.split(",") if word.strip()]


def _words(line: str, cure: str) -> list[str]:
    import shlex

    try:
        return shlex.split(line)
    except ValueError as error:
        raise BadValueError(f"has a quote or a backslash that does not end ({error})", cure) from None


def _show_size(value: int) -> str:
    short = format_size(value)
    return short if parse_size(short) == value else f"{value} B"


def _show_command(words: tuple[str, ...]) -> str:
    """The command in one line. The path of a URL is masked, because a webhook's path is its password."""
    import shlex

    return " ".join(_hide_path(word) if "://" in word else shlex.quote(word) for word in words)


def _hide_path(url: str) -> str:
    scheme, _, rest = hide_secrets(url).partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{MASK if path else ''}"
