"""A body that is cut goes on where it was cut, within one fetch; nothing wrong is ever joined to it."""

from __future__ import annotations

import hashlib

import pytest
from support.counting import CountingUpstream
from support.documents import make_document, make_model, weights_bytes
from support.syncing import files_under
from support.upstream import (
    Answer,
    CutAfter,
    Do,
    FlipByte,
    Gate,
    HangUp,
    Headers,
    Hold,
    UntilClose,
    error,
    html,
    no_digest,
    unrelated_etag,
)

from registry_mirror import Client, errors
from registry_mirror.transfer.partial_body import SMALL_STEPS
from registry_mirror.transfer.retry import RetryPolicy
from registry_mirror.transfer.throttle import LEAST, StallGuard

SIZE = 600_000
DATA = weights_bytes(1, SIZE)
ID = make_document(1)["id"]
WEAK = Headers({"ETag": 'W/"v1"'})


@pytest.fixture
def upstream():
    with CountingUpstream([make_model(1, data=DATA)]) as running:
        yield running


def download(upstream, tmp_path, **options):
    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0), **options) as client:
        return client.models.download("model-00001", tmp_path / "m").read_bytes()


def test_a_body_that_is_cut_again_and_again_gets_there_without_a_byte_sent_twice(upstream, tmp_path):
    upstream.inject(CutAfter(50_000), kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert upstream.sent == SIZE
    assert len(upstream.ranges()) == 12
    etag = f'"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"'
    assert upstream.ranges()[:3] == [(None, None), ("bytes=50000-", etag), ("bytes=100000-", etag)]
    requests = [entry for entry in upstream.requests.entries if entry.origin == "storage"]
    assert {entry.headers["accept-encoding"] for entry in requests} == {"identity"}
    assert len({entry.target for entry in requests}) == 12  # a fresh address for each


def test_other_failures_in_between_cost_tries_only_until_the_next_progress(upstream, tmp_path):
    for _ in range(4):
        upstream.inject(CutAfter(100_000), kind="weights")
        upstream.inject(error(403), kind="weights")
        upstream.inject(HangUp(), kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert upstream.sent < SIZE + 3000  # and the bodies of the errors
    assert len(upstream.ranges()) == 13


def test_four_tries_without_progress_end_it(upstream, tmp_path):
    upstream.inject(CutAfter(100_000), kind="weights")
    upstream.inject(CutAfter(0), kind="weights", times=None)
    with pytest.raises(errors.NetworkError):
        download(upstream, tmp_path)
    assert len(upstream.ranges()) == 5 - 1  # the one that brought something is the first of the four
    assert files_under(tmp_path) == []


def test_a_byte_a_try_does_not_go_on_for_ever(upstream, tmp_path):
    upstream.inject(CutAfter(1), kind="weights", times=None)
    with pytest.raises(errors.NetworkError):
        download(upstream, tmp_path)
    assert SMALL_STEPS < len(upstream.ranges()) <= SMALL_STEPS + 4


def test_progress_is_reported_as_one_growing_body(upstream, tmp_path):
    upstream.inject(CutAfter(200_000), kind="weights", times=None)
    seen = []
    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0)) as client:
        client.models.download("model-00001", tmp_path / "m", progress=lambda *both: seen.append(both))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {SIZE}
    assert seen[-1] == (SIZE, SIZE)


def test_a_body_that_stalls_is_dropped_and_goes_on(upstream, tmp_path):
    gates = [Gate() for _ in range(6)]
    for gate in gates:  # more than the tries there are
        upstream.inject(Hold(gate, after=70_000), kind="weights")
    assert download(upstream, tmp_path, timeout=0.2) == DATA
    assert [start for start, _ in upstream.ranges()[1:4]] == ["bytes=70000-", "bytes=140000-", "bytes=210000-"]
    assert len(upstream.ranges()) == 7


MISFITS = {
    "the wrong first byte": [Headers({"Content-Range": f"bytes 99999-{SIZE - 1}/{SIZE}"})],
    "another size": [Headers({"Content-Range": f"bytes 100000-{SIZE}/{SIZE + 1}"})],
    "no word which bytes": [Headers({"Content-Range": None})],
    "another ETag": [Headers({"ETag": '"another"'})],
    "another digest": [Headers({"x-goog-hash": "md5=1B2M2Y8AsgTpgAmY7PhCfg=="})],
    "no such bytes": [Answer(416, b"", (("Content-Range", f"bytes */{SIZE}"),))],
}


@pytest.mark.parametrize("faults", MISFITS.values(), ids=MISFITS)
def test_a_rest_that_does_not_fit_is_not_read_and_the_body_comes_from_its_first_byte(upstream, tmp_path, faults):
    upstream.inject(CutAfter(100_000), kind="weights")
    upstream.inject(*faults, kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, "bytes=100000-", None]


