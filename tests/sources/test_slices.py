"""The parts of a JSON text keep their spelling, whatever stands between and within them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_mirror.sources.api.decode import elements, members

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
indents = st.sampled_from([None, 0, 3, "\t"])


@given(st.dictionaries(st.text(max_size=5), values, max_size=5), indents, st.booleans())
def test_the_members_of_any_object_are_found(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = members(text)
    assert list(found) == list(value)
    assert all(part in text for part in found.values())
    assert repr({key: json.loads(part) for key, part in found.items()}) == repr(value)


@given(st.lists(values, max_size=5), indents)
def test_the_elements_of_any_array_are_found(value, indent):
    text = json.dumps(value, indent=indent)
    assert repr([json.loads(part) for part in elements(text)]) == repr(value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[]", []),
        (" [ ] ", []),
        ("[1.50,\n1e2 , -0 ]", ["1.50", "1e2", "-0"]),
        ('[{"a" : "\\u00e9]" },[ ]]', ['{"a" : "\\u00e9]" }', "[ ]"]),
        ("[NaN,-Infinity]", ["NaN", "-Infinity"]),
    ],
)
def test_elements_keep_their_spelling(text, parts):
    assert list(elements(text)) == parts


def test_of_a_key_that_comes_twice_the_last_one_counts_as_in_json():
    assert members('\ufeff {"a": 1 , "a" : 2}') == {"a": "2"}
