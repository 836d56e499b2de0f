"""What storage says with an answer: its status, its labels, its digests, its reasons. The bytes outrank all of them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from dataclasses import replace
from urllib.parse import quote

import google_crc32c
import pytest
from support.counting import CountingUpstream
from support.documents import make_document, make_model, weights_bytes
from support.syncing import files_under, run_sync
from support.upstream import Answer, Chunked, CutAfter, FaultyUpstream, HangUp, Headers, error, no_digest

from registry_mirror import Client, errors
from registry_mirror.mirror import Mirror
from registry_mirror.store import parts as incoming
from registry_mirror.sync.record import RunOutcome
from registry_mirror.transfer.retry import RetryPolicy

SIZE = 600_000
DATA = weights_bytes(1, SIZE)
ID = make_document(1)["id"]
OCTETS = (("Content-Type", "application/octet-stream"),)
PLAIN = {"ETag": '"v1"', "x-goog-hash": None, "Content-MD5": None}


@pytest.fixture
def upstream():
    with CountingUpstream([make_model(1, data=DATA)]) as running:
        yield running


def download(upstream, tmp_path, **options):
    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0), **options) as client:
        return client.models.download("model-00001", tmp_path / "m").read_bytes()


def b64(raw):
    return base64.b64encode(raw).decode()


def md5(data):
    return hashlib.md5(data, usedforsecurity=False)


def md5_of(data):
    return f"md5={b64(md5(data).digest())}"


def flipped(data, at=100):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def served(data, **headers):
    """Storage that gives these bytes to everybody."""
    return Answer(200, data, (*OCTETS, *((name.replace("_", "-"), value) for name, value in headers.items())))


# -- a status says nothing of the bytes -------------------------------------------------------------------------------


class OfRanges:
    """A fault of the answers to requests for a rest alone."""

    def __init__(self, fault):
        self.fault = fault

    def __call__(self, request, answer):
        return self.fault(request, answer) if "range" in request.headers else answer()


def slice_with_200(request, answer):
    return replace(answer(), status=200)


def unnamed_slice_with_200(request, answer):
    return replace(answer().with_headers({"Content-Range": None}), status=200)


def unframed_slice_with_200(request, answer):
    return Chunked()(request, lambda: unnamed_slice_with_200(request, answer))


def beginning_with_200(request, answer):
    start = int(request.headers["range"][6:].split("-")[0])
    return replace(answer().with_headers({"Content-Range": None}), status=200, body=DATA[: SIZE - start], length=None)


SLICES = {
    "that names its range": slice_with_200,
    "that does not name it": unnamed_slice_with_200,
    "without a length": unframed_slice_with_200,
    "from the beginning": beginning_with_200,
}


@pytest.mark.parametrize("fault", SLICES.values(), ids=SLICES)
def test_a_slice_with_200_does_not_pass_for_the_whole(upstream, tmp_path, fault):
    upstream.inject(Headers(PLAIN), CutAfter(200_000), kind="weights")
    upstream.inject(OfRanges(lambda *given: Headers(PLAIN)(given[0], lambda: fault(*given))), kind="weights")
    upstream.inject(Headers(PLAIN), kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA


PARTS = {
    "206 and nothing more": lambda request, answer: replace(answer(), status=206),
    "206 with a part": Answer(206, DATA[:1000], (*OCTETS, ("Content-Range", f"bytes 0-999/{SIZE}"))),
    "200 with a part": Answer(200, DATA[:1000], (*OCTETS, ("Content-Range", f"bytes 0-999/{SIZE}"))),
}


@pytest.mark.parametrize("fault", PARTS.values(), ids=PARTS)
def test_a_part_that_nobody_asked_for_does_not_pass_for_the_whole(upstream, tmp_path, fault):
    upstream.inject(no_digest(), fault, kind="weights")
    assert download(upstream, tmp_path) == DATA
    upstream.inject(no_digest(), fault, kind="weights", times=None)
    with pytest.raises(errors.TransferError, match=r"part|whole object was asked for"):
        download(upstream, tmp_path)


def test_the_whole_with_206_is_the_whole(upstream, tmp_path):
    said = Headers({"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"})
    upstream.inject(lambda request, answer: replace(said(request, answer), status=206), kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert upstream.requests.storage == 1


def test_a_length_that_storage_keeps_for_itself_shows_a_cut_by_a_proxy(upstream, tmp_path):
    upstream.inject(served(DATA[:1000], x_goog_stored_content_length=str(SIZE)), kind="weights")
    assert download(upstream, tmp_path) == DATA


# -- a state that every retry repeats ---------------------------------------------------------------------------------

REFUSALS = {
    **{str(status): Answer(status) for status in (304, 400, 401, 403, 404, 405, 410, 412, 500, 501, 503, 520)},
    "416": Answer(416),
    "no answer": HangUp(),
    "a page": Answer(206, b"<html>", (("Content-Type", "text/html"),)),
}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
def test_where_ranges_are_refused_in_whatever_way_the_whole_comes_in_the_next_run(upstream, root, fault):
    upstream.inject(CutAfter(300_000), kind="weights")
    upstream.inject(OfRanges(fault), kind="weights", times=None)
    outcomes = [run_sync(upstream, root).record.outcome for _ in range(2)]
    assert outcomes[1] is RunOutcome.OK
    assert Mirror(root).models.path("model-00001").read_bytes() == DATA
    assert files_under(root / "incoming") == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_of_the_range_alone_costs_no_try(upstream, tmp_path, status):
    upstream.inject(CutAfter(300_000), kind="weights")
    upstream.inject(OfRanges(Answer(status)), kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, "bytes=300000-", None]


def test_a_beginning_outlives_a_storage_that_refuses_everything(upstream, root):
    upstream.inject(CutAfter(300_000), kind="weights")
    upstream.inject(Answer(403), kind="weights", times=None)
    assert run_sync(upstream, root).record.outcome is RunOutcome.PARTIAL
    assert run_sync(upstream, root).record.outcome is RunOutcome.PARTIAL
    upstream.heal()
    upstream.requests.clear()
    assert run_sync(upstream, root).record.outcome is RunOutcome.OK
    assert [start for start, _ in upstream.ranges()] == ["bytes=300000-"]


def test_a_storage_that_refuses_everything_is_asked_a_bounded_number_of_times(upstream, tmp_path):
    upstream.inject(CutAfter(300_000), kind="weights")
    upstream.inject(Answer(403), kind="weights", times=None)
    with pytest.raises(errors.TransferError, match="HTTP 403"):
        download(upstream, tmp_path)
    assert upstream.requests.storage <= 1 + 2 * 3


# -- declared digests -------------------------------------------------------------------------------------------------

SHA256 = b64(hashlib.sha256(DATA).digest())
DIGESTS = {
    "crc32c of a composite object": {"x-goog-hash": f"crc32c={b64(google_crc32c.Checksum(DATA).digest())}"},
    "SHA-256 of S3": {"x-amz-checksum-sha256": SHA256},
    "crc32c of S3": {"x-amz-checksum-crc32c": b64(google_crc32c.Checksum(DATA).digest())},
    "Repr-Digest": {"Repr-Digest": f"sha-512=:{b64(hashlib.sha512(DATA).digest())}:"},
    "Content-Digest": {"Content-Digest": f"sha-256=:{SHA256}:"},
    "Digest": {"Digest": f"SHA-256={SHA256}"},
    "MD5 of Azure": {"x-ms-blob-content-md5": b64(md5(DATA).digest())},
}


@pytest.mark.parametrize("headers", DIGESTS.values(), ids=DIGESTS)
@pytest.mark.parametrize("etag", ['"v1"', '"0123456789abcdef0123456789abcdef"'], ids=["an ETag", "an ETag like an MD5"])
def test_wrong_bytes_are_refused_by_whichever_digest_storage_declares(upstream, tmp_path, headers, etag):
    said = {**PLAIN, "ETag": etag, **headers}
    wrong = served(flipped(DATA), **{name: value for name, value in said.items() if value})
    upstream.inject(wrong, kind="weights")
    upstream.inject(Headers(said), kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA  # the second fetch
    upstream.heal()
    upstream.inject(wrong, kind="weights", times=None)
    with pytest.raises(errors.IntegrityError, match="storage declared"):
        download(upstream, tmp_path)
    assert (tmp_path / "m").read_bytes() == DATA


@pytest.mark.parametrize("headers", DIGESTS.values(), ids=DIGESTS)
def test_a_cut_body_goes_on_in_the_next_run_under_any_digest_and_is_checked_by_it(upstream, root, headers):
    upstream.inject(Headers({**PLAIN, "ETag": None, **headers}), CutAfter(300_000), kind="weights")
    upstream.inject(error(503), kind="weights", times=3)
    upstream.inject(Headers({**PLAIN, "ETag": None, **headers}), kind="weights", times=None)
    assert run_sync(upstream, root).record.outcome is RunOutcome.PARTIAL
    (part,) = [path for path in (root / "incoming").iterdir() if path.name.endswith(".part")]
    spoiled = flipped(part.read_bytes(), 1000)
    upstream.requests.clear()
    part.write_bytes(spoiled)
    assert run_sync(upstream, root).record.outcome is RunOutcome.OK
    assert Mirror(root).models.path("model-00001").read_bytes() == DATA
    assert [start for start, _ in upstream.ranges()] == ["bytes=300000-", None]


def test_a_digest_that_comes_with_the_rest_binds_too(upstream, tmp_path):
    upstream.inject(
        Headers(PLAIN), lambda *given: CutAfter(300_000)(given[0], lambda: flip(given[1]())), kind="weights"
    )
    upstream.inject(Headers({"ETag": '"v1"'}), OfRanges(of_v1), kind="weights")
    assert download(upstream, tmp_path) == DATA


def flip(response):
    return replace(response, body=flipped(DATA), offset=0, length=None)


def of_v1(request, answer):
    """The true rest, to a condition that the demo's storage does not know."""
    return Answer(206, DATA[300_000:], (*OCTETS, ("Content-Range", f"bytes 300000-{SIZE - 1}/{SIZE}"),
                                        ("x-goog-hash", md5_of(DATA))))(request, answer)  # fmt: skip


