"""One body over several connections: in order in its file at every moment, and right whatever goes wrong with one."""

from __future__ import annotations

import errno
import itertools
import random
import ssl
import subprocess
import sys
import threading

import pytest
import trustme
from support.counting import CountingUpstream
from support.documents import make_document, make_model, weights_bytes
from support.syncing import environment, files_under, run_sync, wait_for
from support.threads import refuse_threads
from support.tls import TlsStorage
from support.upstream import CutAfter, Do, FlipByte, Gate, Headers, Hold, Truncate, error, no_digest

from registry_mirror import Client, errors
from registry_mirror.mirror import Mirror
from registry_mirror.transfer import parallel, pieces
from registry_mirror.transfer import pieces as growth
from registry_mirror.transfer.parallel import ConnectionLimit
from registry_mirror.transfer.pieces import LARGEST, SMALLEST, ConnectionGrowth, Pieces, span_of
from registry_mirror.transfer.retry import RetryPolicy

MIB = 1 << 20
SIZE = 12 * MIB + 12_345
DATA = weights_bytes(1, SIZE)
ID = make_document(1)["id"]


@pytest.fixture
def upstream():
    with CountingUpstream([make_model(1, data=DATA)]) as running:
        yield running


@pytest.fixture
def _at_once(monkeypatch):
    """Every body gets all connections as soon as its first bytes are here, and pieces are of one MiB."""
    monkeypatch.setattr(growth, "_FIRST_LOOK", 0.0)
    monkeypatch.setattr(growth, "_TRIAL", 1e9)
    monkeypatch.setattr(growth, "_BUSY", 1e9)
    monkeypatch.setattr(growth, "WORTH", 0)
    monkeypatch.setattr(pieces, "SMALLEST", MIB)
    monkeypatch.setattr(pieces, "LARGEST", MIB)
    monkeypatch.setattr(pieces, "_SETTLED", 0.2)


several = pytest.mark.usefixtures("_at_once")


class InRange:
    """A fault of the answers to requests for a range alone, the first `times` of them; counts what came through."""

    def __init__(self, fault, times=1, closed=True):
        self.fault, self.left, self.closed = fault, times, closed
        self.lock, self.hits = threading.Lock(), 0

    def __call__(self, request, answer):
        asked = request.headers.get("range", "")
        with self.lock:
            hit = bool(asked) and (not self.closed or not asked.endswith("-")) and self.left > 0
            self.left -= hit
            self.hits += hit
        return self.fault(request, answer) if hit else answer()


def download(upstream, tmp_path, progress=None, **options):
    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0), **options) as client:
        client.models.download("model-00001", tmp_path / "m", progress)
    assert not [thread for thread in threading.enumerate() if thread.name in ("range", "hash")]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    return (tmp_path / "m").read_bytes()


@several
def test_a_body_comes_whole_over_several_connections_and_each_range_names_its_object(upstream, tmp_path):
    assert download(upstream, tmp_path) == DATA
    asked = upstream.ranges()
    assert asked[0] == (None, None)
    assert len(asked) >= 11
    assert all(start and not start.endswith("-") and condition for start, condition in asked[1:])
    calls = [entry for entry in upstream.requests.entries if entry.path.endswith("/download")]
    assert len(calls) == 1  # one address does for all


@several
def test_what_is_said_to_be_done_is_in_the_file_and_has_no_hole(upstream, tmp_path):
    seen = []

    def progress(done, total):
        (growing,) = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert growing.stat().st_size == done
        assert growing.read_bytes() == DATA[:done]
        seen.append((done, total))

    assert download(upstream, tmp_path, progress) == DATA
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (SIZE, SIZE)


