"""Messages for mistakes in the configuration: what is wrong, and the cure. Pure; standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..urls import hide_password

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY_PREFIX = "pk_"  # how the platform's API keys begin
_LONGEST = 60


class BadValueError(ValueError):
    """A value cannot be used. `problem` follows the key's name in the message: "is 0, out of range"."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure


def quote(value: object) -> str:
    """Formats a value for an error message: one short line, without a URL's password or an API key in it."""
    if KEY_PREFIX in str(value):
        return "'pk_****'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    if "@" in shown:
        shown = hide_password(shown)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def suggest(word: object, known: Iterable[str]) -> str | None:
    """`did you mean 'x'?`, or None when no known word is similar."""
    import difflib

    near = difflib.get_close_matches(str(word).lower(), known, n=1)
    return f"did you mean {near[0]!r}?" if near else None


def suggest_or_list(word: str, known: Iterable[str]) -> str:
    """A hint with the most similar known word, or with all known words if none is similar."""
    words = tuple(known)
    return suggest(word, words) or f"the known ones are {', '.join(words)}"