def test_weights_are_recognised_by_a_sha256_that_storage_declares(upstream, root):
    upstream.inject(Headers({**PLAIN, "x-amz-checksum-sha256": SHA256}), kind="weights", times=None)
    assert run_sync(upstream, root).record.tally.fetched.files == 1
    upstream.update(ID, updated_at="2026-06-01T00:00:00Z")
    assert run_sync(upstream, root).record.tally.reused.files == 1


# -- encodings --------------------------------------------------------------------------------------------------------

PACKED = gzip.compress(DATA, mtime=0)
STORED = {"x-goog-stored-content-encoding": "gzip", "x-goog-stored-content-length": str(len(PACKED))}
ENCODED = {
    "gzip, digest of what is stored": served(PACKED, Content_Encoding="gzip", x_goog_hash=md5_of(PACKED)),
    "gzip, digest of the file": served(PACKED, Content_Encoding="gzip", x_goog_hash=md5_of(DATA)),
    "gzip, no digest": served(PACKED, Content_Encoding="gzip"),
    "gzip, ETag of what is stored": served(PACKED, Content_Encoding="gzip", ETag=f'"{md5(PACKED).hexdigest()}"'),
    "stored as gzip, label lost": served(PACKED, x_goog_hash=md5_of(PACKED), **STORED),
    "called gzip, sent plain": served(DATA, Content_Encoding="gzip", x_goog_hash=md5_of(DATA)),
    "called deflate, sent plain": served(DATA, Content_Encoding="deflate", x_goog_hash=md5_of(DATA)),
    "aws-chunked": served(DATA, Content_Encoding="aws-chunked", x_goog_hash=md5_of(DATA)),
    "utf-8, no digest": served(DATA, Content_Encoding="utf-8"),
    "gzip twice": served(gzip.compress(PACKED), Content_Encoding="gzip, gzip", x_goog_hash=md5_of(DATA)),
}


