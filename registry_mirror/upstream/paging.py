"""Walking an offset-paged listing to its end, whatever the upstream says or leaves out about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .decode import Page

SMALLEST_PAGE = 10


def walk(fetch: Callable[[int, int], Page], page_size: int) -> Iterator[Page]:
    """Yields non-empty pages until the listing ends.

    A 422 on a page halves its size, down to 10. The next offset is the number of rows received, so that an upstream
    which caps pages below what was asked loses none. A page that brings no new id ends the walk: an upstream that
    ignores `offset` would otherwise never end it.

    Args:
        fetch: takes limit and offset.
    """
    offset, full, limit = 0, 0, page_size
    seen: set[str] = set()
    while True:
        page, limit = _fetch_fitting(fetch, limit, offset)
        if not page.count:
            return
        named = page.ids
        if named and named <= seen:
            return
        seen |= named
        yield page
        offset += page.count
        if is_last(page.has_more, page.count, full):
            return
        full = max(full, page.count)


def _fetch_fitting(fetch: Callable[[int, int], Page], limit: int, offset: int) -> tuple[Page, int]:
    while True:
        try:
            return fetch(limit, offset), limit
        except ValidationError as error:
            if error.status != 422 or limit <= SMALLEST_PAGE:
                raise
            limit = max(SMALLEST_PAGE, limit // 2)


def is_last(has_more: bool | None, rows: int, full: int) -> bool:  # noqa: FBT001 - a field of the answer
    """Whether a page of `rows` ends the listing.

    Where the upstream does not say, a page shorter than the longest so far (`full`, 0 before the first) does. A short
    first page does not: it may be a silent cap, and only the next page tells.
    """
    return rows < full if has_more is None else not has_more
