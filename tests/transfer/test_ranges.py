"""What an answer to a request for a rest is worth."""

from __future__ import annotations

import base64

import pytest

from registry_mirror import errors
from registry_mirror.transfer.declared import Declared, declared
from registry_mirror.transfer.partial_body import is_worth_keeping
from registry_mirror.transfer.verdicts import RangeFit, Rest, judge_rest, judge_whole

MD5 = "0123456789abcdef0123456789abcdef"
B64 = base64.b64encode(bytes.fromhex(MD5)).decode()
OTHER = base64.b64encode(b"0" * 16).decode()
DATE = "Mon, 02 Mar 2026 09:30:00 GMT"


def said(**values):
    given = {"size": 100, "md5": MD5, "hint": None, "validator": '"v1"', "framed": True}
    return Declared(**{**given, **values})


def test_a_rest_is_asked_for_under_the_condition_that_the_object_is_the_same():
    assert Rest(40, said()).headers() == {"Range": "bytes=40-", "If-Range": '"v1"'}
    assert Rest(40, said(validator=None, modified=DATE, settled=True)).headers()["If-Range"] == DATE
    assert Rest(40, said(validator=None)).headers() == {"Range": "bytes=40-"}


GOOD = {"content-range": "bytes 40-99/100", "etag": '"v1"', "content-length": "60"}


@pytest.mark.parametrize(
    ("change", "fit"),
    [
        ({}, RangeFit.REST),
        ({"content-length": None}, RangeFit.REST),
        ({"x-goog-hash": f"crc32c=AAAAAA==,md5={B64}"}, RangeFit.REST),
        ({"content-md5": OTHER}, RangeFit.REST),  # of the part
        ({"etag": None}, RangeFit.REST),  # the MD5 decides in the end
        ({"content-range": None}, RangeFit.MISFIT),
        ({"content-range": "bytes 39-99/100"}, RangeFit.MISFIT),
        ({"content-range": "bytes 41-99/100"}, RangeFit.MISFIT),
        ({"content-range": "bytes 0-99/100"}, RangeFit.MISFIT),
        ({"content-range": "bytes 40-98/100"}, RangeFit.MISFIT),
        ({"content-range": "bytes 40-99/*"}, RangeFit.MISFIT),
        ({"content-range": "bytes 40-100/101"}, RangeFit.MISFIT),
        ({"content-range": "bytes 40-39/40"}, RangeFit.MISFIT),
        ({"content-range": "items 40-99/100"}, RangeFit.MISFIT),
        ({"content-range": "bytes 40-99/100, 0-9/100"}, RangeFit.MISFIT),
        ({"content-range": f"bytes 40-99/{'9' * 5000}"}, RangeFit.MISFIT),
        ({"content-length": "61"}, RangeFit.MISFIT),
        ({"content-encoding": "gzip"}, RangeFit.MISFIT),
        ({"content-encoding": "aws-chunked"}, RangeFit.REST),
        ({"etag": '"v2"'}, RangeFit.MISFIT),
        ({"etag": 'W/"v1"'}, RangeFit.MISFIT),
        ({"x-goog-hash": f"md5={OTHER}"}, RangeFit.MISFIT),
        ({"content-type": "multipart/byteranges; boundary=x", "content-range": None}, RangeFit.MISFIT),
    ],
)
def test_a_partial_answer_counts_only_when_all_that_it_says_fits(change, fit):
    headers = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    assert judge_rest(Rest(40, said()), 206, headers)[0] is fit


def test_without_a_digest_a_partial_answer_has_to_name_its_object():
    headers = {**GOOD}
    del headers["etag"]
    assert judge_rest(Rest(40, said(md5=None)), 206, headers)[0] is RangeFit.MISFIT
    dated = said(md5=None, validator=None, modified=DATE, settled=True)
    assert judge_rest(Rest(40, dated), 206, headers)[0] is RangeFit.MISFIT
    assert judge_rest(Rest(40, dated), 206, {**headers, "last-modified": DATE})[0] is RangeFit.REST
    changed = {**headers, "last-modified": "Tue, 03 Mar 2026 09:30:00 GMT"}
    assert judge_rest(Rest(40, dated), 206, changed)[0] is RangeFit.MISFIT