@pytest.mark.parametrize("fault", ENCODED.values(), ids=ENCODED)
def test_what_is_published_is_the_decoded_file_under_its_own_md5(upstream, root, fault):
    upstream.inject(fault, kind="weights", times=None)
    assert run_sync(upstream, root).record.outcome is RunOutcome.OK
    found = Mirror(root).models.weights("model-00001", verify=True)
    assert found.path.read_bytes() == DATA
    assert found.entry.md5 == md5(DATA).hexdigest()


def gunzipped(flip_at=None):
    """An object that is stored as gzip and unpacked on the way, unless the client takes gzip."""

    def fault(request, answer):
        said = {**STORED, "x-goog-hash": md5_of(PACKED), "ETag": '"v1"'}
        if "gzip" in request.headers.get("accept-encoding", ""):
            packed = PACKED if flip_at is None else flipped(PACKED, flip_at)
            return served(packed, Content_Encoding="gzip", **said)(request, answer)
        return served(DATA, **said)(request, answer)

    return fault


def test_an_object_that_is_unpacked_on_the_way_is_asked_for_as_it_is_stored_and_checked(upstream, tmp_path):
    upstream.inject(gunzipped(), kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert upstream.requests.storage == 2
    upstream.heal()
    upstream.inject(gunzipped(flip_at=5), kind="weights", times=None)  # in the header: it unpacks all the same
    with pytest.raises(errors.IntegrityError):
        download(upstream, tmp_path)


def test_one_that_cannot_be_had_as_it_is_stored_has_to_come_twice_the_same(upstream, tmp_path):
    said = {**STORED, "x_goog_hash": md5_of(PACKED)}
    upstream.inject(served(DATA, **said), kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    upstream.heal()
    bodies, lock = iter(range(10, 99)), threading.Lock()

    def other_each_time(request, answer):
        with lock:
            return served(flipped(DATA, next(bodies)), **said)(request, answer)

    upstream.inject(other_each_time, kind="weights", times=None)
    with pytest.raises(errors.IntegrityError):
        download(upstream, tmp_path)


def test_a_compressed_body_that_is_damaged_is_refused(upstream, tmp_path):
    upstream.inject(served(flipped(PACKED, 5), Content_Encoding="gzip", x_goog_hash=md5_of(PACKED)),
                    kind="weights", times=None)  # fmt: skip
    with pytest.raises(errors.TransferError):
        download(upstream, tmp_path)


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["text/plain", "text/html", "application/json", "application/xml", ""])
def test_no_label_keeps_a_binary_out(upstream, tmp_path, label):
    upstream.inject(no_digest(), Headers({"Content-Type": label or None}), kind="weights")
    assert download(upstream, tmp_path) == DATA


@pytest.mark.parametrize("label", ["application/octet-stream", "application/x-onnx", "text/plain"])
def test_no_label_lets_a_text_in(upstream, tmp_path, label):
    patience = b"The file you asked for is being prepared. Come back in a minute.\n"
    upstream.inject(Answer(200, patience, (("Content-Type", label),)), kind="weights", times=None)
    with pytest.raises(errors.IntegrityError, match="looks like a text"):
        download(upstream, tmp_path)


# -- evidence ---------------------------------------------------------------------------------------------------------

NEW = weights_bytes(2, SIZE)


def test_the_same_etag_and_size_are_no_proof_when_the_row_has_changed(upstream, root):
    upstream.inject(Headers(PLAIN), kind="weights", times=None)
    run_sync(upstream, root)
    upstream.heal()
    upstream.update(ID, updated_at="2026-06-01T00:00:00Z")
    upstream.inject(served(NEW, ETag='"v1"'), kind="weights", times=None)
    assert run_sync(upstream, root).record.tally.fetched.files == 1
    assert Mirror(root).models.path("model-00001").read_bytes() == NEW


EVIDENCE = {
    "Last-Modified": ("Mon, 02 Mar 2026 09:30:00 GMT", "Tue, 03 Mar 2026 09:30:00 GMT"),
    "x-goog-generation": ("1", "2"),
}


@pytest.mark.parametrize(("header", "values"), EVIDENCE.items(), ids=EVIDENCE)
def test_the_same_etag_joins_no_rest_when_something_else_says_that_the_object_has_changed(
    upstream, tmp_path, header, values
):
    before, now = values
    upstream.inject(Headers({**PLAIN, header: before}), CutAfter(300_000), kind="weights")
    rest = (*OCTETS, ("ETag", '"v1"'), (header, now), ("Content-Range", f"bytes 300000-{SIZE - 1}/{SIZE}"))
    upstream.inject(Answer(206, NEW[300_000:], rest), kind="weights")
    upstream.inject(served(NEW, ETag='"v1"', **{header: now}), kind="weights", times=None)
    assert download(upstream, tmp_path) == NEW


# -- reasons ----------------------------------------------------------------------------------------------------------


def xml(status, code, message="no more words"):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, body.encode(), (("Content-Type", "application/xml"),))


