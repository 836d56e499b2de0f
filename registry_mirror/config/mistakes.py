"""Words for mistakes in the configuration: what is wrong, and the cure. Pure; standard library only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..urls import hide_password

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY_PREFIX = "pk_"  # how the platform's API keys begin
_LONGEST = 60


class BadValueError(ValueError):
    """A value cannot be used. `problem` goes on from the key's name: "is 0, out of range"."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure


def quote(value: object) -> str:
    """A value as an error may show it: one short line, without a URL's password or an API key that was put there."""
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
    """`did you mean 'x'?`, or None when nothing known is near."""
    import difflib

    near = difflib.get_close_matches(str(word).lower(), known, n=1)
    return f"did you mean {near[0]!r}?" if near else None


def suggest_or_list(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or all of them."""
    words = tuple(known)
    return suggest(word, words) or f"the known ones are {', '.join(words)}"
