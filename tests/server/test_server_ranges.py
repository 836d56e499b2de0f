"""Conditional requests and ranges on one blob: a table of RFC 9110, and a model of ranges."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_mirror.server.bodies import RangeVerdict, http_date, range_verdict

ETAG = '"63f4f1e9b725370f459720575cd5f953"'
MODIFIED = 1_772_443_800.75
DATE = http_date(MODIFIED)
LATER, EARLIER = http_date(MODIFIED + 60), http_date(MODIFIED - 60)
SIZE = 1000
WHOLE = RangeVerdict(200, 0, SIZE)


def ruling(size: int = SIZE, **headers: str) -> RangeVerdict:
    return range_verdict({key.replace("_", "-"): value for key, value in headers.items()}, ETAG, MODIFIED, size)


def test_a_date_is_written_as_http_has_it():
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", DATE)


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=999-999", 999, 1000),
        ("bytes=990-5000", 990, 1000),
        ("bytes=500-", 500, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-1000", 0, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=-9999999999999999999", 0, 1000),
        ("BYTES=0-1", 0, 2),
        ("bytes= 0 - 1 ", 0, 2),
    ],
)
def test_one_range_is_a_part(text, start, stop):
    assert ruling(range=text) == RangeVerdict(206, start, stop)


@pytest.mark.parametrize("text", ["bytes=1000-", "bytes=1000-1001", "bytes=5000-", "bytes=-0"])
def test_a_range_outside_is_not_satisfiable(text):
    assert ruling(range=text).status == 416


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=2-1",
        "bytes=0-1,3-4",
        "bytes=0-1,",
        "bytes=--1",
        "bytes=0--1",
        "lines=0-1",
        "bytes=0x0-0x9",
        "bytes=0-1-2",
        "bytes=\u0661-\u0662",
        "bytes=" + "9" * 100_000 + "-",
        "bytes=0-" + "9" * 30,
        "bytes=1 2-3",
        "bytes=0-1" + " " * 100,
    ],
)
def test_what_is_no_single_range_gets_the_whole(text):
    assert ruling(range=text) == WHOLE


@pytest.mark.parametrize("header", ["range", "if_range", "if_modified_since", "if_match", "if_none_match"])
@pytest.mark.parametrize(
    "text", [f"bytes={' ' * 60_000}x", " " * 60_000, "-" * 60_000, "1 " * 30_000, ",; " * 20_000, "(" * 60_000]
)
def test_no_header_takes_long_to_read(header, text):
    began = time.thread_time()
    ruling(**{"range": "bytes=0-1", header: text})
    assert time.thread_time() - began < 0.5


def test_an_empty_blob_has_no_range():
    assert ruling(0) == RangeVerdict(200, 0, 0)
    assert {ruling(0, range=text).status for text in ("bytes=0-", "bytes=-1", "bytes=0-0")} == {416}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_match": ETAG}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": f'"x", {ETAG}'}, 200),
        ({"if_match": '"x"'}, 412),
        ({"if_match": f"W/{ETAG}"}, 412),
        ({"if_match": ""}, 412),
        ({"if_match": '"x"', "if_none_match": ETAG}, 412),
        ({"if_none_match": ETAG}, 304),
        ({"if_none_match": f"W/{ETAG}"}, 304),
        ({"if_none_match": f'"x" ,{ETAG}'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": ETAG.strip('"')}, 200),
        ({"if_none_match": ETAG, "range": "bytes=0-1"}, 304),
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": LATER}, 304),
        ({"if_modified_since": EARLIER}, 200),
        ({"if_none_match": '"x"', "if_modified_since": LATER}, 200),
        ({"range": "bytes=0-1", "if_range": ETAG}, 206),
        ({"range": "bytes=0-1", "if_range": DATE}, 206),
        ({"range": "bytes=0-1", "if_range": LATER}, 200),
        ({"range": "bytes=0-1", "if_range": EARLIER}, 200),
        ({"range": "bytes=0-1", "if_range": f"W/{ETAG}"}, 200),
        ({"range": "bytes=0-1", "if_range": '"x"'}, 200),
        ({"range": "bytes=0-1", "if_range": ""}, 200),
        ({"range": "bytes=5000-", "if_range": '"x"'}, 200),
        ({"range": "bytes=5000-", "if_range": ETAG}, 416),
    ],
)
def test_conditions(headers, status):
    assert ruling(**headers).status == status


@pytest.mark.parametrize(
    "moment",
    [
        "",
        "yesterday",
        "Mon, 02 Mar 99999999999999999999 09:30:00 GMT",
        "Mon, 02 Mar 2026 09:30:00 +99999999999999999999",
        "Mon, 02 Mar " + "9" * 5000 + " 09:30:00 GMT",
        "Mon, 30 Feb 2099 09:30:00 GMT",
        "9" * 5000,
        "0 0 0",
    ],
)
def test_a_date_that_is_none_is_ignored(moment):
    assert ruling(if_modified_since=moment) == WHOLE


edges = st.one_of(st.none(), st.integers(0, 40))


@given(edges, edges, st.integers(0, 30))
def test_a_range_is_the_bytes_that_a_slice_gives(first, last, size):
    content = bytes(range(size))
    found = ruling(size, range=f"bytes={'' if first is None else first}-{'' if last is None else last}")
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert found == RangeVerdict(200, 0, size)
        return
    if first is None:
        expected = content[max(0, size - last) :] if last else b""
    else:
        expected = content[first:] if last is None else content[first : last + 1]
    assert content[found.start : found.stop] == expected
    assert found.status == (206 if expected else 416)


@given(st.dictionaries(st.sampled_from(["range", "if_range", "if_match", "if_modified_since"]), st.text(max_size=40)))
def test_no_header_is_too_odd(headers):
    found = ruling(**headers)
    assert found.status in (200, 206, 304, 412, 416)
    assert 0 <= found.start <= found.stop <= SIZE
