"""What storage's headers declare, and what a whole body is worth."""

from __future__ import annotations

import base64
import hashlib

import pytest

from registry_mirror.digests import Hasher, digest_file
from registry_mirror.upstream.declared import Declared, Verdict, declared, judge

BODY = b"weights" * 100
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
B64 = base64.b64encode(bytes.fromhex(MD5)).decode()
OTHER = "0" * 32


def digest_of(data=BODY):
    hasher = Hasher()
    hasher.update(data)
    return hasher.digest()


@pytest.mark.parametrize(
    ("headers", "md5", "hint"),
    [
        ({"x-goog-hash": f"md5={B64}"}, MD5, None),
        ({"x-goog-hash": f"crc32c=AAAAAA==,md5={B64}"}, MD5, None),
        ({"x-goog-hash": f"crc32c=AAAAAA==, md5={B64}"}, MD5, None),
        ({"content-md5": B64}, MD5, None),
        ({"x-goog-hash": f"md5={B64}", "content-md5": base64.b64encode(b"0" * 16).decode()}, MD5, None),
        ({"etag": f'"{MD5}"'}, None, MD5),
        ({"etag": f'"{MD5.upper()}"'}, None, MD5),
        ({"etag": f'W/"{MD5}"'}, None, MD5),
        ({"etag": f'"{MD5}-12"'}, None, None),
        ({"content-md5": "not base64!"}, None, None),
        ({"content-md5": base64.b64encode(b"short").decode()}, None, None),
        ({"x-goog-hash": "crc32c=AAAAAA=="}, None, None),
        ({}, None, None),
    ],
)
def test_a_declared_md5_binds_and_an_etag_hints(headers, md5, hint):
    found = declared(headers)
    assert (found.md5, found.hint) == (md5, hint)


def test_only_a_strong_etag_is_a_validator():
    assert declared({"etag": '"abc-12"'}).validator == '"abc-12"'
    assert declared({"etag": 'W/"abc"'}).validator is None


def test_the_length_of_an_encoded_body_is_not_that_of_the_object():
    assert declared({"content-length": "10", "content-encoding": "gzip"}).size is None
    assert declared({"content-length": "10", "content-encoding": "identity"}).size == 10


@pytest.mark.parametrize(
    ("headers", "framed"),
    [({"content-length": "5"}, True), ({"transfer-encoding": "chunked"}, True), ({}, False)],
)
def test_a_cut_body_shows_by_a_length_or_by_chunks(headers, framed):
    assert declared(headers).framed is framed


def said(**values):
    defaults = {
        "size": None,
        "md5": None,
        "hint": None,
        "validator": None,
        "content_type": "application/octet-stream",
        "framed": True,
        "encoded": False,
    }
    return Declared(**(defaults | values))


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        (said(md5=MD5, size=len(BODY)), Verdict.ACCEPT),
        (said(md5=MD5), Verdict.ACCEPT),
        (said(md5=MD5, content_type="text/html"), Verdict.ACCEPT),
        (said(md5=OTHER, size=len(BODY)), Verdict.REFUSE),
        (said(md5=MD5, size=5), Verdict.REFUSE),
        (said(md5=MD5, hint=OTHER), Verdict.ACCEPT),
        (said(hint=MD5), Verdict.ACCEPT),
        (said(hint=OTHER), Verdict.CONFIRM),
        (said(), Verdict.ACCEPT),
        (said(framed=False), Verdict.CONFIRM),
        (said(content_type="text/plain"), Verdict.REFUSE),
        (said(content_type="application/json"), Verdict.REFUSE),
        (said(content_type="application/problem+json"), Verdict.REFUSE),
        (said(hint=OTHER, content_type="text/html"), Verdict.REFUSE),
    ],
)
def test_the_verdict_on_a_whole_body(what, verdict):
    assert judge(what, digest_of(), BODY[:64])[0] is verdict


def test_a_body_that_begins_like_a_web_page_needs_a_digest_to_be_believed():
    page = b"<!DOCTYPE html><html>Sign in</html>"
    assert judge(said(), digest_of(page), page)[0] is Verdict.REFUSE
    assert judge(said(md5=digest_of(page).md5), digest_of(page), page)[0] is Verdict.ACCEPT


def test_a_mismatch_with_a_page_in_the_body_says_what_it_looks_like():
    page = b"<html>Sign in</html>"
    assert "sign-in page" in judge(said(md5=MD5), digest_of(page), page)[1]


def test_both_digests_are_those_of_the_library(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(BODY)
    found = digest_file(path)
    assert found == digest_of()
    assert (found.md5, found.sha256, found.size) == (MD5, hashlib.sha256(BODY).hexdigest(), len(BODY))