@pytest.mark.parametrize(
    ("start", "total", "condition", "fit"),
    [
        (100, "bytes */100", '"v1"', RangeFit.COMPLETE),
        (100, "bytes */100", None, RangeFit.MISFIT),  # it would be the same answer for another object of that size
        (100, "bytes */99", '"v1"', RangeFit.MISFIT),
        (40, "bytes */40", '"v1"', RangeFit.MISFIT),
        (40, "bytes */100", '"v1"', RangeFit.MISFIT),
        (100, "", '"v1"', RangeFit.MISFIT),
    ],
)
def test_no_rest_means_whole_only_when_the_size_says_so_under_a_condition(start, total, condition, fit):
    assert judge_rest(Rest(start, said(validator=condition)), 416, {"content-range": total})[0] is fit


LATER = "Tue, 03 Mar 2026 09:30:00 GMT"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"modified": DATE}, {"last-modified": LATER}),
        ({"generation": "1"}, {"x-goog-generation": "2"}),
        ({"others": {"crc32c": "00000000"}}, {"x-goog-hash": "crc32c=AAAAAQ=="}),
        ({"others": {"sha-256": "00" * 32}}, {"repr-digest": f"sha-256=:{base64.b64encode(b'1' * 32).decode()}:"}),
    ],
)
def test_the_same_etag_proves_nothing_where_something_else_says_that_the_object_has_changed(before, now):
    rest = Rest(40, said(md5=None, **before))
    assert judge_rest(rest, 206, {**GOOD, **now})[0] is RangeFit.MISFIT
    assert judge_rest(rest, 206, GOOD)[0] is RangeFit.REST


def test_a_digest_that_stays_the_same_outranks_a_date_that_does_not():
    headers = {**GOOD, "last-modified": LATER, "x-goog-hash": f"md5={B64}"}
    assert judge_rest(Rest(40, said(modified=DATE)), 206, headers)[0] is RangeFit.REST


@pytest.mark.parametrize("status", [200, 203, 206])
@pytest.mark.parametrize(
    ("headers", "fit"),
    [
        (GOOD, RangeFit.REST),
        ({**GOOD, "content-range": "bytes 0-99/100"}, RangeFit.MISFIT),
        ({**GOOD, "content-length": "59"}, RangeFit.MISFIT),
        ({**GOOD, "etag": '"v2"'}, RangeFit.MISFIT),
    ],
)
def test_a_part_that_says_which_it_is_is_judged_the_same_whatever_its_status(status, headers, fit):
    assert judge_rest(Rest(40, said()), status, headers)[0] is fit


@pytest.mark.parametrize(
    ("of", "headers", "fit"),
    [
        ({}, {"content-length": "100"}, RangeFit.WHOLE),
        ({}, {"content-length": "100", "etag": '"v2"'}, RangeFit.WHOLE),  # it has changed, and kept its length
        ({}, {"content-length": "60"}, RangeFit.MISFIT),
        ({}, {"content-length": "60", "etag": '"v2"'}, RangeFit.MISFIT),
        ({}, {"content-length": "0"}, RangeFit.MISFIT),
        ({}, {"transfer-encoding": "chunked"}, RangeFit.MISFIT),
        ({}, {}, RangeFit.MISFIT),
        ({}, {"content-length": "100", "content-encoding": "gzip"}, RangeFit.MISFIT),
        ({"size": None}, {"content-length": "100"}, RangeFit.MISFIT),
    ],
)
def test_a_success_that_names_no_range_is_the_whole_only_when_its_length_says_so(of, headers, fit):
    assert judge_rest(Rest(40, said(**of)), 200, headers)[0] is fit


@pytest.mark.parametrize("status", [204, 302, 304, 400, 401, 403, 404, 405, 410, 412, 501, 520])
def test_an_error_for_a_rest_may_be_about_the_range_alone(status):
    assert judge_rest(Rest(40, said()), status, GOOD)[0] is RangeFit.REFUSED
    assert judge_whole(status, GOOD)[0] is RangeFit.OTHER


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_error_that_passes_is_about_any_request(status):
    assert judge_rest(Rest(40, said()), status, GOOD)[0] is RangeFit.OTHER
    assert judge_whole(status, GOOD)[0] is RangeFit.OTHER


