"""What storage's headers declare, and what a whole body is worth."""

from __future__ import annotations

import base64
import gzip
import hashlib
import zlib

import google_crc32c
import pytest

from registry_mirror.digests import Hasher, digest_file
from registry_mirror.transfer.declared import Declared, declared
from registry_mirror.transfer.verdicts import BodyVerdict, judge_body, looks_like_text

BODY = b"\x08\x08weights" * 100
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


def b64(raw):
    return base64.b64encode(raw).decode()


SHA1, SHA256, SHA512 = (hashlib.new(name, BODY) for name in ("sha1", "sha256", "sha512"))
CRC32 = zlib.crc32(BODY).to_bytes(4, "big")
CRC32C = google_crc32c.Checksum(BODY).digest()


@pytest.mark.parametrize(
    ("headers", "digests"),
    [
        ({"x-goog-hash": f"crc32c={b64(CRC32C)}"}, {"crc32c": CRC32C.hex()}),
        ({"x-goog-hash": f"crc32c={b64(CRC32C)},md5={B64}"}, {"md5": MD5}),
        ({"x-goog-hash": f"md5={B64}, crc32c={b64(CRC32C)}"}, {"md5": MD5}),
        ({"x-ms-blob-content-md5": B64}, {"md5": MD5}),
        ({"x-amz-checksum-sha256": b64(SHA256.digest())}, {"sha-256": SHA256.hexdigest()}),
        ({"x-amz-checksum-sha1": b64(SHA1.digest())}, {"sha-1": SHA1.hexdigest()}),
        ({"x-amz-checksum-crc32": b64(CRC32)}, {"crc32": CRC32.hex()}),
        ({"x-amz-checksum-crc32c": b64(CRC32C), "x-amz-checksum-type": "FULL_OBJECT"}, {"crc32c": CRC32C.hex()}),
        (
            {"x-amz-checksum-crc32": b64(CRC32), "x-amz-checksum-crc32c": b64(CRC32C)},
            {"crc32": CRC32.hex(), "crc32c": CRC32C.hex()},
        ),
        ({"x-amz-checksum-sha256": b64(SHA256.digest()), "x-amz-checksum-type": "COMPOSITE"}, {}),
        ({"x-amz-checksum-sha256": f"{b64(SHA256.digest())}-3"}, {}),
        ({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, {}),  # nothing that is kept computes it
        ({"repr-digest": f"sha-256=:{b64(SHA256.digest())}:"}, {"sha-256": SHA256.hexdigest()}),
        (
            {"repr-digest": f"sha-512=:{b64(SHA512.digest())}:, sha-256=:{b64(SHA256.digest())}:"},
            {"sha-512": SHA512.hexdigest(), "sha-256": SHA256.hexdigest()},
        ),
        ({"repr-digest": f"unixsum=:AAA=:, md5=:{B64}:;note=1"}, {"md5": MD5}),
        ({"content-digest": f"sha-256=:{b64(SHA256.digest())}:"}, {"sha-256": SHA256.hexdigest()}),
        ({"digest": f"SHA-256={b64(SHA256.digest())},MD5={B64}"}, {"sha-256": SHA256.hexdigest(), "md5": MD5}),
        ({"digest": f"sha={b64(SHA1.digest())}"}, {"sha-1": SHA1.hexdigest()}),
        ({"repr-digest": "sha-256=:not base64:", "digest": "SHA-256=", "x-amz-checksum-sha256": "AAAA"}, {}),
        ({"repr-digest": "sha-256=:" + "A" * 100_000}, {}),
        ({"last-modified": f"Mon, 02 Mar {'9' * 20} 09:30:00 GMT", "date": "Mon, 02 Mar 2026 09:30:00 GMT"}, {}),
        ({"content-length": "9" * 5000, "x-goog-stored-content-length": "9" * 5000}, {}),
    ],
)
def test_every_digest_that_storage_declares_binds(headers, digests):
    assert declared(headers).digests == digests


CONTRADICTIONS = [
    {"x-goog-hash": f"md5={B64}", "content-md5": b64(b"0" * 16)},
    {"x-goog-hash": f"md5={B64}, md5={b64(b'0' * 16)}"},
    {"repr-digest": f"sha-256=:{b64(SHA256.digest())}:", "content-digest": f"sha-256=:{b64(b'0' * 32)}:"},
]


@pytest.mark.parametrize("headers", [*CONTRADICTIONS, *(dict(reversed(each.items())) for each in CONTRADICTIONS)])
def test_of_two_digests_that_contradict_each_other_both_bind(headers):
    assert judge_body(declared(headers), digest_of(), BODY)[0] is BodyVerdict.REFUSE


def test_of_an_object_that_is_unpacked_on_the_way_the_digests_of_the_message_bind():
    stored = {"x-goog-stored-content-encoding": "gzip", "x-goog-hash": f"md5={b64(b'0' * 16)}"}
    assert judge_body(declared({**stored, "content-md5": B64}), digest_of(), BODY)[0] is BodyVerdict.ACCEPT
    assert judge_body(declared({**stored, "content-md5": b64(b"1" * 16)}), digest_of(), BODY)[0] is BodyVerdict.REFUSE


def test_in_a_part_only_what_is_said_of_the_whole_object_counts():
    headers = {"content-md5": B64, "content-digest": f"md5=:{B64}:", "x-amz-checksum-sha256": b64(SHA256.digest())}
    assert declared(headers, part=True).digests == {}
    assert declared({**headers, "repr-digest": f"md5=:{B64}:"}, part=True).digests == {"md5": MD5}


def test_the_length_of_what_is_stored_outranks_that_of_what_is_sent():
    assert declared({"content-length": "5", "x-goog-stored-content-length": "9"}).size == 9
    stored = {"x-goog-stored-content-length": "9", "x-goog-stored-content-encoding": "gzip"}
    assert declared({"content-length": "30", **stored}).size is None
    assert declared({"content-length": "9", **stored, "x-goog-stored-content-encoding": "identity"}).size == 9


@pytest.mark.parametrize(
    ("headers", "coding", "unpacked"),
    [
        ({}, "", False),
        ({"content-encoding": "gzip"}, "gzip", False),
        ({"content-encoding": "aws-chunked, gzip"}, "gzip", False),
        ({"content-encoding": "aws-chunked"}, "", False),
        ({"content-encoding": "gzip", "x-goog-stored-content-encoding": "gzip"}, "gzip", False),
        ({"x-goog-stored-content-encoding": "gzip"}, "gzip", True),
        ({"x-goog-stored-content-encoding": "identity"}, "", False),
    ],
)
def test_headers_tell_which_bytes_a_digest_may_be_of(headers, coding, unpacked):
    found = declared(headers)
    assert (found.coding, found.unpacked) == (coding, unpacked)


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
        "framed": True,
    }
    return Declared(**(defaults | values))


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        (said(md5=MD5, size=len(BODY)), BodyVerdict.ACCEPT),
        (said(md5=MD5), BodyVerdict.ACCEPT),
        (said(md5=OTHER, size=len(BODY)), BodyVerdict.REFUSE),
        (said(md5=MD5, size=5), BodyVerdict.REFUSE),
        (said(md5=MD5, hint=OTHER), BodyVerdict.ACCEPT),
        (said(hint=MD5), BodyVerdict.ACCEPT),
        (said(hint=OTHER), BodyVerdict.CONFIRM),
        (said(), BodyVerdict.ACCEPT),
        (said(framed=False), BodyVerdict.CONFIRM),
        (said(others={"sha-256": SHA256.hexdigest()}), BodyVerdict.ACCEPT),
        (said(others={"sha-256": "0" * 64}), BodyVerdict.REFUSE),
        (said(md5=MD5, others={"sha-256": "0" * 64}), BodyVerdict.REFUSE),
        (said(hint=MD5, others={"sha-256": "0" * 64}), BodyVerdict.REFUSE),
    ],
)
def test_the_verdict_on_a_whole_body(what, verdict):
    assert judge_body(what, digest_of(), BODY[:64])[0] is verdict


