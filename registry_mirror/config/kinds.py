"""One row of the table of options, and the kinds of values that options have. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..secret import MASK
from ..units import DURATION_EXAMPLES, SIZE_EXAMPLES, format_duration, format_size, parse_duration, parse_size
from ..urls import hide_secrets
from .filters import parse_rules, rules_as_json, show_rules
from .invalid import Invalid, quote, suggest

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    Attributes:
        key: dotted, as in "upstream.base_url".
        kind: how it is read and shown.
        default: as TOML would have it; None for none.
        help: what it is, in one sentence.
        why: the reason for the default, or for the option.
        also_env: names of the environment that are read after the option's own.
        in_env: False for what has no sensible form in one line.
    """

    key: str
    kind: OptionKind
    default: object
    help: str
    why: str
    also_env: tuple[str, ...] = ()
    in_env: bool = True

    @property
    def section(self) -> str:
        """The TOML table, empty for the top level."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key inside its table."""
        return self.key.rpartition(".")[2]

    @property
    def env_names(self) -> tuple[str, ...]:
        """The environment's names for it, the strongest first."""
        if not self.in_env:
            return ()
        return (f"MIRROR_{self.key.replace('.', '_').upper()}", *self.also_env)


NEVER = "never"
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _keep(value: Any) -> object:
    return value


@dataclass(frozen=True, slots=True)
class OptionKind:
    """One kind of value.

    Attributes:
        name: as the reference names it, such as "whole number, 1 to 64".
        parse: a TOML value to the setting; raises `Invalid`.
        show: the setting as text, secrets masked.
        split: text of the environment or a flag to a TOML value; what it cannot read it leaves for `parse`.
        as_json: the setting for a program, secrets masked; `show` when None.
        absent: the setting where nothing is given and the default is none.
    """

    name: str
    parse: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    split: Callable[[str], object] = _keep
    as_json: Callable[[Any], object] | None = None
    absent: object = None


def text(name: str, check: Callable[[str], str] = str, show: Callable[[str], str] = str) -> OptionKind:
    """A line of text that `check` accepts."""

    def parse(value: object) -> str:
        return check(_line(value, "a text in quotes"))

    return OptionKind(name, parse, show)


def choice(*words: str) -> OptionKind:
    """One of a few words."""
    name = " or ".join(f'"{word}"' for word in words)

    def parse(value: object) -> str:
        word = _line(value, name)
        if word not in words:
            raise Invalid(f"is {quote(value)}, which it cannot be", suggest(word, words) or f"use {name}")
        return word

    return OptionKind(name, parse)


def choices(*words: str) -> OptionKind:
    """A list of some of a few words, in the operator's order."""
    known = ", ".join(words)

    def parse(value: object) -> tuple[str, ...]:
        cure = f"list at least one of {known}"
        if not isinstance(value, (list, tuple)):
            raise Invalid(f"is {quote(value)}, not a list", f'write it like ["{words[0]}"]')
        if not value:
            raise Invalid("is an empty list", cure)
        for word in value:
            if word not in words:
                raise Invalid(f"names {quote(word)}, which nobody knows", suggest(word, words) or cure)
        if len(set(value)) < len(value):
            raise Invalid(f"names {quote(_repeated(value))} twice", "name each once")
        return tuple(value)

    def split(line: str) -> object:
        return [word.strip() for word in line.split(",") if word.strip()]

    return OptionKind(f"list of {known}", parse, ", ".join, split, as_json=list)


def networks() -> OptionKind:
    """A list of addresses and networks; none at all is an answer too."""
    cure = 'write it like ["127.0.0.1", "10.0.0.0/8"]'

    def parse(value: object) -> tuple[str, ...]:
        import ipaddress

        if not isinstance(value, (list, tuple)):
            raise Invalid(f"is {quote(value)}, not a list", cure)
        found = []
        for each in value:
            try:
                found.append(str(ipaddress.ip_network(each if isinstance(each, str) else "", strict=False)))
            except ValueError:
                raise Invalid(f"names {quote(each)}, which is neither an address nor a network", cure) from None
        return tuple(found)

    def split(line: str) -> object:
        return [word.strip() for word in line.split(",") if word.strip()]

    return OptionKind(
        "list of addresses and networks", parse, lambda value: ", ".join(value) or "none", split, as_json=list
    )


def whole(low: int, high: int) -> OptionKind:
    """A whole number."""
    cure = f"use a whole number from {low} to {high}"

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Invalid(f"is {quote(value)}, not a whole number", cure)
        if not low <= value <= high:
            raise Invalid(f"is {value}, out of range", cure)
        return value

    def split(line: str) -> object:
        digits = line.strip()
        return int(digits) if digits.lstrip("-").isdecimal() and len(digits) < 20 else line

    return OptionKind(f"whole number, {low} to {high}", parse, split=split, as_json=_keep)


def flag() -> OptionKind:
    """True or false."""
    cure = "use true or false"

    def parse(value: object) -> bool:
        if not isinstance(value, bool):
            raise Invalid(f"is {quote(value)}, not true or false", cure)
        return value

    def split(line: str) -> object:
        return _FLAGS.get(line.strip().lower(), line)

    return OptionKind("true or false", parse, lambda value: "true" if value else "false", split, as_json=_keep)


