"""Walking a listing, whatever the upstream says or leaves out about it."""

from __future__ import annotations

import pytest

from registry_mirror.errors import ValidationError
from registry_mirror.upstream.decode import BadRow, Page
from registry_mirror.upstream.paging import walk


class Listing:
    """An upstream with `count` rows, asked page by page."""

    def __init__(self, count, *, cap=None, refuse_above=None, pagination=True):
        self.rows = [BadRow(str(number), None, "") for number in range(count)]
        self.cap, self.refuse_above, self.pagination = cap, refuse_above, pagination
        self.asked = []

    def page(self, limit, offset):
        self.asked.append((limit, offset))
        if self.refuse_above and limit > self.refuse_above:
            raise ValidationError("too large", status=422)
        rows = tuple(self.rows[offset : offset + min(limit, self.cap or limit)])
        return Page(rows, offset + len(rows) < len(self.rows) if self.pagination else None)

    def walked(self, page_size):
        return [int(row.id) for page in walk(self.page, page_size) for row in page.rows]


@pytest.mark.parametrize("pagination", [True, False])
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
@pytest.mark.parametrize("cap", [None, 7])
def test_every_row_comes_once_with_and_without_pagination_and_under_a_silent_cap(count, cap, pagination):
    assert Listing(count, cap=cap, pagination=pagination).walked(100) == list(range(count))


def test_where_the_upstream_says_that_there_is_no_more_nothing_is_asked_in_vain():
    listing = Listing(200)
    listing.walked(100)
    assert listing.asked == [(100, 0), (100, 100)]


def test_a_short_page_after_full_ones_ends_the_walk():
    listing = Listing(130, pagination=False)
    listing.walked(100)
    assert listing.asked == [(100, 0), (100, 100)]


def test_a_page_that_is_refused_as_too_large_is_halved_until_it_fits():
    listing = Listing(250, refuse_above=100)
    assert listing.walked(500) == list(range(250))
    assert [limit for limit, _ in listing.asked] == [500, 250, 125, 62, 62, 62, 62, 62][: len(listing.asked)]


def test_a_refusal_of_the_smallest_page_is_not_about_its_size():
    listing = Listing(5, refuse_above=1)
    with pytest.raises(ValidationError):
        listing.walked(100)
    assert listing.asked[-1][0] == 10


@pytest.mark.parametrize("has_more", [True, None])
def test_an_upstream_that_ignores_the_offset_does_not_keep_us_for_ever(has_more):
    same = tuple(BadRow(str(number), None, "") for number in range(10))
    pages = list(walk(lambda _limit, _offset: Page(same, has_more), 10))
    assert len(pages) == 1


def test_has_more_that_never_ends_stops_at_an_empty_page():
    listing = Listing(30)
    pages = list(walk(lambda limit, offset: Page(listing.page(limit, offset).rows, has_more=True), 10))
    assert len(pages) == 3
