"""One run of the benchmark as a value: what was measured, what was not, on what machine. JSON there and back."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

from registry_mirror import __version__
from registry_mirror.model import format_time, utc_now

from .lines import Line, line_of


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that could not be measured, and why."""

    figure: str
    place: str
    why: str


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run. `about` has the version, the machine, the sizes and the number of runs."""

    about: dict[str, Any]
    lines: tuple[Line, ...]
    missing: tuple[Missing, ...]

    @property
    def missed(self) -> list[Line]:
        """The lines under their target."""
        return [line for line in self.lines if line.met is False]

    def as_json(self) -> dict[str, Any]:
        """With stable keys."""
        missing = [{"figure": each.figure, "place": each.place, "why": each.why} for each in self.missing]
        return {"about": self.about, "lines": [line.as_json() for line in self.lines], "missing": missing}


def results_of(read: dict[str, Any]) -> Results:
    """The results that `as_json` wrote."""
    missing = tuple(Missing(each["figure"], each["place"], each["why"]) for each in read["missing"])
    return Results(read["about"], tuple(line_of(each) for each in read["lines"]), missing)


def about(sizes: str, runs: int) -> dict[str, Any]:
    """What the figures were measured with. Nothing in it names this machine."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "sizes": sizes,
        "runs": runs,
        "finished_at": format_time(utc_now()),
    }