EXPIRED = {
    "Google's": xml(400, "ExpiredToken", "The provided token has expired."),
    "Amazon's": xml(403, "AccessDenied", "Request has expired"),
    "Azure's": xml(403, "AuthenticationFailed", "Signature not valid in the specified time frame"),
    "one that is gone": xml(410, "RequestExpired"),
}


@pytest.mark.parametrize("fault", EXPIRED.values(), ids=EXPIRED)
def test_an_expired_address_is_asked_for_anew_whatever_its_status(upstream, tmp_path, fault):
    upstream.inject(fault, kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert upstream.requests.storage == 2


def test_an_expired_address_of_a_rest_does_not_count_against_ranges(upstream, tmp_path):
    upstream.inject(CutAfter(300_000), kind="weights")
    upstream.inject(EXPIRED["Google's"], kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, "bytes=300000-", "bytes=300000-"]


REASONS = {
    "XML": (xml(403, "InvalidObjectState", "the object&apos;s class"), "InvalidObjectState: the object's class"),
    "JSON": (Answer(403, b'{"error": {"code": 403, "message": "project is closed"}}'), "project is closed"),
    "XML that is cut": (Answer(403, b"<Error><Code>ProjectAccountProblem</Code><Mess"), "ProjectAccountProblem"),
    "XML that is compressed": (
        Answer(403, gzip.compress(b"<Error><Code>Odd</Code></Error>"), (("Content-Encoding", "gzip"),)), "(Odd)"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "words"), REASONS.values(), ids=REASONS)
def test_a_failure_carries_the_reason_that_storage_gives(upstream, root, fault, words):
    upstream.inject(fault, kind="weights", times=None)
    (failed,) = run_sync(upstream, root).record.tally.failed
    assert words in failed.error
    assert "HTTP 403" in failed.error


def test_a_reason_is_bounded_and_has_nothing_of_the_signed_address_in_it(upstream, root):
    def quoting(request, answer):
        signed = request.query["token"]
        return xml(403, "AccessDenied", f"{signed} \x1b[31m {'x' * 230} {signed} " + "x" * 100_000)(request, answer)

    upstream.inject(quoting, kind="weights", times=None)
    (failed,) = run_sync(upstream, root).record.tally.failed
    tokens = {request.query["token"] for request in upstream.requests.entries if request.origin == "storage"}
    assert tokens
    assert "AccessDenied" in failed.error
    assert not any(token[:8] in failed.error for token in tokens)
    assert len(failed.error) < 1000
    assert failed.error.isprintable()


def test_an_error_that_comes_as_a_success_has_nothing_of_the_signed_address_in_its_reason(upstream, root):
    def quoting(request, answer):
        return xml(200, "AccessDenied", f"{request.query['token']} is used up")(request, answer)

    upstream.inject(quoting, kind="weights", times=None)
    (failed,) = run_sync(upstream, root).record.tally.failed
    assert "the body is an error: AccessDenied: **** is used up" in failed.error


ESCAPED = {
    "XML": lambda text: f"<Error><Code>AccessDenied</Code><Message>{text.replace('+', '&#x2B;')}</Message></Error>",
    "JSON": lambda text: json.dumps({"error": {"message": text}}).replace("+", "\\u002B").replace("/", "\\/"),
}


@pytest.mark.parametrize("escaped", ESCAPED.values(), ids=ESCAPED)
def test_a_signature_is_known_in_every_spelling(escaped):
    signature = "AbC+dEf/ghIjKlMnOp="
    body = escaped(f"{signature} is wrong").encode()
    with FaultyUpstream([make_model(1)]) as upstream, Client(upstream.api_key, upstream.base_url) as client:
        upstream.inject(Answer(403, body), kind="weights")
        with pytest.raises(errors.TransferError) as caught:
            client.storage.look(
                "model 'm'", f"{client.models.api.download_url(ID, 'onnx')}&sig={quote(signature, safe='')}"
            )
    assert "**** is wrong" in str(caught.value)
    assert "AbC" not in str(caught.value)


def test_a_part_that_does_not_say_of_which_object_it_is_is_not_joined(upstream, tmp_path):
    """The storage knows neither If-Range nor dates of parts, and the object has changed."""
    old = {**dict.fromkeys(("ETag", "x-goog-hash", "Content-MD5")), "Last-Modified": "Mon, 02 Mar 2026 09:30:00 GMT"}
    upstream.inject(Headers(old), CutAfter(300_000), kind="weights")
    rest = (*OCTETS, ("Content-Range", f"bytes 300000-{SIZE - 1}/{SIZE}"))
    upstream.inject(OfRanges(Answer(206, NEW[300_000:], rest)), kind="weights")
    upstream.inject(served(NEW), kind="weights", times=None)
    assert download(upstream, tmp_path) == NEW
    assert "bytes=300000-" in [start for start, _ in upstream.ranges()]


def test_a_part_without_use_is_not_left_behind(upstream, root):
    """What is kept for a later run is told by a digest; here none is."""
    upstream.inject(Headers(PLAIN), CutAfter(300_000), kind="weights")
    upstream.inject(error(503), kind="weights", times=None)
    run_sync(upstream, root)
    assert incoming.incoming_files(root / "incoming") == []
