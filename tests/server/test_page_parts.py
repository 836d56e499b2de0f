"""What the status page decides: what it was asked, what it shows, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_mirror.errors import NoIndexError
from registry_mirror.index.search import State
from registry_mirror.index.values import Totals
from registry_mirror.server.page.facts import (
    LARGEST_PAGE,
    LONGEST_TEXT,
    Disk,
    Facts,
    IndexFacts,
    PageQuery,
    disk_of,
    page_query,
)
from registry_mirror.server.page.view import chips, disk_bar, freshness, notices, page, pager, run_of, totals_of
from registry_mirror.server.page.widgets import ago, clean, headline, rounded
from registry_mirror.server.requests import BadQueryError
from registry_mirror.status import LastRun, read_last_run

AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TALLY = dict.fromkeys(State, 0)


def test_an_empty_parameter_counts_as_absent():
    assert page_query({"q": "", "status": "", "page": ""}) == PageQuery()
    assert page_query({"q": " a b ", "status": "gone", "page": "3"}) == PageQuery("a b", State.GONE, 3)


@pytest.mark.parametrize(
    "given",
    [
        {"page": "0"}, {"page": "-1"}, {"page": "1.5"}, {"page": "x"}, {"page": "9" * 30}, {"page": "\u0661"},
        {"page": str(LARGEST_PAGE + 1)}, {"status": "READY"}, {"status": "'"}, {"q": "x" * (LONGEST_TEXT + 1)},
        {"limit": "5"}, {"Q": "x"}, {"\u202e" * 500: ""},
    ],
)  # fmt: skip
def test_what_the_page_does_not_know_is_refused(given):
    with pytest.raises(BadQueryError) as refused:
        page_query(given)
    assert len(str(refused.value)) < 700
    assert "\u202e" not in str(refused.value)


def test_every_mistake_is_named_at_once():
    with pytest.raises(BadQueryError) as refused:
        page_query({"page": "x", "status": "y", "z": ""})
    assert {each.name for each in refused.value.errors} == {"page", "status", "z"}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.sampled_from(State), st.integers(1, 500))
def test_an_address_leads_back_to_its_view(text, state, number):
    query = PageQuery(text.replace("\0", "").strip(), state, number)
    address = query.address("/models")
    assert address.isascii()
    assert address.startswith("/models/")
    given = parse_qs(urlsplit(address).query, keep_blank_values=True)
    assert page_query({name: value for name, (value,) in given.items()}) == query


@given(st.text(max_size=300), st.integers(1, 200))
def test_no_text_brings_a_control_character_or_a_direction(text, longest):
    shown = clean(text, longest)
    assert all(letter.isprintable() or letter in "\u200c\u200d" for letter in shown)
    assert len(clean("x" * 300, longest)) == longest


def test_a_joined_emoji_and_a_right_to_left_name_stay_what_they_are():
    for name in ("👩\u200d👩\u200d👧 family", "מודל", "\u0645\u06cc\u200c\u062e\u0648"):
        assert clean(name) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0, "0"), (1, "1"), (0.5, "0.5"), (0.6125, "0.613"), (0.99999, "1"), (-0.25, "-0.25"),
        (12.345, "12.3"), (100, "100"), (1234567, "1,234,567"), (2.0, "2"), (0.00000123, "1.2e-06"), (100.04, "100"),
        (5e14, "500,000,000,000,000"),
    ],
)  # fmt: skip
def test_a_metric_is_rounded(value, text):
    assert rounded(value) == text


def test_the_metrics_that_models_are_compared_by_come_first_and_only_numbers_count():
    given = {"loss": 0.1, "recall": 0.5, "mAP": 0.6, "epochs": 3, "precision": 0.7}
    assert headline(given) == [("mAP", "0.6"), ("precision", "0.7"), ("recall", "0.5")]
    assert headline({"b": 2, "a": 1}) == [("b", "2"), ("a", "1")]
    odd = {"t": True, "s": "0.5", "n": None, "l": [1], "nan": float("nan"), "inf": float("inf"), "huge": 10**400}
    assert headline(odd) == []
    assert headline(None) == headline([1]) == headline("x") == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "less than a minute ago"), (59, "less than a minute ago"), (185, "3 min ago"), (7500, "2 h 5 min ago"),
     (86_400, "1 d ago"), (356_400, "4 d 3 h ago")],
)  # fmt: skip
def test_an_age_is_as_exact_as_it_matters(seconds, said):
    assert ago(seconds) == said


def facts(last_run=None, problem=None, index=None) -> Facts:
    return Facts(AT, index, problem, last_run or LastRun(), None)


def titles(found: Facts) -> list[str]:
    return [notice.title for notice in notices(found, run_of(found.last_run.record))]


FULL = IndexFacts({}, Totals({}, 0, 0, 0, 0, 0), TALLY, (), (), 0)


def test_a_fresh_mirror_has_nothing_to_say():
    run = LastRun({"outcome": "ok"}, AT - timedelta(hours=1))
    assert titles(facts(run, index=FULL)) == []
    assert freshness(facts(run)) == ("good", "synced 1 h ago")


@pytest.mark.parametrize(("outcome", "tone"), [("ok", "good"), ("partial", "warn"), ("failed", "warn")])
def test_nothing_is_green_above_a_last_run_that_was_not_well(outcome, tone):
    run = LastRun({"outcome": outcome}, AT - timedelta(minutes=2))
    assert page(facts(run), PageQuery(), "http://mirror", "", lambda *_: "").fresh_tone == tone


def test_a_mirror_of_more_than_a_day_is_old():
    assert freshness(facts(LastRun(None, AT - timedelta(hours=24))))[0] == "good"
    assert freshness(facts(LastRun(None, AT - timedelta(hours=24, seconds=1))))[0] == "warn"
    assert titles(facts(LastRun({"outcome": "ok"}, AT - timedelta(days=2)), index=FULL)) == [
        "This mirror is old: synced 2 d ago"
    ]


def test_a_sync_in_the_future_is_not_fresh_and_two_clocks_may_differ_by_a_minute():
    assert freshness(facts(LastRun(None, AT + timedelta(seconds=60)))) == ("good", "synced less than a minute ago")
    ahead = facts(LastRun({"outcome": "ok"}, AT + timedelta(seconds=61)), index=FULL)
    assert freshness(ahead) == ("warn", "synced in the future: a clock was or is wrong")
    assert titles(ahead) == ["Nobody knows how old this mirror is: its last sync is dated in the future"]


def test_a_mirror_that_was_never_synced_says_so_once():
    assert titles(facts(index=FULL)) == ["No sync of this mirror is known to have ended well"]
    absent = NoIndexError("no index in /secret")
    absent.__cause__ = FileNotFoundError()
    assert titles(facts(problem=absent)) == ["This mirror has no index yet"]
    assert titles(facts(problem=NoIndexError("/secret"))) == ["The index of this mirror cannot be read"]


@pytest.mark.parametrize(
    ("record", "level", "text"),
    [
        ({"outcome": "partial", "failed": [{}, {"name": "b"}]}, "warn", "2 models failed; the others went on."),
        ({"outcome": "partial", "error": "rate limit"}, "warn", "rate limit"),
        ({"outcome": "failed", "error": "shrunk"}, "bad", "shrunk"),
        ({"outcome": "failed"}, "bad", ""),
        ({}, "warn", ""),
    ],
)
def test_a_run_that_did_not_end_well_is_told_with_its_reason(record, level, text):
    found = facts(LastRun(record, AT), index=FULL)
    (notice,) = notices(found, run_of(record))
    assert (notice.text, notice.level) == (text, level)


ODD = [None, True, -1, 1.5, "x", [], {}, [1, None, "x"], {"files": "x", "bytes": -1}, 10**400, "\ud800", "<b>" * 1000]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize(
    "key", ["outcome", "started_at", "finished_at", "listed", "fetched", "failed", "error", "added", "gone"]
)
def test_a_damaged_record_still_makes_a_run(key, value):
    run = run_of({"outcome": "ok", "failed": [{"name": value, "error": value, "id": value}], key: value})
    assert run is not None
    assert len(run.outcome) <= 20
    assert all(len(text) < 500 for pair in run.numbers for text in pair)


def test_a_run_tells_its_numbers_and_the_first_failures():
    failed = [
        {"id": str(number), "name": None if number == 0 else f"model {number}", "error": "e"} for number in range(15)
    ]
    run = run_of({
        "outcome": "partial", "started_at": "2026-03-10T11:00:00Z", "finished_at": "2026-03-10T11:01:14Z", "listed": 0,
        "added": 1200, "gone": 0, "fetched": {"files": 1, "bytes": 2048}, "failed": failed,
    })  # fmt: skip
    assert run is not None
    assert dict(run.numbers) == {"took": "1 min 14 s", "listed": "0", "added": "1,200", "fetched": "1 file, 2.0 KiB"}
    assert [one.name for one in run.failed][:2] == ["0", "model 1"]
    assert (len(run.failed), run.more_failed) == (10, 5)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"run": 3}', '{"run": {}, "last_synced_at": 7}', "[" * 100_000]
)
def test_whatever_stands_in_run_json_the_page_can_be_made(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    found = facts(read_last_run(tmp_path / "run.json"), index=FULL)
    made = page(found, PageQuery(), "http://host", "", lambda _entry, _name: "")
    assert made.fresh == "never synced"
    assert made.notices
    assert str(tmp_path) not in repr(made)


def test_chips_offer_what_would_show_something_and_the_chosen_one():
    tally = {**TALLY, State.LIVE: 3, State.TRAINING: 3}
    offered = list(chips(tally, PageQuery("x", State.GONE, 4), "/m"))
    assert [chip.label for chip in offered] == ["All", "Ready", "Training", "Gone"]
    assert [chip.address for chip in offered if chip.chosen] == ["/m/?q=x&status=gone"]
    assert offered[0].address == "/m/?q=x"


@pytest.mark.parametrize(
    ("count", "number", "said", "before", "after"),
    [
        (0, 1, "0", "", ""), (100, 1, "1-100 of 100", "", ""), (101, 1, "1-100 of 101", "", "/?page=2"),
        (101, 2, "101-101 of 101", "/", ""), (101, 3, "101", "/?page=2", ""), (0, 9, "0", "/", ""),
        (10_000, 100, "9,901-10,000 of 10,000", "/?page=99", ""),
    ],
)  # fmt: skip
def test_the_pager_says_where_it_is_and_leads_only_where_something_is(count, number, said, before, after):
    made = pager(count, PageQuery(page=number), "")
    assert (made.said, made.before, made.after) == (said, before, after)


def test_totals_name_every_kind_that_there_is():
    totals = totals_of(Totals({"ready": 1200, "training": 1, "evaluating": 2}, 3, 1, 2048, 1, 0))
    assert totals["models"] == "1,206"
    assert totals["by_status"] == "1,200 ready, 1 training, 2 other, 3 gone"
    assert totals["bytes"] == "2.0 KiB"


def test_the_parts_of_the_disk_add_up(tmp_path):
    disk = disk_of(tmp_path)
    assert disk is not None
    assert disk.used + disk.free == disk.size
    assert disk_of(tmp_path / "absent") is None
    index = IndexFacts({}, Totals({}, 0, 1, 300, 1, 0), TALLY, (), (), 0)
    bar = disk_bar(Disk(1000, 200), index)
    assert bar is not None
    assert (bar.mirror, bar.others) == (30.0, 50.0)
    # An index may name more bytes than this file system holds: blobs that are gone, or links.
    full = disk_bar(Disk(1000, 900), index)
    assert full is not None
    assert (full.mirror, full.others) == (10.0, 0.0)
