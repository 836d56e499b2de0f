"""The parts of the status page, as its template takes them: texts that are cleaned and cut, and addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...model import format_time
from .words import minute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to know before anything else. `level` is `bad` or `warn`."""

    level: str
    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class When:
    """A moment for people and, in `exact`, for machines."""

    text: str
    exact: str

    @classmethod
    def of(cls, moment: datetime | None, form: Callable[[datetime], str] = minute) -> When | None:
        """None for None."""
        return None if moment is None else cls(form(moment), format_time(moment) or "")


@dataclass(frozen=True, slots=True)
class File:
    """Weights that the index names. `link` is empty where the file is not in the store."""

    format: str
    size: str
    md5: str
    link: str


@dataclass(frozen=True, slots=True)
class Model:
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
    files: tuple[File, ...]
    why_not: str
    updated: When | None


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter. `count` is of the models that the search finds."""

    label: str
    count: str
    address: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Pager:
    """Where this page stands; an address is empty where there is nothing."""

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
class Run:
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
    """Parts of the file system in percent, and in words."""

    mirror: float
    others: float
    free: str
    size: str
    said: str


@dataclass(frozen=True, slots=True)
class Page:
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
    models: tuple[Model, ...]
    pager: Pager | None
    totals: Mapping[str, str]
    missing_address: str
    failures: tuple[Failed, ...]
    failures_said: str
    more_failures: int
    run: Run | None
    disk: DiskBar | None
