"""Documents as each client can read them."""

from __future__ import annotations

import json
from functools import partial

import pytest
from support.documents import make_document

from registry_mirror.server.dialects import Dialect, RowKind, Substitutes, decoded, dialect_of, fitted

SUBSTITUTES = partial(Substitutes, "org-1", "2026-03-01T08:00:00Z")
SDK = Dialect(RowKind.SDK, (1, 69, 146))
MIRROR = Dialect(RowKind.MIRROR)
OTHER = Dialect(RowKind.OTHER)


def shown(document: dict, who: Dialect = SDK) -> dict:
    return json.loads(fitted(json.dumps(document), who, SUBSTITUTES))


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("pictograph-python/1.0.0", Dialect(RowKind.SDK, (1, 0, 0))),
        ("pictograph-python-async/1.69.146", Dialect(RowKind.SDK, (1, 69, 146))),
        ("pictograph-python/1.69.146 extra", Dialect(RowKind.SDK, (1, 69, 146))),
        ("registry-mirror/0.1.0", Dialect(RowKind.MIRROR)),
        ("pictograph-python", OTHER),
        ("pictograph-python/x.y.z", OTHER),
        ("pictograph-python/" + "9" * 5000 + ".0.0", OTHER),
        ("my pictograph-python/1.0.0", OTHER),
        ("curl/8", OTHER),
        ("", OTHER),
    ],
)
def test_a_client_is_told_by_its_user_agent(agent, expected):
    assert dialect_of(agent) == expected


def test_keypoints_are_left_out_for_those_who_do_not_know_them():
    old, new = Dialect(RowKind.SDK, (1, 67, 16)), Dialect(RowKind.SDK, (1, 67, 17))
    assert "keypoint_detection" not in (old.types or ())
    assert "keypoint_detection" in (new.types or ())
    assert OTHER.types is OTHER.statuses is MIRROR.types is MIRROR.statuses is None


def test_a_clean_document_keeps_every_byte():
    text = '{ "b":1e5,\t"a" : "\\u00e9\\ud83d" , ' + json.dumps(make_document(1))[1:].replace(", ", " ,\n")
    assert all(fitted(text, who, SUBSTITUTES) == text for who in (SDK, MIRROR, OTHER))


def test_another_mirror_gets_the_document_whatever_it_is():
    for text in ('{"precision": null, "version": 3}', "[]", "not json", ""):
        assert fitted(text, MIRROR, SUBSTITUTES) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", None),
        ("precision", "int8"),
        ("precision", 16),
        ("version", None),
        ("version", 3),
        ("description", 3),
        ("architecture", []),
        ("metrics", []),
        ("class_mapping", "x"),
        ("training_config", 1),
        ("forked_from_model_id", {}),
    ],
)
def test_a_value_that_an_sdk_refuses_is_absent(key, value):
    document = make_document(1, **{key: value}, unknown=[1, {"x": None}])
    assert shown(document) == {name: each for name, each in document.items() if name != key}


@pytest.mark.parametrize("key", ["description", "metrics", "class_mapping", "training_config", "parent_model_id"])
def test_a_null_that_every_sdk_takes_stays(key):
    document = make_document(1, **{key: None})
    assert shown(document) == document


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"organization_id": None}, {"organization_id": "org-1"}),
        ({"visibility": "secret"}, {"visibility": "private"}),
        ({"created_at": None}, {"created_at": make_document(1)["updated_at"]}),
        ({"updated_at": "yesterday"}, {"updated_at": make_document(1)["created_at"]}),
        ({"created_at": 5, "updated_at": None}, dict.fromkeys(("created_at", "updated_at"), SUBSTITUTES().first_seen)),
    ],
)
def test_a_required_field_that_is_not_there_is_filled(changes, expected):
    assert shown(make_document(1, **changes)) == {**make_document(1), **expected}


@pytest.mark.parametrize(
    "moment", ["2026-03-02T09:30:00.125000+00:00", "2026-03-02T09:30:00Z", "2026-03-02T09:30:00.1Z", "2026-03-02"]
)
def test_times_are_passed_on_to_the_letter(moment):
    document = make_document(1, created_at=moment, updated_at=moment, precision=None)
    assert shown(document)["updated_at"] == moment


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"', "[" * 100_000])
def test_what_is_no_object_is_an_empty_one(text):
    assert decoded(text) == {}


def test_an_odd_document_is_still_shown():
    assert shown({"name": "\ud83d", "n": 1 << 80, "precision": None})["name"] == "\ud83d"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("agent", ["registry-mirror/1.0", "curl/8", "pictograph-python/1.67.17"])
def test_what_no_number_of_json_is_goes_out_as_null(word, agent):
    text = json.dumps(make_document(1, metrics={"mAP": "@", "loss": [0.5]})).replace('"@"', word)
    served = fitted(text, dialect_of(agent), SUBSTITUTES)
    if "999" in word and agent.startswith("registry"):
        assert served == text  # it is JSON, and a mirror is to hold what this one holds
        return
    assert json.loads(served, parse_constant=pytest.fail)["metrics"] == {"mAP": None, "loss": [0.5]}


@pytest.mark.parametrize("agent", ["registry-mirror/1.0", "curl/8"])
def test_a_document_that_only_speaks_of_nan_is_served_to_the_letter(agent):
    text = json.dumps(make_document(1, name="NaN of Infinity", description="\ud800 1e999")).replace(", ", " ,\t")
    assert fitted(text, dialect_of(agent), SUBSTITUTES) == text
