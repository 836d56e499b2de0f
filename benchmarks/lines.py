"""What was measured, and what it is worth: series, ratios, targets, fitted exponents. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class NotMeasuredError(Exception):
    """There is no figure; the message says why."""


@dataclass(frozen=True, slots=True)
class Series:
    """What one contender did in each counted run. A unit that ends in `/s` is a rate; of all others less is better."""

    who: str
    values: tuple[float, ...]
    unit: str = "s"

    @property
    def median(self) -> float:
        """The middle run, or the mean of the two in the middle."""
        return median(self.values)

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith("/s")


class Kind(StrEnum):
    """How a target is worded."""

    SPEED = "times as fast"
    """At least so many times the peer's speed."""
    TIME = "times its time"
    """At most so many times the peer's time."""
    VALUE = "at most"
    """Our own value is at most this."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a line has to reach; without a bound, only how its ratio is worded."""

    kind: Kind
    bound: float | None = None

    def met_by(self, ratio: float) -> bool | None:
        """Whether a ratio of this kind reaches it; None without a bound."""
        if self.bound is None:
            return None
        return ratio >= self.bound if self.kind is Kind.SPEED else ratio <= self.bound


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes:
        what: what was done; the peer's name stands beside it.
        peer: None for a line about ourselves or about the machine.
        target: None for a line that compares nothing.
        models: how many models it was with, for a line of a scale curve.
        figure, place: filled in by whoever ran it.
    """

    what: str
    ours: Series
    peer: Series | None = None
    target: Target | None = None
    models: int | None = None
    figure: str = ""
    place: str = ""

    @property
    def kind(self) -> Kind:
        """What the ratio is of."""
        if self.target is not None:
            return self.target.kind
        return Kind.VALUE if self.peer is None else Kind.SPEED

    @property
    def ratio(self) -> float:
        """Of medians, as the target words it; our own median where there is nothing to compare with."""
        if self.peer is None or self.kind is Kind.VALUE:
            return self.ours.median
        slower, faster = self.peer.median, self.ours.median
        if self.ours.is_rate:
            slower, faster = faster, slower
        times_as_fast = slower / faster if faster else math.inf
        if self.kind is Kind.SPEED:
            return times_as_fast
        return 1 / times_as_fast if times_as_fast else math.inf

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where none is set."""
        return None if self.target is None else self.target.met_by(self.ratio)

    def as_json(self) -> dict[str, Any]:
        """With stable keys."""
        return {
            "figure": self.figure,
            "place": self.place,
            "what": self.what,
            "models": self.models,
            "ours": _series_as_json(self.ours),
            "peer": None if self.peer is None else _series_as_json(self.peer),
            "ratio": self.ratio,
            "target": None if self.target is None else {"kind": str(self.target.kind), "bound": self.target.bound},
            "met": self.met,
        }


def line_of(read: dict[str, Any]) -> Line:
    """The line that `as_json` wrote."""
    target = read["target"]
    return Line(
        read["what"],
        _series_of(read["ours"]),
        None if read["peer"] is None else _series_of(read["peer"]),
        None if target is None else Target(Kind(target["kind"]), target["bound"]),
        read["models"],
        read["figure"],
        read["place"],
    )


def _series_as_json(series: Series) -> dict[str, Any]:
    return {"who": series.who, "unit": series.unit, "median": series.median, "runs": list(series.values)}


def _series_of(read: dict[str, Any]) -> Series:
    return Series(read["who"], tuple(read["runs"]), read["unit"])


def fitted_exponent(counts: Sequence[float], seconds: Sequence[float]) -> float:
    """The e of the curve seconds = c * counts ** e that fits best: least squares on the logarithms.

    Raises:
        ValueError: fewer than two different counts, or a value that has no logarithm.
    """
    across, up = [math.log(count) for count in counts], [math.log(second) for second in seconds]
    middle, height = fmean(across), fmean(up)
    spread = sum((x - middle) ** 2 for x in across)
    if spread == 0:
        raise ValueError("an exponent needs at least two different counts")
    return sum((x - middle) * (y - height) for x, y in zip(across, up, strict=True)) / spread
