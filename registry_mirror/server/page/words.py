"""Words and numbers as the status page shows them. Pure.

Names, errors and the record of a run come from elsewhere: whatever they hold, they must not turn the line, change the
direction of what stands around them, or fill the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

LONGEST = 120
LONGEST_ERROR = 400
_JOINERS = "\u200c\u200d"  # inside emoji and in several scripts; they move nothing
_LARGEST = 1e15
_MOST_METRICS = 3
_LEADING = ("map", "map50", "map_50", "map50_95", "miou", "iou", "accuracy", "dice", "f1", "precision", "recall")
_MINUTE, _DAY = 60, 86_400
_LONGEST_LABEL = 24


def clean(text: str, longest: int | None = None) -> str:
    r"""`text` with control, format and bidirectional characters escaped (`\n`, `\u202e`), cut at `longest`."""
    cut = text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join(one if one.isprintable() or one in _JOINERS else repr(one)[1:-1] for one in cut)


def ago(seconds: float) -> str:
    """`3 min ago`, `2 h 5 min ago`, `4 d 3 h ago`."""
    if seconds < _MINUTE:
        return "less than a minute ago"
    step = 3600 if seconds >= _DAY else _MINUTE
    return f"{format_duration(seconds - seconds % step)} ago"


def day(moment: datetime | None) -> str:
    """`2026-03-02`; empty for None."""
    return "" if moment is None else moment.strftime("%Y-%m-%d")


def minute(moment: datetime | None) -> str:
    """`2026-03-02 09:30 UTC`; empty for None."""
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M UTC")


def number(count: int) -> str:
    """`12,345`."""
    return f"{count:,}"


def counted(count: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"


def words(term: str | None) -> str:
    """`object_detection` as people write it."""
    return (term or "").replace("_", " ")


def headline(metrics: object) -> list[tuple[str, str]]:
    """The few metrics that say most, rounded: those that people compare models by, else the first ones."""
    if not isinstance(metrics, dict):
        return []
    usable: Mapping[str, float] = {str(name): value for name, value in metrics.items() if _is_number(value)}
    ordered = sorted(usable, key=lambda name: _place(name.lower()))  # stable: the rest as the upstream has them
    return [(clean(words(name), _LONGEST_LABEL), rounded(usable[name])) for name in ordered[:_MOST_METRICS]]


def rounded(value: float) -> str:
    """Three decimals below 10, fewer above, two digits of a tiny one; no zeros that say nothing."""
    if isinstance(value, int) or abs(value) >= _LARGEST / 1e6:
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.001:
        return f"{value:.2g}"
    text = f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return text.rstrip("0").rstrip(".")


def _is_number(value: object) -> bool:
    # The comparison also keeps out NaN, the infinities, and whole numbers that no float can hold.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _place(name: str) -> int:
    return _LEADING.index(name) if name in _LEADING else len(_LEADING)
