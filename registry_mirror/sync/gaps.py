"""Listings that bring fewer models than they say they have. Pure.

The first run has nothing else that tells what is missing. But an upstream may count something else than the models that
it lists, and then every run would be partial for ever. So a gap that three runs in a row had is taken for its manner.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..upstream import Reading

FACT = "listing_gaps"
"""The fact that remembers the gaps of the last run, as JSON: listing to gap and how many runs in a row had it."""

_PATIENCE = 3


@dataclass(frozen=True, slots=True)
class Gap:
    """A listing that is not whole by its own word.

    Attributes:
        listing: "live" or "archived".
        total: how many models it says it has; None when it says only that there are more.
        received: how many different ones came, in all readings together.
        size: as `Reading.gap` gives it.
        usual: the three runs before had the same one.
    """

    listing: str
    total: int | None
    received: int
    size: str
    usual: bool

    def as_json(self) -> dict[str, Any]:
        """As it stands in the run's record."""
        return {"listing": self.listing, "total": self.total, "received": self.received, "usual": self.usual}

    def __str__(self) -> str:
        which = "the listing" if self.listing == "live" else f"the listing of {self.listing} models"
        if self.total is None:
            return f"{which} says that it has more than the {self.received} models that it brought"
        return f"{which} says that it has {self.total} models and brought {self.received}"


def usual_gaps(facts: Mapping[str, str]) -> dict[str, str]:
    """The gaps, by listing, that are this upstream's manner."""
    return {listing: size for listing, (size, runs) in _remembered(facts).items() if runs >= _PATIENCE}


def find_gaps(readings: Mapping[str, Reading], facts: Mapping[str, str]) -> tuple[Gap, ...]:
    """The gaps of a run, from what was read of each listing and what the runs before have left."""
    usual = usual_gaps(facts)
    return tuple(
        Gap(listing, reading.total, reading.received, reading.gap, usual=usual.get(listing) == reading.gap)
        for listing, reading in readings.items()
        if reading.gap
    )


def remember(gaps: Iterable[Gap], facts: Mapping[str, str]) -> dict[str, str]:
    """The facts to record for the next run; none when nothing is new. Another gap, or none, begins anew."""
    before, after = _remembered(facts), {}
    for gap in gaps:
        size, runs = before.get(gap.listing, ("", 0))
        after[gap.listing] = [gap.size, min(_PATIENCE, runs + 1) if size == gap.size else 1]
    text = json.dumps(after) if after else ""
    return {} if text == facts.get(FACT, "") else {FACT: text}


def _remembered(facts: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """What cannot be read is no memory: the next run writes it anew."""
    try:
        return {
            listing: (str(size), int(runs)) for listing, (size, runs) in json.loads(facts.get(FACT) or "{}").items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def gap_warning(gaps: Iterable[Gap]) -> str | None:
    """What to say of the gaps that are not usual; None when there are none."""
    said = "; ".join(str(gap) for gap in gaps if not gap.usual)
    return f"{said}, also when it was read again; nothing was marked gone" if said else None
