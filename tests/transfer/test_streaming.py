"""Large bodies that come straight from the socket: the same promises, and the ordinary way for all others."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from types import SimpleNamespace

import pytest
import trustme
from support.counting import CountingUpstream
from support.documents import make_document, make_model, weights_bytes
from support.syncing import files_under, run_sync, settings_for, wait_for
from support.threads import refuse_threads
from support.tls import TlsStorage
from support.upstream import Chunked, CutAfter, Do, FlipByte, Gate, Gzipped, Hold, UntilClose, no_digest

from registry_mirror import Client, errors
from registry_mirror.digests import Hasher
from registry_mirror.files import PRIVATE
from registry_mirror.secret import Secret
from registry_mirror.store.parts import Part
from registry_mirror.sync.opening import make_client
from registry_mirror.transfer import download as transfer
from registry_mirror.transfer import partial_body
from registry_mirror.transfer.body import WORTH, SocketBody, bare_socket, counts_by_itself
from registry_mirror.transfer.partial_body import HashRing
from registry_mirror.transfer.retry import RetryPolicy
from registry_mirror.transfer.streaming import gathered
from registry_mirror.transfer.throttle import RateLimit, StallGuard

SIZE = WORTH + 3_000_001
DATA = weights_bytes(1, SIZE)
ID = make_document(1)["id"]
MIB = 1 << 20


@pytest.fixture
def upstream():
    with CountingUpstream([make_model(1, data=DATA)]) as running:
        yield running


@pytest.fixture
def wires(monkeypatch):
    """The wires that were made."""
    made, init = [], SocketBody.__init__

    def noted(self, *args):
        made.append(self)
        init(self, *args)

    monkeypatch.setattr(SocketBody, "__init__", noted)
    return made


def download(upstream, tmp_path, **options):
    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0), **options) as client:
        return client.models.download("model-00001", tmp_path / "m").read_bytes()


def test_a_large_body_comes_over_a_wire_and_whole(upstream, tmp_path, wires):
    assert download(upstream, tmp_path) == DATA
    assert [wire.left for wire in wires] == [0]


def test_a_small_one_does_not_and_its_connection_is_used_again(tmp_path, wires):
    with CountingUpstream([make_model(1, data=DATA[: WORTH - 1])]) as upstream:
        assert download(upstream, tmp_path) == DATA[: WORTH - 1]
    assert wires == []


ORDINARY = {"chunked": Chunked(), "compressed": Gzipped(), "without a length": UntilClose()}


@pytest.mark.parametrize("fault", ORDINARY.values(), ids=ORDINARY)
def test_other_bodies_take_the_ordinary_way(upstream, tmp_path, wires, fault):
    upstream.inject(fault, kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert wires == []


def test_over_tls_it_is_the_same(tmp_path, wires):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TlsStorage([make_model(1, data=DATA)], tls=context) as upstream:
        upstream.inject(CutAfter(WORTH), kind="weights")
        assert download(upstream, tmp_path, ca_file=tmp_path / "ca.pem") == DATA
        assert upstream.sent == SIZE
    assert len(wires) == 1
    assert isinstance(wires[0]._raw, ssl.SSLSocket)


def test_one_that_is_cut_goes_on_where_it_was_cut_without_a_byte_sent_twice(upstream, tmp_path, wires):
    upstream.inject(CutAfter(2_345_678), kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, "bytes=2345678-"]
    assert upstream.sent == SIZE
    assert len(wires) == 2


def test_one_that_stalls_is_dropped_with_all_that_came(upstream, tmp_path, wires):
    upstream.inject(Hold(Gate(), after=1_500_000), kind="weights")
    assert download(upstream, tmp_path, timeout=0.3) == DATA
    assert [start for start, _ in upstream.ranges()] == [None, "bytes=1500000-"]
    assert len(wires) == 2


def test_what_came_before_a_stall_is_in_the_file_while_it_lasts(upstream, tmp_path):
    gate, grown = Gate(), threading.Event()
    upstream.inject(Hold(gate, after=1_500_000), kind="weights")

    def progress(done, _total):
        if done == 1_500_000:
            (growing,) = [path for path in tmp_path.iterdir() if path.name != "m"]
            assert growing.read_bytes() == DATA[:1_500_000]
            grown.set()
            gate.release.set()

    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0)) as client:
        client.models.download("model-00001", tmp_path / "m", progress)
    assert grown.is_set()
    assert (tmp_path / "m").read_bytes() == DATA


def test_one_that_trickles_is_dropped_and_goes_on(upstream, tmp_path, wires, monkeypatch):
    verdicts = iter([False, True])
    monkeypatch.setattr(StallGuard, "trickles", lambda _pace, _count: next(verdicts, False))
    assert download(upstream, tmp_path) == DATA
    assert len(upstream.ranges()) == 2
    assert len(wires) == 2


def test_a_wrong_byte_is_found_and_the_second_fetch_goes_the_ordinary_way(upstream, tmp_path, wires):
    upstream.inject(FlipByte(SIZE - 1), kind="weights")
    assert download(upstream, tmp_path) == DATA
    assert len(wires) == 1
    upstream.inject(FlipByte(0), kind="weights", times=2)
    with pytest.raises(errors.IntegrityError):
        download(upstream, tmp_path)


def test_without_a_digest_it_is_judged_as_any_other(upstream, tmp_path, wires):
    upstream.inject(no_digest(), kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert len(wires) == 1


def test_an_abort_wakes_it_and_leaves_nothing(upstream, tmp_path):
    gate = Gate()
    upstream.inject(Hold(gate, after=5 * MIB), kind="weights", times=None)
    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0)) as client:
        failed = []

        def progress(done, _total):
            if failed:
                raise errors.Interrupted("interrupted")
            if done == 5 * MIB:
                failed.append(done)
                client.storage.abort()

        with pytest.raises(errors.Interrupted):
            client.models.download("model-00001", tmp_path / "m", progress)
    assert files_under(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "hash"]


def test_a_change_in_the_middle_is_noticed(upstream, tmp_path):
    new = weights_bytes(9, SIZE)
    upstream.inject(CutAfter(2 * MIB), Do(lambda: upstream.replace_weights(ID, new)), kind="weights")
    assert download(upstream, tmp_path) == new


# --- the parts of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_a_ring_hashes_what_it_is_given_in_order(count):
    pieces = [bytes([number]) * (number + 1) for number in range(count)]
    hasher = Hasher()
    with HashRing(hasher, buffers=2, size=64) as ring:
        for piece in pieces:
            ring.next()[: len(piece)] = piece
            ring.hand_over(len(piece))
    whole = b"".join(pieces)
    assert hasher.digest().sha256 == hashlib.sha256(whole).hexdigest()
    assert hasher.digest().md5 == hashlib.md5(whole, usedforsecurity=False).hexdigest()
    assert hasher.digest().size == len(whole)


class FailingHasher(Hasher):
    """Its SHA-256 takes a few pieces and then fails."""

    def __init__(self, pieces=0):
        super().__init__()
        self.pieces = pieces

    @property
    def updates(self):
        md5, _ = super().updates
        return md5, self.fail

    def fail(self, _data):
        if self.pieces:
            self.pieces -= 1
            return
        raise MemoryError("no memory")


def hashing_threads():
    return [thread for thread in threading.enumerate() if thread.name == "hash"]


def test_the_one_who_waits_for_a_buffer_hears_of_a_hash_that_failed():
    with pytest.raises(RuntimeError, match="hashing failed: MemoryError: no memory"):  # noqa: SIM117, PT012
        with HashRing(FailingHasher(pieces=1), buffers=2, size=8) as ring:
            for _ in range(5):
                ring.next()
                ring.hand_over(8)
    assert hashing_threads() == []


@pytest.fixture
def failed_ring():
    """A ring one of whose hashes has failed."""
    ring = HashRing(FailingHasher(), buffers=4, size=8)
    ring.__enter__()
    ring.next()
    ring.hand_over(8)
    wait_for(lambda: len(hashing_threads()) == 1)
    yield ring
    assert hashing_threads() == []


@pytest.mark.parametrize("act", [HashRing.next, lambda ring: ring.hand_over(8)])
def test_a_hash_that_failed_is_told_at_the_next_act(failed_ring, act):
    with pytest.raises(RuntimeError, match="hashing failed"):
        act(failed_ring)
    with pytest.raises(RuntimeError, match="hashing failed"):
        failed_ring.__exit__(None, None, None)


def test_a_hash_that_failed_is_told_in_the_place_of_an_error_after_which_the_body_would_go_on(failed_ring):
    with pytest.raises(RuntimeError, match="hashing failed") as raised:
        failed_ring.__exit__(errors.NetworkError, errors.NetworkError("cut"), None)
    assert isinstance(raised.value.__cause__, MemoryError)


def test_a_thread_that_cannot_be_started_leaves_no_other_behind(monkeypatch):
    started = refuse_threads(monkeypatch, lambda _: bool(started))
    with pytest.raises(errors.TransferError, match="can't start new thread"), HashRing(Hasher()):
        pass
    assert not started[0].is_alive()


@pytest.mark.parametrize("cut", [False, True])
def test_a_body_whose_hash_fails_is_neither_stored_nor_kept_and_the_next_run_fetches_it_whole(
    upstream, root, monkeypatch, cut
):
    if cut:
        upstream.inject(CutAfter(3 * MIB), kind="weights")
    with monkeypatch.context() as patched:
        patched.setattr(partial_body, "Hasher", lambda *_: FailingHasher(pieces=1))
        finished = run_sync(upstream, root)
    assert finished.exit_code == 3
    (failed,) = finished.record.tally.failed
    assert "hashing failed: MemoryError" in failed.error
    assert files_under(root / "incoming") == files_under(root / "blobs") == []
    assert hashing_threads() == []
    upstream.sent = 0
    assert run_sync(upstream, root).exit_code == 0
    assert upstream.sent == SIZE


def test_a_buffer_whose_turn_it_is_may_be_asked_for_twice():
    with HashRing(Hasher(), buffers=1, size=8) as ring:
        for _ in range(3):
            assert ring.next() is ring.next()
            ring.hand_over(8)


@pytest.mark.parametrize(
    ("version", "headers", "expected"),
    [
        (b"HTTP/1.1", {"content-length": "7"}, 7),
        (b"HTTP/1.1", {"content-length": "7", "content-encoding": "identity"}, 7),
        (b"HTTP/1.1", {"content-length": "7", "content-encoding": "gzip"}, None),
        (b"HTTP/1.1", {"content-length": "7", "transfer-encoding": "chunked"}, None),
        (b"HTTP/1.1", {}, None),
        (b"HTTP/1.1", {"content-length": "7, 7"}, None),
        (b"HTTP/1.0", {"content-length": "7"}, None),
        (b"HTTP/2", {"content-length": "7"}, None),
    ],
)
def test_which_bodies_are_nothing_but_their_bytes(version, headers, expected):
    assert counts_by_itself(version, headers) == expected


def answer_over(raw, inner):
    stream = SimpleNamespace(get_extra_info={"socket": raw, "ssl_object": inner}.get)
    return SimpleNamespace(extensions={"network_stream": stream})


def test_a_socket_that_carries_a_second_tls_is_left_alone():
    with socket.socket() as plain:
        assert bare_socket(answer_over(plain, None)) is plain
        assert bare_socket(answer_over(plain, object())) is None
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outer.check_hostname = False
    with socket.socket() as raw, outer.wrap_socket(raw, do_handshake_on_connect=False) as tls:
        assert bare_socket(answer_over(tls, object())) is None
        assert bare_socket(answer_over(tls, None)) is None
    assert bare_socket(SimpleNamespace(extensions={})) is None


def pieces_of(lengths, error=None):
    def chunks():
        for number, length in enumerate(lengths):
            yield bytes([number]) * length
        if error is not None:
            raise error

    came, raised = [], None
    try:
        came.extend(bytes(piece) for piece in gathered(chunks()))
    except errors.NetworkError as caught:
        raised = caught
    assert b"".join(came) == b"".join(bytes([number]) * length for number, length in enumerate(lengths))
    assert raised is error
    return [len(piece) for piece in came]


K = 1024


def test_chunks_are_gathered_while_more_is_there_and_never_held_back_while_none_is():
    assert pieces_of([]) == []
    assert pieces_of([100, 64 * K, 64 * K, 7]) == [100, 128 * K + 7]
    assert pieces_of([64 * K] * 10) == [256 * K, 256 * K, 128 * K]
    assert pieces_of([16 * K] * 3 + [5]) == [48 * K + 5]
    assert pieces_of([64 * K] * 3 + [100 * K]) == [192 * K, 100 * K]
    assert pieces_of([256 * K] * 3) == [256 * K] * 3
    assert pieces_of([1, 2, 3]) == [1, 2, 3]
    assert pieces_of([64 * K, 600 * K]) == [64 * K, 600 * K]


def test_what_was_gathered_before_a_cut_is_not_lost():
    assert pieces_of([64 * K, 64 * K], errors.NetworkError("cut")) == [128 * K]
    assert pieces_of([64 * K, 9], errors.NetworkError("cut")) == [64 * K + 9]


# --- at a rate -------------------------------------------------------------------------------------------------------


class Time:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now, self.slept = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_a_rate_makes_each_byte_wait_for_those_before_it():
    time = Time()
    rate = RateLimit(1000, time.sleep, time)
    rate.spend(500)
    rate.spend(250)
    assert time.slept == [0.5, 0.25]
    time.now += 60
    rate.spend(1000)
    assert time.slept[2:] == [1.0]  # a pause saves nothing up


def test_connections_share_a_rate():
    time, waits = Time(), []
    rate = RateLimit(1000, waits.append, time)
    for _ in range(4):  # four threads at the same moment
        rate.spend(1000)
    assert waits == [1.0, 2.0, 3.0, 4.0]


def test_a_rate_of_little_reads_little_at_a_time():
    assert RateLimit(100_000).piece == 10_000
    assert RateLimit(10**9).piece == MIB
    assert RateLimit(1).piece == 4096


@pytest.mark.parametrize("size", [WORTH + 12345, 345_678])
def test_a_whole_download_takes_the_time_that_its_rate_gives_it(tmp_path, monkeypatch, size):
    time = Time()
    monkeypatch.setattr(transfer, "RateLimit", lambda limit, sleep: RateLimit(limit, sleep, time))
    with CountingUpstream([make_model(1, data=DATA[:size])]) as upstream:
        retry = RetryPolicy(budget=0, sleep=time.sleep)
        with Client(upstream.api_key, upstream.base_url, retry=retry, max_rate=1_000_000) as client:
            client.models.download("model-00001", tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == DATA[:size]
    assert sum(time.slept) == pytest.approx(size / 1_000_000)


def test_waiting_for_a_rate_is_no_silence(tmp_path, monkeypatch):
    time = Time()
    monkeypatch.setattr(transfer, "RateLimit", lambda limit, sleep: RateLimit(limit, sleep, time))
    with CountingUpstream([make_model(1, data=DATA)]) as upstream:
        retry = RetryPolicy(budget=0, sleep=lambda seconds: time.sleep(100 * seconds))
        with Client(upstream.api_key, upstream.base_url, retry=retry, max_rate=100_000, timeout=0.5) as client:
            client.models.download("model-00001", tmp_path / "m")
        assert upstream.sent == SIZE


def test_the_rate_of_the_settings_reaches_a_run(tmp_path):
    with CountingUpstream([make_model(1, data=DATA[:100])]) as upstream:
        settings = settings_for(upstream, tmp_path, {"sync.max_rate": "300 kB/s"})
        assert settings.sync.max_rate == 300_000
        with make_client(settings, Secret("k"), lambda _seconds: None) as client:
            assert client.storage._rate.piece == 30_000


# --- to the disk -----------------------------------------------------------------------------------------------------


def test_the_disk_begins_before_the_end(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, *span: begun.append(span), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    part = Part(tmp_path, PRIVATE)
    for _ in range(40):
        part.write(bytes(MIB))
    assert begun == [(0, 16 * MIB, 4), (16 * MIB, 16 * MIB, 4)]
    part.discard()


def test_a_disk_that_takes_no_advice_is_written_all_the_same(tmp_path, monkeypatch):
    def refused(*_args):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refused, raising=False)
    part = Part(tmp_path, PRIVATE)
    part.write(bytes(17 * MIB))
    assert part.path.stat().st_size == 17 * MIB
    part.discard()


def test_a_body_whose_hashing_cannot_begin_fails_and_says_why(upstream, tmp_path, monkeypatch):
    refuse_threads(monkeypatch, lambda thread: thread.name == "hash")
    with pytest.raises(errors.TransferError, match="number of processes"):
        download(upstream, tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name == "hash"]
