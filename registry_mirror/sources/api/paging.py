"""Reads a listing that is paged by offset to its end, even if the upstream says little or something false about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import ApiError, ListingError
from ..source import ListingPage, ListingSummary, UnreadableRow
from .session import AnswerTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Fetch = Callable[[int, int], ListingPage]

SMALLEST_PAGE = 10
"""Rows. If the upstream refuses a page this small, it does so for another reason than the page size."""

MOST_PAGES, MOST_ROWS = 5_000, 2_000_000
"""Limits of one listing, for an upstream that always says there is more. `MOST_PAGES` is for pages of 100 rows or more;
for smaller pages, the limit is higher in proportion."""

MOST_SMALL = 500
"""Limit for pages of fewer than ten rows when more were asked for: no working upstream sends its rows one by one."""

READINGS = 3
"""How many times a listing is read at most, while it brings fewer rows than the upstream says it has."""

_MOST_OVERSIZED = 3
_PAGES_BEFORE_GROWTH = 8


def read_whole(
    read: Callable[[], Generator[ListingPage, None, ListingSummary]],
    usual: str = "",
    unfiltered: ListingSummary | None = None,
) -> Generator[ListingPage, None, ListingSummary]:
    """Reads a listing, and reads it again while rows are missing, up to `READINGS` times.

    A row that one reading misses, because the upstream changed between two pages, comes with the next reading.

    Args:
        read: starts one reading.
        usual: a gap that is no reason to read again, in the form of `ListingSummary.gap`.
        unfiltered: summary of the same listing without its filter, to recognise a total that ignores the filter.

    Returns:
        The summary of the last reading, with the ids of all readings.
    """
    ids: set[str] = set()
    reading = ListingSummary(ids)
    for _ in range(READINGS):
        reading = yield from read()
        ids |= reading.ids
        reading = replace(reading, ids=ids)
        if reading.gap and unfiltered:
            reading = _beside(reading, unfiltered)
        if reading.gap in ("", usual):
            break
    return reading


def _beside(reading: ListingSummary, unfiltered: ListingSummary) -> ListingSummary:
    """Marks a filtered reading whose total may count other rows: the unfiltered listing, or both listings together.

    Equal numbers may be chance. They are not chance if the filtered reading brought no id of its own, or if both totals
    are exactly the number of rows of both readings: then the total is removed.
    """
    together = len(reading.ids | unfiltered.ids) + reading.unnamed + unfiltered.unnamed
    if reading.total not in (unfiltered.total, together):
        return reading
    if reading.ids <= unfiltered.ids or reading.total == unfiltered.total == together:
        return replace(reading, total=None)
    return replace(reading, unfiltered=True)


def walk(fetch: Fetch, page_size: int) -> Generator[ListingPage, None, ListingSummary]:
    """Yields non-empty pages until the listing ends, and returns its summary.

    The next offset is the number of rows received, so that no row is lost if the upstream caps pages below the size
    asked for. A page without a new id ends the walk, which would never end if the upstream ignores `offset`.

    Args:
        fetch: returns a page, given its limit and offset.
        page_size: rows to ask for at a time.

    Raises:
        ListingError: the listing does not end.
        ApiError: the upstream refuses a page of any size.
    """
    fitting = _Fitting(fetch, page_size)
    offset = pages = small = unnamed = full = 0
    seen: set[str] = set()
    total: int | None = None
    promised = False
    while True:
        page = fitting.page(offset)
        # The largest total counts: an upstream that counts per page says 0 for the empty page behind the last one.
        total = page.total if total is None else max(total, page.total or 0)
        if not page.count:
            return ListingSummary(seen, unnamed, total, promised)
        named = page.ids
        if named and named <= seen:
            return ListingSummary(seen, unnamed, total, cut=page.has_more is True)
        unnamed += page.unnamed
        seen |= named
        yield page
        offset, pages = offset + page.count, pages + 1
        small += page.count < min(SMALLEST_PAGE, fitting.limit)
        _refuse_endless(pages, small, offset, page_size)
        # The longest page that the upstream can send now: the size asked for may have been lowered on the way.
        usual = min(full, fitting.limit)
        if is_last(page.has_more, page.count, usual):
            return ListingSummary(seen, unnamed, total)
        promised = page.has_more is True and page.count < usual
        full = max(full, page.count)


def is_last(has_more: bool | None, rows: int, full: int) -> bool:  # noqa: FBT001 - a field of the answer
    """Whether a page with this number of rows is the last one.

    If the upstream does not say (`has_more` is None), a page shorter than the longest so far (`full`, 0 before the
    first) is the last. A short first page is not: the upstream may cap its pages silently, so the next page decides.
    """
    return rows < full if has_more is None else not has_more


def _refuse_endless(pages: int, small: int, rows: int, page_size: int) -> None:
    if pages * min(page_size, 100) >= MOST_PAGES * 100 or small >= MOST_SMALL or rows >= MOST_ROWS:
        raise ListingError(
            f"list models: there is no end to it after {pages} pages with {rows} rows",
            hint="if there are really so many models, a larger page size needs fewer pages",
        )


class _Fitting:
    """Asks for pages as large as the upstream can send.

    If the upstream refuses a page size, the size is halved, down to 10, for good. If an answer is too large, the size
    is halved down to one row and grows again afterwards, so that one huge row does not slow down all later pages.
    """

    def __init__(self, fetch: Fetch, page_size: int) -> None:
        self._fetch, self._most = fetch, page_size
        self.limit = page_size
        self._good = self._oversized = 0

    def page(self, offset: int) -> ListingPage:
        """Returns the page at an offset. Afterwards, `limit` is the page size that was asked for."""
        if self._good >= _PAGES_BEFORE_GROWTH and self.limit < self._most:
            self.limit, self._good = min(self._most, 2 * self.limit), 0
        while True:
            try:
                page = self._fetch(self.limit, offset)
            except ApiError as error:
                self._good = 0
                if is_too_large(error) and self.limit == 1:
                    return self._instead_of_one(error, offset)
                size = smaller(error, self.limit)
                if not size:
                    raise
                self.limit = size
                self._most = self._most if is_too_large(error) else size
            else:
                self._good, self._oversized = self._good + 1, 0
                return page

    def _instead_of_one(self, error: ApiError, offset: int) -> ListingPage:
        """An unreadable row in the place of one that is too large for any answer, so that only this model fails."""
        self._oversized += 1
        if self._oversized > _MOST_OVERSIZED:
            raise AnswerTooLargeError(
                f"{error.message}; so are {self._oversized} in a row, each asked for with a page size of 1",
                hint="check upstream.base_url, and that the upstream heeds `limit`; no upstream.page_size will do",
            )
        reason = f"row {offset + 1} of the listing is too large by itself: {error.message}"
        return ListingPage((UnreadableRow(None, None, reason),), has_more=True)


def is_too_large(error: ApiError) -> bool:
    """Whether an error means that an answer with fewer rows might succeed."""
    return isinstance(error, AnswerTooLargeError) or error.status == 413


def smaller(error: ApiError, limit: int) -> int:
    """The page size to try after a page failed; 0 if the error is not about its size."""
    if is_too_large(error):
        return limit // 2
    return max(SMALLEST_PAGE, limit // 2) if error.status in (400, 422) and limit > SMALLEST_PAGE else 0