def test_after_a_misfit_no_rest_is_asked_for_any_more(upstream, tmp_path):
    upstream.inject(CutAfter(100_000), kind="weights")
    upstream.inject(*MISFITS["another ETag"], kind="weights")
    upstream.inject(CutAfter(200_000), kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, "bytes=100000-", None, None]


def test_a_storage_that_knows_no_ranges_gives_the_whole_body(tmp_path):
    with CountingUpstream([make_model(1, data=DATA)], deaf=True) as upstream:
        upstream.inject(CutAfter(100_000), kind="weights")
        assert download(upstream, tmp_path) == DATA
        assert upstream.sent == SIZE + 100_000


def test_a_storage_that_knows_no_ranges_and_always_cuts_is_given_up(tmp_path):
    with CountingUpstream([make_model(1, data=DATA)], deaf=True) as upstream:
        upstream.inject(CutAfter(100_000), kind="weights", times=None)
        with pytest.raises(errors.NetworkError):
            download(upstream, tmp_path)
        assert len(upstream.ranges()) <= 5


def test_weights_that_change_while_they_come_are_those_of_after(upstream, tmp_path):
    new = weights_bytes(9, SIZE)
    upstream.inject(CutAfter(100_000), Do(lambda: upstream.replace_weights(ID, new)), kind="weights")
    assert download(upstream, tmp_path) == new
    assert upstream.sent == SIZE + 100_000


def test_what_cannot_go_on_spends_its_tries_however_far_it_comes(upstream, tmp_path):
    for count in range(100_000, 600_000, 100_000):
        upstream.inject(no_digest(), CutAfter(count), kind="weights")
    with pytest.raises(errors.NetworkError):
        download(upstream, tmp_path)
    assert len(upstream.ranges()) == 4


@pytest.mark.parametrize("faults", [[no_digest()], [WEAK, Headers({"x-goog-hash": None, "Content-MD5": None})]])
def test_without_a_digest_or_a_strong_validator_a_cut_body_begins_again(upstream, tmp_path, faults):
    upstream.inject(*faults, CutAfter(100_000), kind="weights")
    upstream.inject(*faults, kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, None]


def test_a_strong_etag_that_is_no_digest_is_enough_within_one_fetch(upstream, tmp_path):
    upstream.inject(unrelated_etag('"v-17"'), CutAfter(100_000), kind="weights")
    upstream.inject(unrelated_etag('"v-17"'), kind="weights", times=None)
    # The demo's storage compares with its own ETag and so answers with the whole body.
    assert download(upstream, tmp_path) == DATA
    assert upstream.ranges() == [(None, None), ("bytes=100000-", '"v-17"')]


def test_a_resumed_body_that_does_not_match_is_fetched_once_more_from_its_first_byte(upstream, tmp_path):
    upstream.inject(CutAfter(100_000), kind="weights")
    upstream.inject(FlipByte(5), kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, "bytes=100000-", None]


def test_a_second_mismatch_fails_with_what_the_body_looks_like(upstream, tmp_path):
    upstream.inject(html(), kind="weights", times=None)
    with pytest.raises(errors.IntegrityError, match="looks like a sign-in page"):
        download(upstream, tmp_path)
    assert len(upstream.ranges()) == 2
    assert files_under(tmp_path) == []


def test_a_cut_that_does_not_show_is_found_by_the_digest(upstream, tmp_path):
    upstream.inject(UntilClose(100_000), kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, None]


def test_a_rest_that_is_longer_than_it_said_does_not_fill_the_disk(upstream, tmp_path):
    class Endless:
        def __call__(self, request, answer):
            from dataclasses import replace

            return replace(answer(), body=iter(lambda: b"x" * 65536, None), length=None, offset=0)

    upstream.inject(CutAfter(100_000), kind="weights")
    upstream.inject(Endless(), kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, "bytes=100000-", None]


def test_a_pace_is_too_slow_below_64_kib_a_minute():
    now = [0.0]
    pace = StallGuard(lambda: now[0])
    for second in range(1, 60):
        now[0] = float(second)
        assert not pace.trickles(10)
    now[0] = 60.0
    assert pace.trickles(10)
    now[0] = 119.9
    assert not pace.trickles(LEAST)
    now[0] = 120.0
    assert not pace.trickles(1)
    now[0] = 300.0  # one chunk after a long wait: a window is as long as it took
    assert pace.trickles(2 * LEAST)


def test_a_body_that_trickles_is_dropped_and_goes_on(upstream, tmp_path, monkeypatch):
    verdicts = iter([True] * 3)
    monkeypatch.setattr(StallGuard, "trickles", lambda _pace, _count: next(verdicts, False))
    assert download(upstream, tmp_path) == DATA
    assert upstream.ranges()[0] == (None, None)
    assert len(upstream.ranges()) == 4
    assert all(start for start, _ in upstream.ranges()[1:])
