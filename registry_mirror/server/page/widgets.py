"""The parts of the status page as values, and how numbers and times are written in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...model import format_time
from ...units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime


LONGEST = 120
LONGEST_ERROR = 400
_JOINERS = "\u200c\u200d"  # joiners occur in emoji and several scripts, and are harmless
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
    """Formats a count: `12,345`."""
    return f"{count:,}"


def counted(count: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"


def words(term: str | None) -> str:
    """Returns `object_detection` as people write it: `object detection`."""
    return (term or "").replace("_", " ")


def headline(metrics: object) -> list[tuple[str, str]]:
    """Returns up to three metrics, rounded: those that people compare models by, else the first."""
    if not isinstance(metrics, dict):
        return []
    usable: Mapping[str, float] = {str(name): value for name, value in metrics.items() if _is_number(value)}
    # The sort is stable, so the rest stay in the upstream's order.
    ordered = sorted(usable, key=lambda name: _place(name.lower()))
    return [(clean(words(name), _LONGEST_LABEL), rounded(usable[name])) for name in ordered[:_MOST_METRICS]]


def rounded(value: float) -> str:
    """Formats a number: three decimals below 10, fewer above, two digits if it is tiny; no trailing zeros."""
    if isinstance(value, int) or abs(value) >= _LARGEST / 1e6:
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.001:
        return f"{value:.2g}"
    text = f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return text.rstrip("0").rstrip(".")


def _is_number(value: object) -> bool:
    # The comparison also excludes NaN, infinities, and integers that no float can hold.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _place(name: str) -> int:
    return _LEADING.index(name) if name in _LEADING else len(_LEADING)


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning at the top of the page. `level` is `bad` or `warn`."""

    level: str
    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class When:
    """A time for people and, in `exact`, for machines."""

    text: str
    exact: str

    @classmethod
    def of(cls, moment: datetime | None, form: Callable[[datetime], str] = minute) -> When | None:
        """Formats a time; returns None for None."""
        return None if moment is None else cls(form(moment), format_time(moment) or "")


@dataclass(frozen=True, slots=True)
class FileView:
    """Weights of a model. `link` is empty if the file is not in the store."""

    format: str
    size: str
    md5: str
    link: str


@dataclass(frozen=True, slots=True)
class ModelView:
    """One row of the list. `tone` names the badge's colour."""

    name: str
    full_name: str
    id: str
    status: str
    tone: str
    type: str
    architecture: str
    version: str
    metrics: tuple[tuple[str, str], ...]
    files: tuple[FileView, ...]
    why_not: str
    updated: When | None


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter. `count` says how many models of the search it shows."""

    label: str
    count: str
    address: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Pager:
    """The position of this page, and links to others; a link is empty if there is no such page."""

    said: str
    page: int
    pages: int
    before: str
    after: str
    first: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Weights that could not be fetched, or a model that failed in the last run."""

    name: str
    error: str
    said: str = ""
    when: When | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """The last run."""

    outcome: str
    tone: str
    ended: When | None
    error: str
    numbers: tuple[tuple[str, str], ...]
    failed: tuple[Failed, ...]
    more_failed: int


@dataclass(frozen=True, slots=True)
class DiskBar:
    """How full the file system is, in percent and in words."""

    mirror: float
    others: float
    free: str
    size: str
    said: str


@dataclass(frozen=True, slots=True)
class PageView:
    """Everything on the page."""

    title: str
    upstream: str
    organization: str
    prefix: str
    base_url: str
    fresh: str
    fresh_tone: str
    synced: When | None
    published: When | None
    notices: tuple[Notice, ...]
    has_index: bool
    text: str
    state: str
    longest_text: int
    chips: tuple[Chip, ...]
    models: tuple[ModelView, ...]
    pager: Pager | None
    totals: Mapping[str, str]
    missing_address: str
    failures: tuple[Failed, ...]
    failures_said: str
    more_failures: int
    run: RunView | None
    disk: DiskBar | None