@several
def test_over_tls(tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with TlsStorage([make_model(1, data=DATA)], tls=context) as upstream:
        assert download(upstream, tmp_path, ca_file=tmp_path / "ca.pem") == DATA
        assert len(upstream.ranges()) > 2


FAULTS = {
    "a range is cut": InRange(CutAfter(300_000), 5),
    "a range is cut at once": InRange(CutAfter(0), 2),
    "storage is busy": InRange(error(503), 4),
    "an address has expired": InRange(error(403), 2),
    "ranges are gone": InRange(error(404), 99),
    "the answer says other bytes": InRange(Headers({"Content-Range": f"bytes 0-{MIB - 1}/{SIZE}"}), 99),
    "the answer says another size": InRange(Headers({"Content-Range": f"bytes {MIB}-{2 * MIB - 1}/{SIZE + 1}"}), 99),
    "the answer says no bytes": InRange(Headers({"Content-Range": None}), 99),
    "another ETag": InRange(Headers({"ETag": '"another"'}), 99),
    "another digest": InRange(Headers({"x-goog-hash": "md5=1B2M2Y8AsgTpgAmY7PhCfg=="}), 99),
    "a short answer": InRange(Truncate(1000), 99),
}


@several
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_goes_wrong_with_a_range_does_not_reach_the_body(upstream, tmp_path, fault):
    upstream.inject(fault, kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert fault.hits


@several
@pytest.mark.parametrize("status", [403, 404, 503])
def test_where_further_connections_are_refused_for_good_the_first_one_brings_it_all(upstream, tmp_path, status):
    fault = InRange(error(status), 10_000)
    upstream.inject(fault, kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()].count(None) == 1
    assert 0 < fault.hits <= 3 * 8  # three tries of each connection, and nobody takes its place


@several
def test_a_storage_that_knows_no_ranges_sends_the_body_once(tmp_path):
    with CountingUpstream([make_model(1, data=DATA)], deaf=True) as upstream:
        assert download(upstream, tmp_path) == DATA
        assert [start for start, _ in upstream.ranges()].count(None) == 1


@several
def test_the_first_connection_may_end_and_the_others_bring_the_rest(upstream, tmp_path):
    upstream.inject(CutAfter(MIB // 2), kind="weights")
    assert download(upstream, tmp_path) == DATA


@several
def test_a_connection_that_hangs_among_several_holds_up_nobody(upstream, tmp_path):
    gate = Gate()
    upstream.inject(InRange(Hold(gate, after=100_000)), kind="weights", times=None)
    assert download(upstream, tmp_path, timeout=60) == DATA
    assert gate.reached.is_set()
    assert not gate.release.is_set()
    gate.release.set()  # or the upstream waits for it when it stops


@several
def test_a_wrong_byte_in_a_range_is_found_and_the_body_comes_once_more(upstream, tmp_path):
    upstream.inject(InRange(FlipByte(7)), kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()].count(None) == 2


@several
def test_an_object_that_changes_between_two_ranges_is_that_of_after(upstream, tmp_path):
    new = weights_bytes(9, SIZE)
    upstream.inject(InRange(Do(lambda: upstream.replace_weights(ID, new))), kind="weights", times=None)
    # The first answer may end before its connection notices: then the body is the old one, whole.
    assert download(upstream, tmp_path) in (new, DATA)


@several
@pytest.mark.parametrize("fault", [no_digest(), Headers({"ETag": None, "x-goog-hash": None, "Content-MD5": None})])
def test_without_anything_to_notice_a_change_by_there_is_one_connection(upstream, tmp_path, fault):
    upstream.inject(fault, kind="weights", times=None)
    assert download(upstream, tmp_path) == DATA
    assert upstream.ranges() == [(None, None)]


@several
def test_one_connection_is_one_connection(upstream, tmp_path):
    assert download(upstream, tmp_path, connections=1) == DATA
    assert upstream.ranges() == [(None, None)]


@several
def test_a_disk_without_room_for_what_is_ahead_takes_the_body_in_order(upstream, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parallel._Ahead, "put", full)
    assert download(upstream, tmp_path) == DATA


@several
def test_an_interruption_ends_all_connections_and_keeps_the_beginning(upstream, root):
    from registry_mirror.sync.reporter import Reporter
    from registry_mirror.sync.stop import Stop

    stop = Stop()

    class Stopper(Reporter):
        def advanced(self, key, done):
            if done > 3 * MIB:
                stop.set()

    assert run_sync(upstream, root, stop=stop, reporter=Stopper()).exit_code in (130, 3)
    (part,) = (root / "incoming").glob("weights.*.part")
    assert part.read_bytes() == DATA[: part.stat().st_size]
    assert part.stat().st_size > 3 * MIB
    assert len(files_under(root / "incoming")) == 2
    here = part.stat().st_size
    upstream.requests.clear()
    assert run_sync(upstream, root).exit_code == 0
    assert Mirror(root).models.path("model-00001").read_bytes() == DATA
    assert upstream.ranges()[0][0] == f"bytes={here}-"


KILLED = """
from registry_mirror.transfer import pieces as growth, pieces
growth._FIRST_LOOK, growth._TRIAL, growth._BUSY, growth.WORTH = 0.0, 1e9, 1e9, 0
pieces.SMALLEST = pieces.LARGEST = 1 << 20
from registry_mirror.cli import main
main(["sync"])
"""


def test_a_kill_in_the_middle_leaves_a_beginning_that_the_next_run_goes_on_with(upstream, root):
    gate = Gate()

    class AllButThree:
        def __init__(self):
            self.seen = 0

        def __call__(self, request, answer):
            self.seen += "range" in request.headers
            return Hold(gate, after=600_000)(request, answer) if self.seen > 3 else answer()

    upstream.inject(AllButThree(), kind="weights", times=None)
    process = subprocess.Popen([sys.executable, "-c", KILLED], env=environment(upstream, root))
    gate.wait_reached()
    wait_for(lambda: any(path.stat().st_size >= MIB for path in (root / "incoming").glob("weights.*.part")))
    process.kill()
    process.wait(20)
    upstream.heal()
    gate.release.set()
    (part,) = (root / "incoming").glob("weights.*.part")
    here = part.stat().st_size
    assert part.read_bytes() == DATA[:here]
    # What lay ahead had no name. An index may have been under way too.
    assert len([name for name in files_under(root / "incoming") if not name.startswith("index.")]) == 2
    upstream.requests.clear()
    assert run_sync(upstream, root).exit_code == 0
    assert Mirror(root).models.path("model-00001").read_bytes() == DATA
    assert upstream.ranges()[0][0] == f"bytes={here}-"


# --- who fetches what ------------------------------------------------------------------------------------------------


def test_pieces_grow_from_short_ones_and_end_with_short_ones():
    assert span_of(1 << 40, 8, 0) == SMALLEST
    assert span_of(1 << 40, 8, 7) == SMALLEST
    assert span_of(1 << 40, 8, 8) == 2 * SMALLEST
    assert span_of(1 << 40, 8, 10_000) == LARGEST
    assert span_of(160 * MIB, 8, 10_000) == 10 * MIB
    assert span_of(MIB, 8, 10_000) == SMALLEST


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_the_pieces_are_the_body_without_a_gap(seed):
    chance = random.Random(seed)
    size, now = chance.randrange(1, 300 * MIB), 0.0
    work = Pieces(size, chance.randrange(1, 9))
    owned, here = [work.begin(0, now)], 0
    for _ in range(100_000):
        now += chance.random()
        if not work.remain:
            break
        piece = chance.choice(owned) if owned else None
        act = chance.random()
        if piece is None or act < 0.3:
            taken = work.take(now)
            if taken is not None and taken not in owned:
                owned.append(taken)
        elif act < 0.35 or not piece.left:
            work.give_back(piece, now)
            owned.remove(piece)
        else:
            piece.at += min(piece.left, chance.randrange(1, 4 * MIB))
        together = sorted((each for each in work.pieces if each.end > each.start), key=lambda each: each.start)
        assert all(left.end == right.start for left, right in itertools.pairwise(together))
        assert all(each.start <= each.at <= each.end for each in together)
        while (front := work.holding(here)) is not None and front.at > here:
            here = front.at
        work.forget_before(here)
    assert here == size


def test_one_that_stands_still_loses_all_that_is_left_to_whoever_is_free():
    work = Pieces(2 * SMALLEST, 2)
    first, second = work.begin(0, 0.0), work.take(0.0)
    first.at, second.at = 100, second.end
    work.give_back(second, 1.0)
    taken = work.take(2.0)
    assert (taken.start, taken.end) == (100, SMALLEST)
    assert first.left == 0


def test_one_that_is_half_as_fast_keeps_its_share():
    work = Pieces(2 * SMALLEST, 2)
    first, second = work.begin(0, 0.0), work.take(0.0)
    first.at, second.at = MIB, second.end
    work.give_back(second, 2.0)  # 2 MiB a second, and half a MiB
    taken = work.take(2.0)
    assert taken.end == SMALLEST
    assert first.end == taken.start == MIB + 3 * MIB // 5


def test_a_piece_that_has_just_begun_is_not_called_slow():
    work = Pieces(SMALLEST, 8)
    first = work.begin(0, 0.0)
    half = work.take(0.5)
    assert (half.start, half.end) == (SMALLEST // 2, SMALLEST)
    assert first.end == SMALLEST // 2
    assert work.take(0.5).start in (SMALLEST // 4, 3 * SMALLEST // 4)


def test_little_that_is_left_is_not_split():
    work = Pieces(MIB, 8)
    work.begin(0, 0.0)
    assert work.take(0.5) is None


# --- how many --------------------------------------------------------------------------------------------------------


def looked(*looks, most=8):
    watch = ConnectionGrowth(most, 0.0)
    return [watch.look(now, came, 1 << 30, busy) for now, came, busy in looks]


def test_a_line_that_leaves_hashing_idle_gets_all_connections_and_keeps_them_when_they_bring_more():
    assert looked((0.05, 1 * MIB, 0.0), (0.1, 4 * MIB, 0.01)) == [1, 8]
    assert looked((0.1, 4 * MIB, 0.01), (0.6, 100 * MIB, 0.1), (1.2, 300 * MIB, 0.5)) == [8, 8, 8]


def test_connections_that_bring_nothing_more_are_given_up():
    assert looked((0.1, 4 * MIB, 0.01), (1.2, 48 * MIB, 0.1), (9.0, 900 * MIB, 0.5)) == [8, 1, 1]


def test_where_hashing_is_what_takes_the_time_one_does():
    assert looked((0.1, 60 * MIB, 0.09), (0.2, 120 * MIB, 0.18)) == [1, 1]
    assert looked((0.1, 20 * MIB, 0.03)) == [1]  # a quarter of the time is enough: a copy ahead costs as much


def test_so_does_it_where_one_is_all_there_may_be_and_where_little_is_left():
    assert looked((0.1, 4 * MIB, 0.0), most=1) == [1]
    watch = ConnectionGrowth(8, 0.0)
    assert watch.look(0.2, 4 * MIB, growth.WORTH - 1, 0.0) == 1


def test_bodies_share_connections_and_each_has_one():
    lines = ConnectionLimit(3)
    lines.enter()
    assert [lines.enter_more() for _ in range(3)] == [True, True, False]
    assert not lines.crowded
    lines.enter()
    assert lines.crowded
    lines.leave()
    assert not lines.crowded
    assert not lines.free
    lines.leave()
    assert lines.enter_more()


@several
def test_the_first_connections_place_is_free_again_whatever_happened(upstream, tmp_path):
    upstream.inject(InRange(error(404), 99), kind="weights", times=None)
    with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0)) as client:
        client.models.download("model-00001", tmp_path / "m")
        upstream.heal()
        client.models.download("model-00001", tmp_path / "m")
        upstream.inject(error(404), kind="weights", times=None)
        with pytest.raises(errors.TransferError):
            client.models.download("model-00001", tmp_path / "m")
        wait_for(lambda: client.storage.lines._used == 0)


# -- what the system refuses -------------------------------------------------------------------------------------------


@several
def test_where_the_system_gives_no_more_threads_one_connection_brings_it_all(upstream, tmp_path, monkeypatch):
    refuse_threads(monkeypatch, lambda thread: thread.name == "range")
    assert download(upstream, tmp_path) == DATA
    assert [start for start, _ in upstream.ranges()] == [None]


@several
def test_a_connection_that_ends_by_a_fault_of_ours_is_told_and_the_body_comes(upstream, tmp_path, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(parallel.RangeFetcher, "_receive", no_memory)
    assert download(upstream, tmp_path) == DATA
