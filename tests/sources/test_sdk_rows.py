"""What is done to a document so that no version of the official SDK refuses it, and that nothing else is."""

from __future__ import annotations

import json
from functools import partial

import pytest
from support.documents import make_document

from registry_mirror.server.dialects import Substitutes, dialect_of, fitted, is_time

SUBSTITUTES = partial(Substitutes, "organisation-1", "2026-03-01T08:00:00Z")
SDK = dialect_of("pictograph-python/1.30.0")


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("2026-03-02T09:30:00.125000+00:00", True),
        ("2026-03-02T09:30:00.123456789Z", True),
        ("2026-03-02t09:30:00z", True),
        ("2026-03-02 09:30", True),
        ("2026-03-02", True),
        ("2026-W05-1", False),
        ("20260302T093000", False),
        ("2026-03-02T09", False),
        ("2026-03-02T09:30:00+00", False),
        ("2026-03-02T09:30:00+00:00:30", False),
        ("2026-02-30T09:30:00Z", False),
        ("2026-03-02T09:30:00.Z", False),
        ("\u0662\u0660\u0662\u0666-03-02", False),
        ("soon", False),
        ("", False),
        (None, False),
        (1772443800, False),
    ],
)
def test_a_time_counts_when_every_sdk_reads_it(text, readable):
    assert is_time(text) is readable


def test_a_document_that_every_sdk_reads_goes_out_to_the_letter():
    text = json.dumps(make_document(1, updated_at="2026-03-02T09:30:00.120000Z"), indent=1)
    assert fitted(text, SDK, SUBSTITUTES) is text


def test_a_document_goes_to_another_mirror_to_the_letter_whatever_is_in_it():
    text = json.dumps(make_document(1, updated_at="soon", precision=None))
    assert fitted(text, dialect_of("registry-mirror"), SUBSTITUTES) is text


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ({"updated_at": "2026-W05-1"}, {"updated_at": "2026-01-01T00:01:00.000000+00:00"}),
        (
            {"created_at": "soon", "updated_at": None},
            {"created_at": SUBSTITUTES().first_seen, "updated_at": SUBSTITUTES().first_seen},
        ),
        ({"organization_id": None}, {"organization_id": SUBSTITUTES().organization_id}),
        ({"visibility": "organization"}, {"visibility": "private"}),
    ],
)
def test_a_required_field_that_an_sdk_would_refuse_is_filled(sent, received):
    document = make_document(1, **sent)
    assert json.loads(fitted(json.dumps(document), SDK, SUBSTITUTES)) == {**document, **received}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", None),
        ("precision", "int8"),
        ("version", None),
        ("version", 2),
        ("metrics", [1]),
        ("description", 7),
    ],
)
def test_an_optional_field_that_an_sdk_would_refuse_is_left_out(key, value):
    document = make_document(1, **{key: value})
    received = json.loads(fitted(json.dumps(document), SDK, SUBSTITUTES))
    assert key not in received
    assert {**received, key: value} == document
