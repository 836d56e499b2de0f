"""From an HTTP answer to an error."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from registry_mirror import errors
from registry_mirror.transfer.responses import error_for, looks_like_html, message_of, one_line, retry_after

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (301, errors.ProtocolError, 5),
        (400, errors.ValidationError, 2),
        (401, errors.AuthError, 5),
        (402, errors.PaymentRequiredError, 5),
        (403, errors.ForbiddenError, 5),
        (404, errors.NotFoundError, 8),
        (409, errors.ConflictError, 9),
        (418, errors.ApiError, 5),
        (422, errors.ValidationError, 2),
        (429, errors.RateLimitError, 5),
        (500, errors.ServerError, 5),
        (503, errors.ServerError, 5),
    ],
)
def test_each_status_has_its_own_error(status, kind, exit_code):
    error = error_for("get model 'x'", status, {"x-request-id": "r1"}, b'{"detail": "because"}', NOW)
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert "get model 'x'" in str(error)
    assert str(status) in str(error)


def test_a_page_under_403_is_not_blamed_on_the_key():
    assert error_for("list", 403, {}, b"<html>Blocked by policy</html>", NOW).hint is None
    assert "key" in error_for("list", 403, {}, b'{"detail": "no"}', NOW).hint


def test_a_success_is_no_error():
    assert error_for("list", 200, {}, b"", NOW) is None
    assert error_for("delete", 204, {}, b"", NOW) is None


def test_the_upstreams_reason_and_request_id_are_kept():
    error = error_for("get", 404, {"x-request-id": "req-7"}, b'{"error": {"message": "No such thing."}}', NOW)
    assert "No such thing." in str(error)
    assert error.request_id == "req-7"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "from error"}, "detail": "from detail"}, "from error"),
        ({"detail": "from detail"}, "from detail"),
        ({"error": "plain"}, "plain"),
        ({"message": "msg"}, "msg"),
        ({"detail": {"message": "inner"}}, "inner"),
        ({"detail": {"detail": "innermost"}}, "innermost"),
        ({"detail": [{"loc": ["query", "limit"], "msg": "too large"}]}, "query.limit: too large"),
        ({"detail": [1, 2]}, None),
        (["a list"], None),
        ({}, None),
    ],
)
def test_the_message_is_found_where_the_sdk_looks_for_it(body, message):
    assert message_of(json.dumps(body).encode()) == message


def test_a_page_instead_of_json_is_named_as_such():
    assert "page" in message_of(b"<!DOCTYPE html><html>Sign in</html>")
    assert message_of(b"\x00\xff") is None


def test_a_hostile_message_is_one_bounded_line():
    text = message_of(json.dumps({"detail": "a\x1b[31m\nb" + "c" * 1000}).encode())
    assert "\x1b" not in text
    assert "\n" not in text
    assert len(text) <= 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("99999999999999999999", None),
        (None, None),
        ("Mon, 23 Nov 2026 12:00:30 -0000", None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds


AN_HOUR_AHEAD = "Mon, 23 Nov 2026 13:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("Mon, 23 Nov 2026 13:00:01 GMT", AN_HOUR_AHEAD, 1.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", AN_HOUR_AHEAD, 0.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", "soon", 30.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", "", 30.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", "Mon, 23 Nov 99999999999 12:00:00 GMT", 30.0),
        ("7", AN_HOUR_AHEAD, 7.0),
    ],
)
def test_a_retry_after_date_is_by_the_clock_of_the_answer(value, date, seconds):
    assert retry_after(value, NOW, date) == seconds
    headers = {"retry-after": value, "date": date}
    assert error_for("list models", 429, headers, b"{}", NOW).retry_after == seconds


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"<!DOCTYPE html>", True),
        (b"\xef\xbb\xbf \n<HTML>", True),
        (b"<?xml version", True),
        (b"\x08\x08\x12\x07pytorch", False),
        (b"", False),
        (b"PK\x03\x04", False),
    ],
)
def test_a_web_page_is_recognised_by_its_beginning(head, expected):
    assert looks_like_html(head) is expected


def test_one_line_keeps_ordinary_text():
    assert one_line("  Größe 7: ok ") == "Größe 7: ok"


@pytest.mark.parametrize("before", [0, 250, 295, 297, 300])
def test_a_key_that_the_upstream_quotes_leaves_no_beginning_where_its_words_are_cut(before):
    key = "pk_live_abcdefghijklmnop"
    body = json.dumps({"detail": "x" * before + key + "x" * 300}).encode()
    failure = error_for("list models", 400, {}, body, NOW, hide=key)
    assert "pk_live" not in str(failure)
    assert not str(failure).partition(" (HTTP")[0].rstrip("…").endswith(("p", "pk", "pk_", "pk_l"))
