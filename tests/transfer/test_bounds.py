"""Answers that are larger than any makes sense are refused before they have filled memory or the disk."""

from __future__ import annotations

import gzip
import itertools
import re
import resource
import subprocess
import sys
import zlib
from dataclasses import replace

import pytest
from support.documents import many_models, weights_bytes
from support.syncing import files_under, run_sync
from support.upstream import Answer, FaultyUpstream, Gzipped, Headers, error

from registry_mirror import Client, errors
from registry_mirror.sources.api import session
from registry_mirror.sources.api.session import ANSWER_LIMIT
from registry_mirror.transfer.inflate import ALLOWANCE, InflateError, inflate, is_bomb
from registry_mirror.transfer.responses import TooMuchError, first_bytes
from registry_mirror.transfer.retry import RetryPolicy

MIB = 1 << 20
JSON = ("Content-Type", "application/json")
ZIPPED = ("Content-Encoding", "gzip")


UNPACKED = 128 * MIB


@pytest.fixture(scope="module")
def bomb():
    """128 MiB of zeros, as gzip."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = bytes(MIB)
    return b"".join([packer.compress(block) for _ in range(UNPACKED // MIB)] + [packer.flush()])


def client_of(upstream):
    return Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0))


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "identity", ""])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_compressed_body_is_unpacked_in_small_pieces(encoding, step):
    data = weights_bytes(1, 3000) + bytes(2 * MIB)
    packed = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(data)
    step = max(step, len(packed) // 5000)
    pieces = list(inflate(encoding, (packed[at : at + step] for at in range(0, len(packed), step))))
    assert b"".join(pieces) == data
    assert encoding in ("identity", "") or max(map(len, pieces)) <= 256 * 1024


def test_a_gzip_body_of_several_members_is_one():
    assert b"".join(inflate("gzip", [gzip.compress(b"one"), gzip.compress(b"two")])) == b"onetwo"
    assert b"".join(inflate("gzip", [gzip.compress(b"one") + gzip.compress(b"two")])) == b"onetwo"
    assert b"".join(inflate("gzip", [])) == b""


REFUSED = {"br": b"abc", "BR, gzip": b"abc", "zstd": b"\x28\xb5\x2f\xfd\0", "compress": b"\x1f\x9d\x90"}


@pytest.mark.parametrize(("encoding", "data"), REFUSED.items())
def test_a_compression_that_was_not_asked_for_is_refused(encoding, data):
    with pytest.raises(InflateError, match="not asked for"):
        list(inflate(encoding, [data]))


LIES = ["gzip", "deflate", "gzip, gzip", "zstd", "compress", "aws-chunked", "utf-8", "binary", "none", "x" * 5000]


@pytest.mark.parametrize("encoding", LIES)
@pytest.mark.parametrize("data", [weights_bytes(1, 3000), b"a", b""], ids=["weights", "a byte", "nothing"])
def test_a_body_that_does_not_begin_as_its_label_says_goes_through_as_it_is(encoding, data):
    assert b"".join(inflate(encoding, [data[:1], data[1:]])) == data


def test_a_body_that_is_said_to_be_compressed_without_end_is_refused():
    with pytest.raises(InflateError, match="said to be compressed 2000 times"):
        list(inflate(",".join(["gzip"] * 2000), [b"abc"]))


def test_zeros_behind_a_gzip_body_are_padding():
    assert b"".join(inflate("gzip", [gzip.compress(b"one") + bytes(10), bytes(10_000)])) == b"one"


def test_what_is_compressed_twice_is_unpacked_twice():
    data = weights_bytes(1, 3000)
    assert b"".join(inflate("gzip, deflate", [zlib.compress(gzip.compress(data))])) == data
    assert b"".join(inflate("aws-chunked,gzip", [gzip.compress(data)])) == data


def test_deflate_without_a_header_around_it_is_read_too():
    data = weights_bytes(1, 3000)
    packer = zlib.compressobj(wbits=-15)
    assert b"".join(inflate("deflate", [packer.compress(data) + packer.flush()])) == data


DAMAGED = {
    "damaged": gzip.compress(b"x" * 1000)[:10] + b"no deflate at all",
    "cut": gzip.compress(b"x" * 1000)[:-9],
    "followed by something": gzip.compress(b"x") + b"trailing",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_or_cut_compressed_body_is_refused(data):
    with pytest.raises(InflateError):
        list(inflate("gzip", [data]))


def test_a_bomb_is_refused_when_it_has_unpacked_to_a_hundredfold(bomb):
    taken = 0
    with pytest.raises(InflateError, match="unpack to"):  # noqa: PT012 - what came before counts
        for piece in inflate("gzip", (bomb[at : at + 1000] for at in range(0, len(bomb), 1000))):
            taken += len(piece)
    assert taken <= ALLOWANCE + 100 * len(bomb)
    assert not is_bomb(10, ALLOWANCE)
    assert not is_bomb(ALLOWANCE, 0)
    assert is_bomb(10, ALLOWANCE + 1001)


def test_a_body_that_unpacks_to_nothing_for_ever_is_refused_and_seen_to_bring_nothing():
    nothing = b"\x00\x00\x00\xff\xff" * 100_000  # empty blocks of deflate
    body, came = itertools.chain([gzip.compress(b"")[:10]], itertools.repeat(nothing)), 0
    with pytest.raises(InflateError, match="unpack to 0"):  # noqa: PT012 - what came before counts
        for piece in inflate("gzip", body):
            assert piece == b""
            came += 1
    assert came >= ALLOWANCE // len(nothing)


def test_the_first_bytes_of_an_answer_are_read_or_it_is_refused():
    def pieces():
        while True:
            yield bytes(1000)

    assert first_bytes(pieces(), 2500, whole=False) == bytes(2500)
    with pytest.raises(TooMuchError, match="larger than"):
        first_bytes(pieces(), 2500, whole=True)
    assert first_bytes([b"a", b"b"], 2, whole=True) == b"ab"


def endless(request, answer):
    """A page that never ends."""
    block = b'{"data": [' + b" " * 65536
    return replace(answer(), body=iter(lambda: block, None), length=None, offset=0)


TOO_LARGE = {
    "a page without an end": endless,
    "an error without an end": lambda request, answer: replace(endless(request, answer), status=500),
}


@pytest.mark.parametrize("kind", ["a bomb", *TOO_LARGE])
def test_an_answer_of_the_api_that_is_too_large_is_an_error_and_costs_little_memory(kind, bomb):
    fault = TOO_LARGE.get(kind) or Answer(200, bomb, (JSON, ZIPPED))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with FaultyUpstream(many_models(1)) as upstream, client_of(upstream) as client:
        upstream.inject(fault, kind="list", times=None)
        with pytest.raises(errors.ApiError) as caught:
            client.models.list()
    assert re.search("list models: .*(larger than|unpack to|HTTP 500)", str(caught.value))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 3 * ANSWER_LIMIT


def test_a_page_that_is_too_large_is_asked_for_in_smaller_pieces_and_a_giant_fails_alone(root, monkeypatch):
    monkeypatch.setattr(session, "ANSWER_LIMIT", 20_000)
    models = many_models(60)
    models[7] = replace(models[7], document=models[7].document | {"readme": "x" * 30_000})
    with FaultyUpstream(models) as upstream:
        finished = run_sync(upstream, root)
        limits = [entry.query["limit"] for entry in upstream.requests.entries if "limit" in entry.query]
    (failed,) = finished.record.tally.failed
    assert (finished.exit_code, finished.record.tally.listed, finished.record.tally.gaps) == (3, 59, ())
    assert "row 8 of the listing is too large by itself" in failed.error
    assert limits[:3] == ["100", "50", "25"]


def test_a_compressed_page_is_read():
    with FaultyUpstream(many_models(30)) as upstream, client_of(upstream) as client:
        upstream.inject(Gzipped(), kind="list", times=None)
        assert len(client.models.list()) == 30
        assert {entry.headers["accept-encoding"] for entry in upstream.requests.entries} == {"gzip"}


def test_a_page_that_is_compressed_as_nobody_asked_for_is_an_error_of_the_upstream():
    with FaultyUpstream(many_models(1)) as upstream, client_of(upstream) as client:
        upstream.inject(Headers({"Content-Encoding": "br"}), kind="list", times=None)
        with pytest.raises(errors.ProtocolError, match="compress"):
            client.models.list()


def test_a_page_that_is_called_compressed_and_is_not_is_read():
    with FaultyUpstream(many_models(1)) as upstream, client_of(upstream) as client:
        upstream.inject(Headers({"Content-Encoding": "gzip"}), kind="list", times=None)
        assert len(client.models.list()) == 1


def test_weights_that_are_a_bomb_fail_their_model_alone_and_leave_nothing(root, bomb):
    with FaultyUpstream(many_models(3)) as upstream:
        fault = Answer(200, bomb, (ZIPPED,))
        upstream.inject(fault, kind="weights", path="model-00001", times=None)
        finished = run_sync(upstream, root)
    assert finished.exit_code == 3
    assert [each.name for each in finished.record.tally.failed] == ["model-00001"]
    assert "unpack" in finished.record.tally.failed[0].error
    assert files_under(root / "incoming") == []


@pytest.mark.parametrize("kind", ["list", "weights"])
def test_headers_without_an_end_are_a_clear_error(kind, tmp_path):
    with FaultyUpstream(many_models(1)) as upstream, client_of(upstream) as client:
        upstream.inject(Headers({"X-Long": "x" * 300_000}), kind=kind, times=None)
        with pytest.raises(errors.NetworkError, match="headers of its answer are longer than"):
            client.models.list() if kind == "list" else client.models.download("model-00000", tmp_path / "m")


def test_an_error_page_of_any_size_is_one_line():
    with FaultyUpstream(many_models(1)) as upstream, client_of(upstream) as client:
        upstream.inject(error(403, "x" * 5_000_000), kind="list", times=None)
        with pytest.raises(errors.ForbiddenError) as caught:
            client.models.list()
    assert len(str(caught.value)) < 600


def test_the_bomb_of_these_tests_is_one(bomb):
    code = "import sys, gzip; print(len(gzip.decompress(sys.stdin.buffer.read())))"
    done = subprocess.run([sys.executable, "-c", code], input=bomb, capture_output=True, check=True)
    assert int(done.stdout) == UNPACKED > ALLOWANCE + 100 * len(bomb)
