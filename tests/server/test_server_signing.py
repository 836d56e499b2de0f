"""Addresses that authorise themselves, and what happens to one that was touched."""

from __future__ import annotations

import stat
from urllib.parse import parse_qsl

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from registry_mirror.errors import ConfigurationError
from registry_mirror.secret import Secret
from registry_mirror.server.signing import BadSignatureError, Grant, Signer, key_from_file, process_key

KEY = "0123456789abcdef0123456789abcdef"
PATH = "/blobs/63f4f1e9b725370f459720575cd5f953.onnx"
NOW = 1_772_443_800.0
SIGNER = Signer(Secret(KEY), 3600)


def made(path: str = PATH, **more: str) -> dict[str, str]:
    return dict(parse_qsl(SIGNER.query(path, NOW, **more)))


def test_an_address_allows_what_it_was_made_for_until_its_end():
    grant = SIGNER.check(PATH, made(holder="box~1", name="a.onnx"), NOW + 3599.9)
    assert grant == Grant(PATH, "box~1", "a.onnx", int(NOW) + 3600)
    with pytest.raises(BadSignatureError, match="has ended"):
        SIGNER.check(PATH, made(), NOW + 3600)


def test_another_key_another_path_and_no_signature_are_refused():
    given = made(holder="box", name="a.onnx")
    for signer, path, query in (
        (Signer(Secret(KEY[::-1]), 3600), PATH, given),
        (SIGNER, PATH.replace("6", "7", 1), given),
        (SIGNER, PATH + "/", given),
        (SIGNER, PATH, {**given, "signature": ""}),
        (SIGNER, PATH, {key: value for key, value in given.items() if key != "signature"}),
        (SIGNER, PATH, {key: value for key, value in given.items() if key != "holder"}),
        (SIGNER, PATH, {}),
    ):
        with pytest.raises(BadSignatureError):
            signer.check(path, query, NOW)


@pytest.mark.parametrize("end", ["", "-1", "+9", "1e9", "9" * 20, "\u0661", "NaN", "9 ", "0x9"])
def test_an_end_that_is_no_number_is_refused(end):
    with pytest.raises(BadSignatureError):
        SIGNER.check(PATH, {**made(), "expires": end}, NOW)


@given(st.sampled_from(["holder", "name", "expires", "signature"]), st.text(max_size=60))
def test_whatever_is_changed_is_refused(field, value):
    good = made(holder="box", name="a.onnx")
    assume(good[field] != value)
    assume(not (field == "expires" and value.isascii() and value.isdecimal() and int(value) == int(good[field])))
    with pytest.raises(BadSignatureError):
        SIGNER.check(PATH, {**good, field: value}, NOW)


@given(st.text(max_size=20), st.text(max_size=20))
def test_one_field_cannot_be_moved_into_another(holder, name):
    """`a` + newline + `b` as one field is not `a` and `b` as two."""
    good = made(holder="box", name="a.onnx")
    assume((holder, name) != ("box", "a.onnx"))
    with pytest.raises(BadSignatureError):
        SIGNER.check(PATH, {**good, "holder": holder, "name": name}, NOW)


def test_the_key_shows_nowhere():
    assert KEY not in repr(SIGNER) + repr(SIGNER.query(PATH, NOW))
    assert process_key().reveal() != process_key().reveal()


def test_a_key_file_is_read_without_its_white_space(tmp_path):
    file = tmp_path / "key"
    file.write_bytes(b"\n" + KEY.encode() + b"\r\n")
    given = dict(parse_qsl(Signer(key_from_file(file), 3600).query(PATH, NOW)))
    assert SIGNER.check(PATH, given, NOW).path == PATH
    file.write_bytes(bytes(range(128, 192)))  # not UTF-8
    assert Signer(key_from_file(file), 60).query(PATH, NOW)


def test_a_key_file_that_cannot_be_used_says_how_to_make_one(tmp_path):
    file = tmp_path / "key"
    for prepare in (
        lambda: None,
        lambda: file.write_bytes(b"short" + b" " * 100),
        lambda: (file.unlink(), file.mkdir()),
    ):
        prepare()
        with pytest.raises(ConfigurationError, match="signing_key_file") as caught:
            key_from_file(file)
        assert "urandom" in (caught.value.hint or "")
    assert stat.S_ISDIR(file.stat().st_mode)
