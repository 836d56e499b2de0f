"""Which models a person looks for: by a few letters, and by how they are. Pure, standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..model import ModelStatus
from .schema import storable

_LIVE = "m.gone_at IS NULL"
_HERE = "EXISTS (SELECT 1 FROM weights h WHERE h.model_id = m.id AND h.current)"
_KNOWN = ", ".join(f"'{status}'" for status in ModelStatus)
# Types are written with underscores and read without.
_PLACES = ("m.name", "m.id", "m.architecture", "m.model_type", "replace(m.model_type, '_', ' ')")


class State(StrEnum):
    """How a model is for whoever looks at the mirror. Gone goes before every status."""

    LIVE = "live"
    """Neither archived nor gone."""
    READY = "ready"
    MISSING = "missing"
    """Ready, and its weights are not here."""
    TRAINING = "training"
    FAILED = "failed"
    OTHER = "other"
    """A status that nobody knew when this was written."""
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
    """Models whose name, id, architecture or type has `text` in it, whatever its case; None for models in any state.

    SQLite knows the case of ASCII letters alone. Others are looked for as they were typed, and in small and in capital
    letters, so that a name that mixes the cases of several of those is found by its own spelling only.
    """

    text: str = ""
    state: State | None = State.LIVE

    def where(self) -> tuple[str, dict[str, str]]:
        """The condition, and the values in it."""
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
    """`text` as LIKE reads it when it means nothing but itself."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return text