COMPUTED = {"sha-1": SHA1.hexdigest(), "sha-512": SHA512.hexdigest(), "crc32": CRC32.hex(), "crc32c": CRC32C.hex()}


@pytest.mark.parametrize(("name", "value"), COMPUTED.items())
def test_a_digest_of_another_kind_is_computed_where_it_is_declared(name, value):
    hasher = Hasher([name])
    for at in range(0, len(BODY), 7):
        hasher.update(memoryview(bytearray(BODY[at : at + 7])))
    assert judge_body(said(others={name: value}), hasher.digest(), BODY)[0] is BodyVerdict.ACCEPT
    assert judge_body(said(others={name: "0" * len(value)}), hasher.digest(), BODY)[0] is BodyVerdict.REFUSE


PACKED = gzip.compress(BODY)
PACKED_MD5 = hashlib.md5(PACKED, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("what", "packed", "verdict"),
    [
        ({"md5": MD5}, True, BodyVerdict.ACCEPT),
        ({"md5": PACKED_MD5}, True, BodyVerdict.ACCEPT),
        ({"hint": PACKED_MD5}, True, BodyVerdict.ACCEPT),
        ({"others": {"sha-256": hashlib.sha256(PACKED).hexdigest()}}, True, BodyVerdict.ACCEPT),
        ({"md5": MD5, "others": {"sha-256": hashlib.sha256(PACKED).hexdigest()}}, True, BodyVerdict.ACCEPT),
        ({"md5": OTHER}, True, BodyVerdict.REFUSE),
        ({"md5": PACKED_MD5}, False, BodyVerdict.REFUSE),
        ({"md5": PACKED_MD5, "unpacked": True}, False, BodyVerdict.CONFIRM),
        ({"md5": MD5, "unpacked": True}, False, BodyVerdict.ACCEPT),
        ({"unpacked": True}, False, BodyVerdict.ACCEPT),
    ],
)
def test_a_digest_may_be_of_the_compressed_bytes_or_of_the_file(what, packed, verdict):
    came = digest_of(PACKED if packed else BODY)
    assert judge_body(said(coding="gzip", **what), digest_of(), BODY, came)[0] is verdict


