"""Walking an offset-paged listing to its end, whatever the upstream says or leaves out about it."""

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
"""Rows. An upstream that refuses so small a page means something else."""

MOST_PAGES, MOST_ROWS = 5_000, 2_000_000
"""The ceiling of one listing, and an end where there is always more. The pages are of a hundred rows or more: who asks
for smaller ones may have as many more."""

MOST_SMALL = 500
"""Pages of fewer than ten rows where more were asked for: no honest upstream gives its rows one by one."""

READINGS = 3
"""How often a listing is read at most, when it brings less than it says it has."""

_MOST_OVERSIZED = 3
_PAGES_BEFORE_GROWTH = 8


def read_whole(
    read: Callable[[], Generator[ListingPage, None, ListingSummary]],
    usual: str = "",
    unfiltered: ListingSummary | None = None,
) -> Generator[ListingPage, None, ListingSummary]:
    """Reads a listing, and reads it again while it has a gap; what all readings brought counts together.

    A row that slips between two pages while the upstream changes comes with the next reading.

    Args:
        read: begins one reading.
        usual: a gap that is no reason to read again, as `ListingSummary.gap` gives it.
        unfiltered: what came without the filter of this listing. A total that does not heed the filter tells nothing.
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
    """A filtered reading whose total may be that of another listing: the unfiltered one, or both together.

    That the numbers are equal may be chance. It is none where nothing came at all or only what is unfiltered, and none
    where each total is exactly what came in all.
    """
    together = len(reading.ids | unfiltered.ids) + reading.unnamed + unfiltered.unnamed
    if reading.total not in (unfiltered.total, together):
        return reading
    if reading.ids <= unfiltered.ids or reading.total == unfiltered.total == together:
        return replace(reading, total=None)
    return replace(reading, unfiltered=True)


def walk(fetch: Fetch, page_size: int) -> Generator[ListingPage, None, ListingSummary]:
    """Yields non-empty pages until the listing ends, and returns what came in all.

    The next offset is the number of rows received, so that an upstream which caps pages below what was asked loses
    none. A page that brings no new id ends the walk: an upstream that ignores `offset` would otherwise never end it.

    Args:
        fetch: takes limit and offset.

    Raises:
        ListingError: there is always one page more.
        ApiError: a page cannot be had, of whatever size.
    """
    fitting = _Fitting(fetch, page_size)
    offset = pages = small = unnamed = full = 0
    seen: set[str] = set()
    total: int | None = None
    promised = False
    while True:
        page = fitting.page(offset)
        # The largest: one that counts along with the rows of a page says 0 for the empty page behind the last.
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
        # What an upstream can give at once: pages may have become smaller on the way.
        usual = min(full, fitting.limit)
        if is_last(page.has_more, page.count, usual):
            return ListingSummary(seen, unnamed, total)
        promised = page.has_more is True and page.count < usual
        full = max(full, page.count)


def is_last(has_more: bool | None, rows: int, full: int) -> bool:  # noqa: FBT001 - a field of the answer
    """Whether a page of `rows` ends the listing.

    Where the upstream does not say, a page shorter than the longest so far (`full`, 0 before the first) does. A short
    first page does not: it may be a silent cap, and only the next page tells.
    """
    return rows < full if has_more is None else not has_more


def _refuse_endless(pages: int, small: int, rows: int, page_size: int) -> None:
    if pages * min(page_size, 100) >= MOST_PAGES * 100 or small >= MOST_SMALL or rows >= MOST_ROWS:
        raise ListingError(
            f"list models: there is no end to it after {pages} pages with {rows} rows",
            hint="if there are really so many models, a larger page size needs fewer pages",
        )


class _Fitting:
    """Asks for pages as large as the upstream can give them.

    A size that it refuses is halved, down to 10. An answer that is too large is asked for in smaller pieces, down to
    one row, and the pieces grow again behind it: one giant must not make a request of each row that follows.
    """

    def __init__(self, fetch: Fetch, page_size: int) -> None:
        self._fetch, self._most = fetch, page_size
        self.limit = page_size
        self._good = self._oversized = 0

    def page(self, offset: int) -> ListingPage:
        """The page at an offset; `limit` is the size that was asked for."""
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
        """One row that no answer can carry is one model that fails."""
        self._oversized += 1
        if self._oversized > _MOST_OVERSIZED:
            raise AnswerTooLargeError(
                f"{error.message}; so are {self._oversized} in a row, each asked for with a page size of 1",
                hint="check upstream.base_url, and that the upstream heeds `limit`; no upstream.page_size will do",
            )
        reason = f"row {offset + 1} of the listing is too large by itself: {error.message}"
        return ListingPage((UnreadableRow(None, None, reason),), has_more=True)


def is_too_large(error: ApiError) -> bool:
    """Whether an error says that fewer rows would fit into an answer."""
    return isinstance(error, AnswerTooLargeError) or error.status == 413


def smaller(error: ApiError, limit: int) -> int:
    """The page size to try after an error of a page; 0 where the error is not about its size."""
    if is_too_large(error):
        return limit // 2
    return max(SMALLEST_PAGE, limit // 2) if error.status in (400, 422) and limit > SMALLEST_PAGE else 0
