"""Parses the query of the status page, and collects what the page shows."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ...errors import NoIndexError
from ...index.search import Search, State
from ...model import parse_time, utc_now
from ..requests import BadQueryError, FieldError
from .widgets import clean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from ...index.queries import Snapshot
    from ...index.values import ModelRow, OpenFailure, Totals, WeightsEntry
    from ...status import LastRun
    from ...store.layout import Layout
    from ..context import ServerContext


PAGE_SIZE = 100
LONGEST_TEXT = 200
LARGEST_PAGE = 1_000_000
_FIELDS = ("page", "q", "status")
_STATES = tuple(str(state) for state in State)


@dataclass(frozen=True, slots=True)
class PageQuery:
    """One view of the list of models. `page` counts from 1."""

    text: str = ""
    state: State = State.LIVE
    page: int = 1

    @property
    def offset(self) -> int:
        """How many models come before this page."""
        return (self.page - 1) * PAGE_SIZE

    def of(self, state: State) -> PageQuery:
        """Returns the first page of the same search among models of another state."""
        return replace(self, state=state, page=1)

    def at(self, page: int) -> PageQuery:
        """Returns another page of the same view."""
        return replace(self, page=page)

    def address(self, prefix: str) -> str:
        """Returns the link to this view: a path under `prefix`."""
        given = {"q": self.text, "status": "" if self.state is State.LIVE else str(self.state)}
        given["page"] = "" if self.page == 1 else str(self.page)
        query = urlencode({name: value for name, value in given.items() if value}, errors="replace")
        return f"{prefix}/?{query}" if query else f"{prefix}/"


def page_query(given: Mapping[str, str]) -> PageQuery:
    """Parses the parameters of the page. Empty ones count as absent, because a form sends all its fields.

    Raises:
        BadQueryError: some are wrong; it names all of them.
    """
    known = f"no such parameter; those known are {', '.join(_FIELDS)}"
    errors = [FieldError(clean(name, 64), known) for name in given if name not in _FIELDS]
    text, state, page = (given.get(name, "").strip() for name in ("q", "status", "page"))
    if len(text) > LONGEST_TEXT:
        errors.append(FieldError("q", f"must have at most {LONGEST_TEXT} characters"))
    if state and state not in _STATES:
        errors.append(FieldError("status", f"must be one of {', '.join(_STATES)}", "enum"))
    if page and not (re.fullmatch(r"[0-9]{1,7}", page) and 1 <= int(page) <= LARGEST_PAGE):
        errors.append(FieldError("page", f"must be a whole number from 1 to {LARGEST_PAGE}", "int_range"))
    if errors:
        raise BadQueryError(*errors)
    return PageQuery(text, State(state or State.LIVE), int(page or 1))


MOST_FAILURES = 20


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of the root, in bytes. `free` is what an ordinary user can still write."""

    size: int
    free: int

    @property
    def used(self) -> int:
        """All that is not free, including the reserve for the administrator."""
        return self.size - self.free


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of the list.

    Attributes:
        weights: the current weights, each with whether its file is in the store with the recorded size.
    """

    row: ModelRow
    weights: tuple[tuple[WeightsEntry, bool], ...]


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What one snapshot of the index says, and which files are in the store.

    Attributes:
        meta: the index's own facts.
        tally: how many models the search finds in each state.
        failures: the latest of the `failure_count` open failures.
    """

    meta: Mapping[str, str]
    totals: Totals
    tally: Mapping[State, int]
    listed: tuple[Listed, ...]
    failures: tuple[OpenFailure, ...]
    failure_count: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the page shows. `problem` says why `index` is None."""

    at: datetime
    index: IndexFacts | None
    problem: NoIndexError | None
    last_run: LastRun
    disk: Disk | None

    @property
    def absent(self) -> bool:
        """Whether there is no index at all."""
        cause = None if self.problem is None else self.problem.__cause__
        return isinstance(cause, (FileNotFoundError, NotADirectoryError))

    @property
    def published_at(self) -> datetime | None:
        """When the index was published."""
        return None if self.index is None else parse_time(self.index.meta.get("published_at"))


def look_up(site: ServerContext, query: PageQuery) -> Facts:
    """Collects everything for one view of the page. It reads files, so call it on a thread."""
    index: IndexFacts | None = None
    problem: NoIndexError | None = None
    try:
        index = site.reader.read(lambda snapshot: _of_index(snapshot, site.layout, query))
    except NoIndexError as error:
        problem = error
    return Facts(utc_now(), index, problem, site.last_run(), disk_of(site.layout.root))


def _of_index(snapshot: Snapshot, layout: Layout, query: PageQuery) -> IndexFacts:
    rows = snapshot.models(Search(query.text, query.state), "onnx", PAGE_SIZE, query.offset)
    return IndexFacts(
        meta=snapshot.meta(),
        totals=snapshot.totals(),
        tally=snapshot.tally(query.text),
        listed=tuple(Listed(row, _weights(snapshot, layout, row)) for row in rows),
        failures=tuple(snapshot.open_failures(MOST_FAILURES)),
        failure_count=snapshot.count_failures(),
    )


def _weights(snapshot: Snapshot, layout: Layout, row: ModelRow) -> tuple[tuple[WeightsEntry, bool], ...]:
    if row.weights is None:
        return ()
    return tuple((each, _is_here(layout, each)) for each in snapshot.weights(row.id) if each.current)


def _is_here(layout: Layout, entry: WeightsEntry) -> bool:
    try:
        return os.stat(layout.blob(entry.md5, entry.format)).st_size == entry.size
    except (OSError, ValueError):
        return False


def disk_of(folder: Path) -> Disk | None:
    """Returns the file system of a folder; None if it does not tell its size."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    if not found.f_blocks:
        return None
    return Disk(found.f_blocks * found.f_frsize, min(found.f_bavail, found.f_blocks) * found.f_frsize)
