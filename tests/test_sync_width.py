"""How many files come at once: few where the processor is the limit, all that may where it is not."""

from __future__ import annotations

import threading
import time

import pytest
from support.documents import many_models
from support.syncing import run_sync, wait_for
from support.upstream import FaultyUpstream, Gate, Hold, error, kind_of

from registry_mirror.errors import Interrupted
from registry_mirror.sync import width
from registry_mirror.sync.pool import FetchPool
from registry_mirror.sync.width import FEW, Width, next_width, quota_of


@pytest.mark.parametrize(
    ("now", "busy", "most", "cores", "then"),
    [
        (3, 0.1, 8, 2, 8),  # a slow line
        (3, 0.8, 8, 2, 4),  # a faster one
        (8, 0.8, 8, 2, 8),
        (3, 1.3, 8, 2, 3),  # enough to do
        (5, 1.9, 8, 2, 4),  # too much
        (3, 1.9, 8, 2, 3),
        (2, 1.0, 2, 1, 2),  # fewer may than would be few
        (1, 0.9, 1, 1, 1),
        (3, 2.0, 8, 64, 4),  # one interpreter cannot use more
        (5, 3.5, 8, 64, 4),
    ],
)
def test_more_while_the_processor_has_time_and_fewer_when_it_has_none(now, busy, most, cores, then):
    assert next_width(now, busy, most, cores) == then


def guests(gate, count):
    """Threads that stay inside until the event that comes with them."""
    inside, leave = [], threading.Event()

    def stay():
        with gate.place(lambda: None):
            inside.append(threading.get_ident())
            leave.wait(20)

    threads = [threading.Thread(target=stay) for _ in range(count)]
    for thread in threads:
        thread.start()
    return inside, leave, threads


def test_on_a_slow_line_all_that_may_come_at_once():
    inside, leave, threads = guests(Width(8), 12)
    wait_for(lambda: len(inside) == 8)
    leave.set()
    for thread in threads:
        thread.join(20)
    assert len(inside) == 12


def test_where_the_processor_is_the_limit_a_few_do(monkeypatch):
    spent = time.process_time
    monkeypatch.setattr(width.time, "process_time", lambda: 64 * time.monotonic())
    gate = Width(8)
    inside, leave, threads = guests(gate, 12)
    wait_for(lambda: len(inside) == FEW)
    looks = []
    with (
        pytest.raises(Interrupted),  # several looks later nobody has come in
        gate.place(lambda: looks.append(1) if len(looks) < 5 else _interrupt()),
    ):
        raise AssertionError("came in")
    assert len(inside) == FEW
    monkeypatch.setattr(width.time, "process_time", spent)
    leave.set()
    for thread in threads:
        thread.join(20)
    assert len(inside) == 12


def test_where_a_few_come_at_once_they_come_in_their_order(root, monkeypatch):
    monkeypatch.setattr(width.time, "process_time", lambda: 64 * time.monotonic())
    with FaultyUpstream(many_models(40)) as upstream:
        run_sync(upstream, root, {"sync.workers": 8})
        listed = [model.id for model in upstream.models]
        came = [request.path for request in upstream.requests.entries if kind_of(request) == "download"]
    places = [next(place for place, path in enumerate(came) if model in path) for model in listed]
    assert sorted(places) == list(range(40))
    asked = places if places[0] < places[-1] else places[::-1]  # whichever way the listing goes
    assert max(abs(place - number) for number, place in enumerate(asked)) <= FEW


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000\n", None), ("50000 100000\n", 0.5), ("400000 100000", 4.0), ("", None), ("0 0", None), ("x", None)],
)
def test_a_container_may_have_less_than_the_machine(text, cores):
    assert quota_of(text) == cores


def _interrupt():
    raise Interrupted("interrupted")


def test_a_sync_from_a_storage_that_keeps_it_waiting_has_all_its_workers_there(root):
    gates = [Gate() for _ in range(6)]
    with FaultyUpstream(many_models(6)) as upstream:
        for model, gate in zip(upstream.models, gates, strict=True):
            upstream.inject(Hold(gate), kind="weights", path=model.id)
        running = threading.Thread(target=run_sync, args=(upstream, root, {"sync.workers": 6}))
        running.start()
        for gate in gates:
            gate.wait_reached()
        for gate in gates:
            gate.release.set()
        running.join(20)
    assert len(list((root / "blobs").glob("*/*"))) == 6


def test_files_that_wait_for_a_place_when_the_listing_fails_are_left(root, monkeypatch):
    forgotten, forget = threading.Event(), FetchPool.forget_queued

    def observed(pool):
        forget(pool)
        turns.append(len(pool._turns))
        forgotten.set()

    turns = []
    monkeypatch.setattr(FetchPool, "forget_queued", observed)
    monkeypatch.setattr(width.time, "process_time", lambda: 64 * time.monotonic())
    gates = [Gate() for _ in range(FEW)]
    with FaultyUpstream(many_models(40)) as upstream:
        for model, gate in zip(upstream.models, gates, strict=False):
            upstream.inject(Hold(gate), kind="weights", path=model.id)
        upstream.inject(kind="list")  # the first page comes
        upstream.inject(error(404), kind="list")
        ended = []
        settings = {"sync.workers": 8, "upstream.page_size": 20}
        running = threading.Thread(target=lambda: ended.append(run_sync(upstream, root, settings)))
        running.start()
        for gate in gates:
            gate.wait_reached()
        assert forgotten.wait(20)
        for gate in gates:
            gate.release.set()
        running.join(20)
    (finished,) = ended
    assert finished.exit_code == 1
    assert finished.record.tally.fetched.files == FEW
    assert turns[0] <= 8  # those that have begun, or wait for a place
