"""From the bytes of an answer to rows, documents and addresses."""

from __future__ import annotations

import json

import pytest

from registry_mirror.errors import ProtocolError
from registry_mirror.sources.api.decode import decode_document, decode_download_url, decode_page, decode_row
from registry_mirror.sources.source import ListedModel, UnreadableRow

DOCUMENT = {
    "id": "m1",
    "name": "Forklifts",
    "status": "ready",
    "model_type": "object_detection",
    "metrics": {"mAP": 0.5},
    "class_mapping": {"0": "forklift"},
    "updated_at": "2026-03-02T09:30:00Z",
    "something_new": [1, {"deep": "ß"}],
}


def page(*rows, key="data", **rest):
    return json.dumps({key: list(rows), **rest}).encode()


@pytest.mark.parametrize("key", ["data", "models"])
def test_either_envelope_is_read(key):
    decoded = decode_page(page(DOCUMENT, key=key))
    assert [row.id for row in decoded.rows] == ["m1"]


def test_the_document_is_kept_as_sent_unknown_fields_included():
    raw = b'{"data":[{"zeta":1,  "id":"m1","name":"x","new":{"a":[1.50,null]}}]}'
    (row,) = decode_page(raw).rows
    assert row.document == '{"zeta":1,  "id":"m1","name":"x","new":{"a":[1.50,null]}}'


@pytest.mark.parametrize(
    ("pagination", "expected"),
    [
        ({"has_more": True}, True),
        ({"has_more": False}, False),
        ({"has_more": "true"}, None),
        ({"has_more": 1}, None),
        ([], None),
        (None, None),
    ],
)
def test_only_a_real_boolean_says_whether_there_is_more(pagination, expected):
    assert decode_page(page(DOCUMENT, pagination=pagination)).has_more is expected


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (12, 12), (0, 0), (12.0, 12), ("12", 12), ("0", 0),
        (12.5, None), (-1, None), (-1.0, None), (True, None), (1e300, None), (10**400, None), (1 << 53, None),
        ("", None), ("twelve", None), ("-1", None), ("1.5", None), (" 12", None), ("12\n", None), ("²", None),
        ("9" * 5000, None), ([12], None), ({}, None), (None, None),
    ],
)  # fmt: skip
def test_a_whole_number_says_how_many_there_are_however_it_is_written(total, expected):
    found = decode_page(page(DOCUMENT, pagination={"total": total})).total
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("total", ["1e400", "NaN", "Infinity"])
def test_a_total_that_is_no_number_at_all_is_none(total):
    assert (
        decode_page(page(DOCUMENT).replace(b"{", b'{"pagination": {"total": %s}, ' % total.encode(), 1)).total is None
    )


def test_one_bad_row_does_not_cost_its_page():
    rows = decode_page(page(DOCUMENT, {"id": 7, "name": "n"}, {"id": "m3"}, "text", None, {"id": "", "name": "e"})).rows
    assert isinstance(rows[0], ListedModel)
    assert [type(row) for row in rows[1:]] == [UnreadableRow] * 5
    assert rows[1].name == "n"
    assert rows[2].id == "m3"


def test_nan_in_one_row_does_not_cost_its_page():
    body = b'{"data": [{"id":"a","name":"a","metrics":{"mAP": NaN}}, {"id":"b","name":"b"}]}'
    assert [row.id for row in decode_page(body).rows] == ["a", "b"]


def test_nan_in_one_row_leaves_the_other_documents_as_they_were_sent():
    rows = ['{"id" : "m1","name":"caf\\u00e9","x":1.50}', '{"id":"m2", "name":"n", "x":NaN}']
    page = decode_page(('{"pagination": {"has_more": true}, "data" : [' + " ,\n".join(rows) + "]}").encode())
    assert [row.document for row in page.rows] == rows
    assert page.has_more is True


def test_a_lone_surrogate_in_a_name_does_not_cost_its_page():
    body = b'{"data": [{"id":"a","name":"\\ud800"}, {"id":"b","name":"b"}]}'
    first, second = decode_page(body).rows
    assert first.name.encode() == b"\\ud800"  # a name that databases take
    assert second.id == "b"


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"", b'{"data": [', b"[]", b"{}", b'{"data": {"a": 1}}'])
def test_what_is_no_listing_is_refused(body):
    with pytest.raises(ProtocolError):
        decode_page(body)