def duration(low: str, high: str) -> OptionKind:
    """Seconds, written as people do."""

    def parse(value: Any) -> float:
        try:
            seconds = parse_duration(value)
        except ValueError:
            raise Invalid(f"is {quote(value)}, which is not a duration", f"write it like {DURATION_EXAMPLES}") from None
        if not parse_duration(low) <= seconds <= parse_duration(high):
            raise Invalid(f"is {quote(value)}, out of range", f"use a duration from {low} to {high}")
        return seconds

    return OptionKind(f"duration, {low} to {high}", parse, _show_duration, as_json=_keep)


def duration_or_never(low: str, high: str) -> OptionKind:
    """Seconds, written as people do; "never" is None."""
    seconds = duration(low, high)

    def parse(value: Any) -> float | None:
        return None if isinstance(value, str) and value.strip().lower() == NEVER else seconds.parse(value)

    def show(value: float | None) -> str:
        return NEVER if value is None else seconds.show(value)

    # None is a setting here, not the lack of one.
    return OptionKind(f'{seconds.name}, or "{NEVER}"', parse, show, as_json=_keep, absent="")


def size() -> OptionKind:
    """Bytes, written as people do."""

    def parse(value: Any) -> int:
        try:
            return parse_size(value)
        except ValueError:
            raise Invalid(f"is {quote(value)}, which is not a size", f"write it like {SIZE_EXAMPLES}") from None

    return OptionKind("size", parse, _show_size, as_json=_keep)


def rate(low: str) -> OptionKind:
    """Bytes a second, at least `low`: a size, with or without the words that say so."""
    cure = 'write it like "10 MB/s" or "512 KiB/s"'

    def parse(value: Any) -> int:
        try:
            found = parse_size(value.strip().removesuffix("/s") if isinstance(value, str) else value)
        except ValueError:
            raise Invalid(f"is {quote(value)}, which is not a rate", cure) from None
        if found < parse_size(low):
            raise Invalid(f"is {quote(value)}, out of range", f"use {low}/s or more, or leave it out for no limit")
        return found

    return OptionKind("size a second", parse, lambda value: f"{_show_size(value)}/s", as_json=_keep)


def path(name: str, check: Callable[[str], str] = str) -> OptionKind:
    """A path that `check` accepts. The loader makes it absolute, because it knows where it was written."""

    def parse(value: object) -> Path:
        line = os.fspath(value) if isinstance(value, os.PathLike) else value
        return Path(check(_line(line, "a path in quotes")))

    return OptionKind(name, parse)


def command() -> OptionKind:
    """A command's arguments, from one line or a list. No shell reads them, so `|`, `>` and `$` mean nothing."""
    cure = 'write it like "/usr/local/bin/alert --team vision", or as a list of its words'

    def parse(value: object) -> tuple[str, ...]:
        words = _words(value, cure) if isinstance(value, str) else value
        if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
            raise Invalid("is neither a text nor a list of texts", cure)
        if not words or not words[0].strip():
            raise Invalid("is empty", f"{cure}; leave it out for none")
        if any("\0" in word for word in words):
            raise Invalid("has a NUL character in it", cure)
        return tuple(words)

    return OptionKind("command line, or list of its words", parse, _show_command, absent=())


def rules() -> OptionKind:
    """The `[[sync.rules]]`."""
    return OptionKind("array of tables", parse_rules, show_rules, as_json=rules_as_json)


def _line(value: object, wanted: str) -> str:
    """A text that is one line and not empty, without the white space around it."""
    if not isinstance(value, str):
        raise Invalid(f"is {quote(value)}, not {wanted}", f"write {wanted}")
    line = value.strip()
    if not line:
        raise Invalid("is empty", "give it a value, or leave it out for the default")
    if any(ord(character) < 32 or ord(character) == 127 for character in line):
        raise Invalid("has a line end or another control character in it", f"write {wanted}, on one line")
    return line


def _words(line: str, cure: str) -> list[str]:
    import shlex

    try:
        return shlex.split(line)
    except ValueError as error:
        raise Invalid(f"has a quote or a backslash that does not end ({error})", cure) from None


def _repeated(words: list[str] | tuple[str, ...]) -> str:
    return next(word for place, word in enumerate(words) if word in words[:place])


def _show_duration(seconds: float) -> str:
    short = format_duration(seconds)
    return short if not short.endswith("ms") and parse_duration(short) == seconds else f"{seconds:.15g} s"


def _show_size(value: int | None) -> str:
    if value is None:
        return ""
    short = format_size(value)
    return short if parse_size(short) == value else f"{value} B"


def _show_command(words: tuple[str, ...]) -> str:
    """URLs are cut after the host: a webhook's path is its password."""
    import shlex

    return " ".join(_hide_path(word) if "://" in word else shlex.quote(word) for word in words)


def _hide_path(url: str) -> str:
    scheme, _, rest = hide_secrets(url).partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{MASK if path else ''}"