@pytest.mark.parametrize(
    ("status", "headers", "fit"),
    [
        (200, {}, RangeFit.WHOLE),
        (200, {"content-length": "100"}, RangeFit.WHOLE),
        (203, {"content-length": "100"}, RangeFit.WHOLE),
        (200, {"content-range": "bytes 0-99/100", "content-length": "100"}, RangeFit.WHOLE),
        (206, {"content-range": "bytes 0-99/100", "content-length": "100"}, RangeFit.WHOLE),
        (206, {"content-range": "bytes 0-99/100"}, RangeFit.WHOLE),
        (206, {"content-length": "100"}, RangeFit.MISFIT),
        (206, {"content-range": "bytes 0-49/100", "content-length": "50"}, RangeFit.MISFIT),
        (200, {"content-range": "bytes 0-49/100", "content-length": "50"}, RangeFit.MISFIT),
        (200, {"content-range": "bytes 0-99/100", "content-length": "50"}, RangeFit.MISFIT),
        (200, {"content-range": "bytes 50-99/100", "content-length": "50"}, RangeFit.MISFIT),
        (200, {"content-range": "bytes 0-99/*"}, RangeFit.MISFIT),
        (200, {"content-range": "x" * 5000}, RangeFit.MISFIT),
    ],
)
def test_an_answer_is_the_whole_object_only_when_nothing_in_it_says_otherwise(status, headers, fit):
    found, reason = judge_whole(status, headers)
    assert found is fit
    assert len(reason) < 200


@pytest.mark.parametrize(
    ("modified", "answered", "strong"),
    [
        (DATE, "Mon, 02 Mar 2026 09:31:00 GMT", True),
        (DATE, "Mon, 02 Mar 2026 09:30:59 GMT", False),
        (DATE, DATE, False),
        (DATE, "", False),
        ("yesterday", DATE, False),
        ("Mon, 02 Mar 2026 09:30:00", "Mon, 02 Mar 2026 10:31:00 GMT", False),
    ],
)
def test_a_date_is_a_validator_only_when_it_is_older_than_a_minute(modified, answered, strong):
    found = declared({"last-modified": modified, "date": answered})
    assert found.condition == (modified if strong else None)


@pytest.mark.parametrize("etag", ['"é"', '"a\x7f"', '"\u2028"'])
def test_an_etag_that_cannot_be_sent_back_is_no_condition(etag):
    assert declared({"etag": etag}).condition is None
    assert "If-Range" not in Rest(40, said(validator=etag)).headers()


@pytest.mark.parametrize(
    ("what", "resumable", "lasting"),
    [
        (said(), True, True),
        (said(validator=None), True, True),
        (said(md5=None), True, False),
        (said(md5=None, hint=MD5), True, True),
        (said(md5=None, others={"crc32c": "00000000"}), True, True),
        (said(md5=None, validator=None), False, False),
        (said(md5=None, validator=None, modified=DATE), False, False),
        (said(size=None), True, False),
        (said(coding="gzip"), False, False),
    ],
)
def test_a_cut_body_goes_on_where_a_change_would_show_and_is_kept_where_a_digest_is_known(what, resumable, lasting):
    assert (what.resumable, what.lasting) == (resumable, lasting)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (errors.NetworkError("cut"), True),
        (errors.TransferError("403", transient=True), True),
        (errors.RateLimitError("429", retry_after=4000), True),
        (errors.Interrupted("interrupted"), True),
        (KeyboardInterrupt(), True),
        (errors.NoSpaceError("full"), False),
        (errors.IntegrityError("wrong"), False),
        (OSError(5, "Input/output error"), False),
        (ValueError("a fault of ours"), False),
    ],
)
def test_what_a_fetch_ends_with_decides_whether_its_beginning_is_kept(error, kept):
    assert is_worth_keeping(said(), error) is kept
    assert not is_worth_keeping(said(md5=None), error)
    assert not is_worth_keeping(None, error)
