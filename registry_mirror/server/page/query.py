"""What the status page is asked to show, and the addresses of its other views. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ...index.search import State
from ..query import BadQueryError, FieldError
from .words import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        """How many models stand before it."""
        return (self.page - 1) * PAGE_SIZE

    def of(self, state: State) -> PageQuery:
        """The first page of the same search among models of another state."""
        return replace(self, state=state, page=1)

    def at(self, page: int) -> PageQuery:
        """Another page of the same view."""
        return replace(self, page=page)

    def address(self, prefix: str) -> str:
        """Where this view is, as a path under `prefix`."""
        given = {"q": self.text, "status": "" if self.state is State.LIVE else str(self.state)}
        given["page"] = "" if self.page == 1 else str(self.page)
        query = urlencode({name: value for name, value in given.items() if value}, errors="replace")
        return f"{prefix}/?{query}" if query else f"{prefix}/"


def page_query(given: Mapping[str, str]) -> PageQuery:
    """The view that these parameters ask for. Empty ones count as absent: a form sends all that it has.

    Raises:
        BadQueryError: naming every parameter that is wrong.
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
