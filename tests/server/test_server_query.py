"""Query parameters: what is not known is refused, never ignored."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_mirror.server.requests import BadQueryError, FieldError, ListQuery, list_query, parameters


def wrong(query: bytes) -> dict[str, str]:
    """What is refused, and why."""
    with pytest.raises(BadQueryError) as caught:
        list_query(parameters(query))
    return {each.name: each.message for each in caught.value.errors}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", ListQuery()),
        (b"limit=1", ListQuery(limit=1)),
        (b"limit=1000&offset=0", ListQuery(limit=1000)),
        (b"limit=0050", ListQuery(limit=50)),
        (b"offset=9007199254740992", ListQuery(offset=1 << 53)),
        (b"name=Alpha+One", ListQuery(name="Alpha One")),
        (b"name=", ListQuery(name="")),
        (b"name=a%2Bb%26c%3Dd", ListQuery(name="a+b&c=d")),
        (b"name=%F0%9F%A6%95", ListQuery(name="\N{SAUROPOD}")),
        (b"status=archived&model_type=classification", ListQuery(status="archived", model_type="classification")),
    ],
)
def test_good_queries(query, expected):
    assert list_query(parameters(query)) == expected


@pytest.mark.parametrize(
    "query",
    [
        b"limit=0",
        b"limit=1001",
        b"limit=-1",
        b"limit=",
        b"limit=1.0",
        b"limit=1e2",
        b"limit=+5",
        b"limit=%2B5",
        b"limit=0x10",
        b"limit=%D9%A1",  # a digit, but not one of ours
        b"limit=" + b"9" * 10_000,
        b"limit=1%00",
        b"limit=true",
        b"limit",
    ],
)
def test_a_limit_is_a_whole_number_from_1_to_1000(query):
    assert set(wrong(query)) == {"limit"}


def test_a_name_is_no_longer_than_a_part_of_a_path():
    assert list_query({"name": "n" * 1024}).name == "n" * 1024
    assert set(wrong(b"name=" + b"n" * 1025)) == {"name"}


def test_every_mistake_is_named_at_once():
    found = wrong(b"limit=0&offset=-1&status=gone&model_type=x&order=name")
    assert set(found) == {"limit", "offset", "status", "model_type", "order"}


def test_a_filter_that_is_not_known_is_refused_and_the_datasets_one_says_why():
    assert "known are" in wrong(b"names=a")["names"]
    assert "dataset" in wrong(b"dataset_name=a")["dataset_name"]


@pytest.mark.parametrize("query", [b"name=a&name=b", b"name=a&name=a", b"limit=1&limit=2", b"x=1&x=2"])
def test_a_parameter_twice_is_refused(query):
    with pytest.raises(BadQueryError, match="once"):
        parameters(query)


@pytest.mark.parametrize("query", [b"name=%", b"name=%zz", b"name=%ff", b"name=%ED%A0%80", b"name=a%00", b"na%me=a"])
def test_what_cannot_be_decoded_is_refused(query):
    with pytest.raises(BadQueryError):
        parameters(query)


def test_too_many_parameters_are_refused():
    with pytest.raises(BadQueryError, match="at most"):
        parameters(b"&".join(b"a%d=1" % i for i in range(1000)))


def test_an_unheard_of_type_is_a_filter_once_a_model_has_it():
    assert list_query({"model_type": "pose"}, lambda name: name == "pose").model_type == "pose"
    with pytest.raises(BadQueryError):
        list_query({"model_type": "pose"})


text = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)


@given(text)
def test_any_name_comes_back_as_it_was_sent(name):
    assert list_query(parameters(urlencode({"name": name, "limit": 1}).encode())).name == name


@given(st.binary(max_size=120))
def test_any_bytes_are_a_query_or_refused(query):
    found: tuple[FieldError, ...] = ()
    try:
        list_query(parameters(query))
    except BadQueryError as error:
        found = error.errors
    assert all(each.name.isprintable() for each in found)
