"""Results as a table: for a terminal, and as Markdown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lines import Kind, Line
from .setting import MEMORY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .lines import Series, Target
    from .results import Results

HEAD = ("what", "mirror", "peer", "peer's", "ratio", "target", "verdict")
LIMITS = "limits"


def rows(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """The cells of each line, as in `HEAD`."""
    return [
        (
            line.what + ("" if line.models is None else f", {line.models:,} models"),
            value(line.ours),
            line.peer.who if line.peer else "",
            value(line.peer) if line.peer else "",
            ratio(line),
            target(line.target),
            verdict(line),
        )
        for line in lines
    ]


def value(series: Series) -> str:
    """A median with its unit."""
    amount, unit = series.median, series.unit
    if unit == "s" and 0 < amount < 0.1:
        amount, unit = amount * 1000, "ms"
    digits = 0 if unit == "requests" or amount >= 1000 else 1 if amount >= 100 else 2 if amount >= 1 else 3
    return f"{amount:,.{digits}f} {unit}".rstrip()


def where(place: str) -> str:
    """`in memory`, `on disk`."""
    return f"{'in' if place == MEMORY else 'on'} {place}"


def ratio(line: Line) -> str:
    """Blank where a line compares nothing."""
    return "" if line.peer is None else f"{line.ratio:.2f}"


def target(wanted: Target | None) -> str:
    """In its own words; the words alone where there is no bound."""
    if wanted is None:
        return ""
    words = "" if wanted.kind is Kind.VALUE else str(wanted.kind)
    if wanted.bound is None:
        return words
    return f"{'≥' if wanted.kind is Kind.SPEED else '≤'} {wanted.bound:g} {words}".rstrip()


def verdict(line: Line) -> str:
    """`met`, `missed`, or blank."""
    return {True: "met", False: "missed", None: ""}[line.met]


def as_text(results: Results) -> str:
    """Each place with its limits first, then what was not measured, then the sum."""
    parts = []
    for place in dict.fromkeys(line.place for line in results.lines):
        lines = [line for line in results.lines if line.place == place]
        parts += [where(place), _aligned([HEAD, *rows(lines)])]
    parts += [f"not measured: {each.figure}, {where(each.place)}: {each.why}" for each in results.missing]
    parts.append(summary(results))
    return "\n".join(parts)


def summary(results: Results) -> str:
    """One line that counts."""
    judged = [line for line in results.lines if line.met is not None]
    return f"{len(judged) - len(results.missed)} of {len(judged)} targets met, {len(results.missing)} not measured"


def _aligned(cells: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[at]) for row in cells) for at in range(len(HEAD))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(f"  {line}".rstrip() for line in padded)


def as_markdown(results: Results) -> str:
    """The same for a page of documentation."""
    parts = [described(results)]
    for place in dict.fromkeys(line.place for line in results.lines):
        here = [line for line in results.lines if line.place == place]
        limits = [line for line in here if line.figure == LIMITS]
        if limits:
            parts += [f"### The machine, {where(place)}", _limits(limits)]
        parts += [f"### The figures, {where(place)}", _markdown([line for line in here if line.figure != LIMITS])]
    if results.missing:
        parts += [
            "### Not measured",
            "\n".join(f"- {each.figure}, {where(each.place)}: {each.why}" for each in results.missing),
        ]
    return "\n\n".join(parts) + "\n"


def described(results: Results) -> str:
    """One sentence on what was measured with, and the sum."""
    about = results.about
    runs = "one run" if about["runs"] == 1 else f"medians of {about['runs']} runs"
    return (
        f"Version {about['version']}, {about['system']}, {about['cores']} cores, Python {about['python']}; sizes "
        f"`{about['sizes']}`, {runs} after a warm-up, finished {about['finished_at'][:10]}. "
        f"{summary(results)}."
    )


def _limits(lines: Sequence[Line]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {line.what} | {value(line.ours)} |" for line in lines)])


def _markdown(lines: Sequence[Line]) -> str:
    table = [HEAD, ("---",) * len(HEAD), *rows(lines)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table)
