"""Searches models by a few letters and by their state. Pure, standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..model import ModelStatus
from .schema import storable

_LIVE = "m.gone_at IS NULL"
_HERE = "EXISTS (SELECT 1 FROM weights h WHERE h.model_id = m.id AND h.current)"
_KNOWN = ", ".join(f"'{status}'" for status in ModelStatus)
# Types are stored with underscores, and people read them with spaces.
_PLACES = ("m.name", "m.id", "m.architecture", "m.model_type", "replace(m.model_type, '_', ' ')")


class State(StrEnum):
    """The state of a model as the mirror shows it. A gone model is GONE whatever its status."""

    LIVE = "live"
    """Neither archived nor gone."""
    READY = "ready"
    MISSING = "missing"
    """Ready, but without current weights in the store."""
    TRAINING = "training"
    FAILED = "failed"
    OTHER = "other"
    """A status that this version does not know."""
    ARCHIVED = "archived"
    GONE = "gone"


_TERMS = {
    State.LIVE: f"{_LIVE} AND m.status <> '{ModelStatus.ARCHIVED}'",
    State.READY: f"{_LIVE} AND m.status = '{ModelStatus.READY}'",
    State.MISSING: f"{_LIVE} AND m.status = '{ModelStatus.READY}' AND NOT {_HERE}",
    State.TRAINING: f"{_LIVE} AND m.status = '{ModelStatus.TRAINING}'",
    State.FAILED: f"{_LIVE} AND m.status = '{ModelStatus.FAILED}'",
    State.OTHER: f"{_LIVE} AND m.status NOT IN ({_KNOWN})",
    State.ARCHIVED: f"{_LIVE} AND m.status = '{ModelStatus.ARCHIVED}'",
    State.GONE: "m.gone_at IS NOT NULL",
}
TALLY = ", ".join(f"coalesce(sum({_TERMS[state]}), 0)" for state in State)
"""One number for each `State`, in its order."""


@dataclass(frozen=True, slots=True)
class Search:
    """Models whose name, id, architecture or type contains `text` in any case. `state` None means any state.

    SQLite ignores the case of ASCII letters only. A text with other letters is searched as typed, in lower case, in
    upper case and capitalised, so a name that mixes the case of such letters is found only by its exact spelling.
    """

    text: str = ""
    state: State | None = State.LIVE

    def where(self) -> tuple[str, dict[str, str]]:
        """Returns the SQL condition and the values of its parameters."""
        terms = ["1"] if self.state is None else [_TERMS[self.state]]
        values = {}
        if self.text:
            values = {f"text_{place}": pattern for place, pattern in enumerate(_patterns(storable(self.text)))}
            likes = (f"{column} LIKE :{name} ESCAPE '\\'" for column in _PLACES for name in values)
            terms.append(f"({' OR '.join(likes)})")
        return " AND ".join(terms), values


def _patterns(text: str) -> list[str]:
    forms = [text] if text.isascii() else dict.fromkeys((text, text.lower(), text.upper(), text.capitalize()))
    return [f"%{_literal(form)}%" for form in forms]


def _literal(text: str) -> str:
    """Returns `text` escaped for LIKE, so that it matches only itself."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return text