def test_a_sign_in_page_is_called_one():
    with pytest.raises(ProtocolError, match="web page"):
        decode_page(b"<!doctype html><title>Sign in</title>")


def test_wrong_types_in_fields_that_do_not_matter_are_let_be():
    row = decode_row(json.dumps(DOCUMENT | {"status": 3, "model_type": [], "architecture": 1}).encode())
    assert (row.status, row.model_type, row.architecture) == ("", None, None)


def test_the_fingerprint_ignores_key_order_and_white_space():
    one = decode_row(b'{"id":"a","name":"n","x":{"b":1,"a":2}}')
    two = decode_row(b'{ "name":"n", "x":{"a":2,"b":1}, "id":"a" }')
    assert one.fingerprint == two.fingerprint


def test_the_fingerprint_changes_with_any_field():
    one, two = (decode_row(json.dumps(DOCUMENT | {"something_new": value}).encode()) for value in (1, 2))
    assert one.fingerprint != two.fingerprint
    assert one.stamp == two.stamp


@pytest.mark.parametrize("field", ["updated_at", "version", "precision", "current_version_id", "md5"])
def test_the_stamp_changes_with_what_speaks_of_weights(field):
    one, two = (decode_row(json.dumps(DOCUMENT | {field: value}).encode()) for value in ("1", "2"))
    assert one.stamp != two.stamp


def test_without_a_time_of_change_any_field_changes_the_stamp():
    bare = {key: value for key, value in DOCUMENT.items() if key != "updated_at"}
    one, two = (decode_row(json.dumps(bare | {"description": value}).encode()) for value in ("1", "2"))
    assert one.stamp != two.stamp


def test_a_row_without_metrics_or_class_mapping_is_not_detailed():
    assert decode_row(json.dumps(DOCUMENT).encode()).detailed
    assert decode_row(json.dumps(DOCUMENT | {"metrics": None}).encode()).detailed
    for key in ("metrics", "class_mapping"):
        rest = {name: value for name, value in DOCUMENT.items() if name != key}
        assert not decode_row(json.dumps(rest).encode()).detailed


@pytest.mark.parametrize("number", ["1.50", "NaN"])
@pytest.mark.parametrize("envelope", ['{"data": %s, "model": null}', '{"model": %s}', "%s"])
def test_the_document_of_a_get_is_kept_as_sent(envelope, number):
    text = '{"name" : "caf\\u00e9", "id": "m1",\n "big": 1e400, "mAP": ' + number + "}"
    row = decode_document("get", (envelope % text).encode())
    assert (row.id, row.name, row.document) == ("m1", "caf\xe9", text)


@pytest.mark.parametrize("key", ["data", "model"])
def test_a_document_is_read_from_either_envelope(key):
    assert decode_document("get", json.dumps({key: DOCUMENT}).encode()).name == "Forklifts"


@pytest.mark.parametrize("body", [b"{}", b'{"data": []}', b'{"model": {"id": 1}}', b"<html>", b""])
def test_a_get_without_a_model_is_a_protocol_error(body):
    with pytest.raises(ProtocolError):
        decode_document("get", body)


@pytest.mark.parametrize(
    "answer",
    [
        {"download_url": "https://storage.example/a?token=t"},
        {"data": {"download_url": "https://storage.example/a?token=t"}},
        {"download_url": "https://old.example/", "data": {"download_url": "https://storage.example/a?token=t"}},
    ],
)
def test_the_address_is_read_from_either_envelope(answer):
    assert decode_download_url("download", json.dumps(answer).encode()) == "https://storage.example/a?token=t"


@pytest.mark.parametrize("url", [None, 5, ["https://storage.example/"], {}])
def test_an_address_that_is_no_text_is_refused(url):
    with pytest.raises(ProtocolError, match="download_url"):
        decode_download_url("download", json.dumps({"download_url": url}).encode())
