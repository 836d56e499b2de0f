"""Walking a listing, whatever the upstream says or leaves out about it."""

from __future__ import annotations

from itertools import count

import pytest

from registry_mirror.errors import ApiError, ListingError, ProtocolError, ValidationError
from registry_mirror.sources.api import paging
from registry_mirror.sources.api.paging import read_whole, walk
from registry_mirror.sources.api.session import AnswerTooLargeError
from registry_mirror.sources.source import ListingPage, ListingSummary, UnreadableRow


class Listing:
    """An upstream with `count` rows, asked page by page."""

    def __init__(self, count, *, cap=None, refuse_above=None, pagination=True):
        self.rows = [UnreadableRow(str(number), None, "") for number in range(count)]
        self.cap, self.refuse_above, self.pagination = cap, refuse_above, pagination
        self.asked = []

    def page(self, limit, offset):
        self.asked.append((limit, offset))
        if self.refuse_above and limit > self.refuse_above:
            raise ValidationError("too large", status=422)
        rows = tuple(self.rows[offset : offset + min(limit, self.cap or limit)])
        return ListingPage(rows, offset + len(rows) < len(self.rows) if self.pagination else None)

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
    same = tuple(UnreadableRow(str(number), None, "") for number in range(10))
    pages = list(walk(lambda _limit, _offset: ListingPage(same, has_more), 10))
    assert len(pages) == 1


def test_has_more_that_never_ends_stops_at_an_empty_page():
    listing = Listing(30)
    pages = list(walk(lambda limit, offset: ListingPage(listing.page(limit, offset).rows, has_more=True), 10))
    assert len(pages) == 3


def rows(*numbers):
    return tuple(UnreadableRow(str(number), None, "") for number in numbers)


def drain(reading):
    """Every page of a generator, and what it returns."""
    pages = []
    while True:
        try:
            pages.append(next(reading))
        except StopIteration as end:
            return pages, end.value


def scripted(*pages):
    """The reading of an upstream that gives these pages and then empty ones."""
    given = iter(pages)
    return drain(walk(lambda _limit, _offset: next(given, ListingPage((), None)), 10))[1]


FULL, SHORT = rows(*range(10)), rows(*range(10, 14))


@pytest.mark.parametrize(
    ("pages", "gap"),
    [
        ([ListingPage(FULL, False, total=10)], ""),
        ([ListingPage(FULL, False, total=12)], "2"),
        ([ListingPage(FULL, False, total=7)], ""),
        ([ListingPage(rows(1, 1, 2), False, total=3)], "1"),
        (
            [
                ListingPage(
                    (*rows(1), UnreadableRow(None, None, "text"), UnreadableRow(None, None, "text")), False, total=3
                )
            ],
            "",
        ),
        ([ListingPage(rows(1), False, same=("2",), total=2)], ""),
        ([ListingPage(FULL, True, total=30), ListingPage((), False, total=0)], "20"),
        ([ListingPage(FULL, True, total=14), ListingPage(SHORT, True, total=14), ListingPage((), True)], ""),
        ([ListingPage(FULL, True), ListingPage((), False)], ""),
        ([ListingPage(FULL, True), ListingPage((), True)], ""),
        ([ListingPage(SHORT, True), ListingPage((), False)], ""),
        ([ListingPage(FULL, True), ListingPage(SHORT, True), ListingPage((), False)], "some"),
        ([ListingPage(FULL, True), ListingPage(FULL, True)], "some"),
        ([ListingPage(FULL, True), ListingPage(FULL, False)], ""),
        ([ListingPage(FULL, None), ListingPage(FULL, None)], ""),
        ([ListingPage(FULL, None), ListingPage(SHORT, None)], ""),
    ],
)
def test_a_listing_is_whole_only_by_its_own_word(pages, gap):
    assert scripted(*pages).gap == gap


def test_a_gap_is_closed_by_reading_again_and_all_readings_count_together():
    read = iter(
        [ListingPage(rows(1, 2), False, total=3), ListingPage(rows(2, 3), False, total=3), ListingPage((), False)]
    )
    pages, reading = drain(read_whole(lambda: walk(lambda _limit, _offset: next(read), 10)))
    assert (len(pages), reading.gap, reading.ids) == (2, "", {"1", "2", "3"})


def test_the_total_of_the_last_reading_counts():
    read = iter([ListingPage(rows(1, 2), False, total=3), ListingPage(rows(1, 2), False, total=2)])
    assert drain(read_whole(lambda: walk(lambda _limit, _offset: next(read), 10)))[1].gap == ""


@pytest.mark.parametrize(("usual", "readings"), [("", 3), ("2", 3), ("1", 1)])
def test_a_gap_that_stays_is_read_three_times_unless_it_is_usual(usual, readings):
    made = []

    def read():
        made.append(1)
        return walk(lambda _limit, _offset: ListingPage(rows(1, 2), False, total=3), 10)

    assert drain(read_whole(read, usual))[1] == ListingSummary({"1", "2"}, 0, 3)
    assert len(made) == readings


def gap_beside(live, came, total):
    page = ListingPage(rows(*came), False, total=total)
    return drain(read_whole(lambda: walk(lambda _limit, _offset: page, 10), "", live))[1].gap


@pytest.mark.parametrize(
    ("live_total", "came", "total"),
    [(3, (1, 2, 3), 3), (12, (1, 2), 12), (3, (), 3), (None, (), 3), (4, (9,), 4), (None, (1,), 3), (5, (8, 9), 5)],
)
def test_a_total_that_does_not_heed_the_filter_tells_nothing_of_what_is_filtered(live_total, came, total):
    """Three live models came; the ids show that the filter or the count is not heeded."""
    assert gap_beside(ListingSummary({"1", "2", "3"}, total=live_total), came, total) == ""