TEXTS = {
    "a gateway's words": b"The file you requested is being scanned for viruses. Please wait...",
    "one word": b"denied",
    "a log with colours": b"\x1b[31merror\x1b[0m: try again\r\n\tlater\f",
    "a web page": b"<!DOCTYPE html><html>Sign in</html>",
    "JSON": b' {"error": "quota"}',
    "UTF-8": "Bitte warten: wird geprüft / 請稍候".encode(),
    "UTF-8 that is cut": "a" * 90 + "é",
    "Latin-1": "La résolution a échoué, réessayez".encode("latin-1"),
    "UTF-16": "Please wait".encode("utf-16"),
    "UTF-16 without its mark": "Please wait".encode("utf-16-le"),
    "UTF-16 the other way round": "Please wait".encode("utf-16-be"),
    "Cyrillic of old": ("Файл проверяется. " * 5).encode("cp1251"),
    "Chinese of old": ("请稍候正在检查文件。" * 5).encode("gbk"),
    "a long one": b"wait " * 1000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_does_not_pass_for_weights_unless_a_digest_says_so(text):
    text = text.encode()[:-1] if isinstance(text, str) else text
    assert judge_body(said(), digest_of(text), text[:4096])[0] is BodyVerdict.REFUSE
    assert judge_body(said(hint=OTHER), digest_of(text), text[:4096])[0] is BodyVerdict.REFUSE
    assert judge_body(said(framed=False), digest_of(text), text[:4096])[0] is BodyVerdict.REFUSE
    assert judge_body(said(md5=digest_of(text).md5), digest_of(text), text[:4096])[0] is BodyVerdict.ACCEPT


BINARIES = {
    "ONNX": b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:",
    "a zip, as PyTorch writes it": b"PK\x03\x04\x00\x00\x08\x08\x00\x00model/data.pkl",
    "a pickle": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n",
    "safetensors": (64).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  ',
    "a flatbuffer": b"\x1c\x00\x00\x00ET12\x00\x00\x0e\x00",
    "half a UTF-16 mark": b"\xff\xfe\x00\x00\x01\x02",
    "a few bytes of no encoding": bytes(range(128, 180)),
}


def test_an_error_that_comes_as_a_success_is_told_in_its_own_words():
    body = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your rate</Message></Error>"
    assert judge_body(said(), digest_of(body), body)[1] == "the body is an error: SlowDown: Please reduce your rate"


@pytest.mark.parametrize("data", BINARIES.values(), ids=BINARIES)
def test_a_binary_is_no_text(data):
    assert not looks_like_text(data)
    assert judge_body(said(), digest_of(data), data)[0] is BodyVerdict.ACCEPT


def test_a_body_that_begins_like_a_web_page_needs_a_digest_to_be_believed():
    page = b"<!DOCTYPE html><html>Sign in</html>"
    assert judge_body(said(), digest_of(page), page)[0] is BodyVerdict.REFUSE
    assert judge_body(said(md5=digest_of(page).md5), digest_of(page), page)[0] is BodyVerdict.ACCEPT


def test_a_mismatch_with_a_page_in_the_body_says_what_it_looks_like():
    page = b"<html>Sign in</html>"
    assert "sign-in page" in judge_body(said(md5=MD5), digest_of(page), page)[1]


def test_both_digests_are_those_of_the_library(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(BODY)
    found = digest_file(path)
    assert found == digest_of()
    assert (found.md5, found.sha256, found.size) == (MD5, hashlib.sha256(BODY).hexdigest(), len(BODY))