@pytest.mark.parametrize(
    ("came", "total", "gap"),
    [
        ((9,), 1, ""),
        ((9,), 2, "1"),
        ((9,), 3, "unfiltered"),
        ((9,), 4, "unfiltered"),
        ((9,), 5, "4"),
        ((8, 9), 3, "unfiltered"),
        ((3, 9), 3, "unfiltered"),
        ((1, 2), 9, "7"),
        ((), 5, "5"),
    ],
)
def test_two_equal_totals_are_no_proof_that_nothing_is_missing(came, total, gap):
    """Three live models came of an upstream that says it has three."""
    assert gap_beside(ListingSummary({"1", "2", "3"}, total=3), came, total) == gap


TOO_LARGE = {
    "too large to be read": AnswerTooLargeError("it is larger than 64.0 MiB"),
    "413": ApiError("Payload Too Large", status=413),
}


class Heavy(Listing):
    """An upstream whose answers hold so much weight; each row weighs 1 unless `giants` says more."""

    def __init__(self, count, *, error, capacity=10_000, giants=(), **options):
        super().__init__(count, **options)
        self.error, self.capacity, self.giants = error, capacity, set(giants)

    def page(self, limit, offset):
        page = super().page(limit, offset)
        if sum(10_001 if int(row.id) in self.giants else 1 for row in page.rows) > self.capacity:
            raise self.error
        return page


def read_of(heavy, page_size=100):
    pages, reading = drain(walk(heavy.page, page_size))
    got = [row for page in pages for row in page.rows]
    return got, reading


@pytest.mark.parametrize("pagination", [True, False])
@pytest.mark.parametrize("error", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_page_that_is_too_large_comes_in_smaller_pieces(error, pagination):
    heavy = Heavy(230, error=error, capacity=30, pagination=pagination)
    assert [int(row.id) for row in read_of(heavy)[0]] == list(range(230))
    assert [limit for limit, _ in heavy.asked[:3]] == [100, 50, 25]


@pytest.mark.parametrize("pagination", [True, False])
@pytest.mark.parametrize("giants", [{0}, {17}, {17, 18, 19}, {99, 150}, {229}])
@pytest.mark.parametrize("error", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_row_that_is_too_large_by_itself_fails_alone_and_counts_as_received(error, giants, pagination):
    got, reading = read_of(Heavy(230, error=error, giants=giants, pagination=pagination))
    assert {int(row.id) for row in got if row.id} == set(range(230)) - giants
    assert [row.reason.partition(" of")[0] for row in got if not row.id] == [
        f"row {each + 1}" for each in sorted(giants)
    ]
    assert (reading.received, reading.gap) == (230, "")


def test_behind_a_giant_the_pages_grow_again():
    heavy = Heavy(5000, error=TOO_LARGE["413"], giants={3})
    read_of(heavy)
    assert len(heavy.asked) < 130
    assert heavy.asked[-1][0] == 100


def test_row_after_row_that_is_too_large_ends_the_listing_and_names_the_page_size():
    heavy = Heavy(230, error=TOO_LARGE["413"], giants=range(100))
    with pytest.raises(ProtocolError, match=r"page size of 1; .*upstream.page_size"):
        read_of(heavy)
    assert len(heavy.asked) < 20


def test_a_page_size_that_is_refused_with_400_is_halved_as_well():
    def page(limit, offset):
        if limit > 50:
            raise ValidationError("limit is too large", status=400)
        return listing.page(limit, offset)

    listing = Listing(120)
    assert [int(row.id) for each in walk(page, 100) for row in each.rows] == list(range(120))


@pytest.mark.parametrize("count_of", [10, 25])
def test_a_listing_that_always_has_more_ends(monkeypatch, count_of):
    monkeypatch.setattr(paging, "MOST_PAGES", 50)
    numbers = count()
    pages = walk(lambda _l, _o: ListingPage(rows(*(next(numbers) for _ in range(count_of))), has_more=True), 100)
    with pytest.raises(ListingError, match=r"no end to it after 50 pages with \d+ rows; .*a larger page size"):
        list(pages)
    assert next(numbers) == 50 * count_of


@pytest.mark.parametrize("count_of", [1, 9])
def test_a_listing_that_comes_row_by_row_for_ever_ends_sooner(monkeypatch, count_of):
    monkeypatch.setattr(paging, "MOST_SMALL", 50)
    numbers = count()
    with pytest.raises(ListingError, match="no end to it after 50 pages"):
        list(walk(lambda _l, _o: ListingPage(rows(*(next(numbers) for _ in range(count_of))), has_more=True), 10))


def test_pages_that_were_asked_for_small_may_be_as_many_more(monkeypatch):
    monkeypatch.setattr(paging, "MOST_PAGES", 5)
    assert Listing(490).walked(1) == list(range(490))
    with pytest.raises(ListingError, match="no end to it after 500 pages"):
        Listing(501).walked(1)


def test_small_pages_that_were_asked_for_are_no_sign_of_an_endless_listing(monkeypatch):
    monkeypatch.setattr(paging, "MOST_SMALL", 50)
    assert Listing(200).walked(1) == list(range(200))
    assert len(read_of(Heavy(200, error=TOO_LARGE["413"], capacity=1))[0]) == 200


def test_pages_without_any_bound_end_by_their_rows(monkeypatch):
    monkeypatch.setattr(paging, "MOST_ROWS", 1000)
    numbers = count()
    with pytest.raises(ListingError, match="no end"):
        list(walk(lambda _l, _o: ListingPage(rows(*(next(numbers) for _ in range(300))), has_more=True), 10))
