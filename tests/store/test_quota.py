"""A quota admits what fits and nothing beside it, whoever fetches: threads, the server, other processes."""

from __future__ import annotations

import threading

import pytest
from support.documents import make_document, make_model, many_models
from support.syncing import environment, files_under, run_sync, settings_for, start_mirror
from support.upstream import Chunked, Do, FaultyUpstream, Gate, Hold

from registry_mirror.errors import NoSpaceError
from registry_mirror.secret import Secret
from registry_mirror.store import blobs
from registry_mirror.store import budget as budgets
from registry_mirror.store.budget import DiskBudget, StoreLimits, open_budget
from registry_mirror.store.layout import Layout
from registry_mirror.sync.reporter import Reporter
from registry_mirror.sync.single import fetch_model
from registry_mirror.sync.stop import Stop

SIZE = 300


@pytest.fixture
def upstream():
    with FaultyUpstream(many_models(2, size=SIZE, start=1)) as running:
        yield running


def fetch_one(upstream, root, name, quota):
    settings = settings_for(upstream, root, {"store.quota": quota})
    fetch_model(settings, Secret(upstream.api_key), name, "onnx", Reporter(), Stop())


def blob_sizes(root):
    return [(root / "blobs" / name).stat().st_size for name in files_under(root / "blobs")]


# The instants at which a file that has come is not a blob yet, or is one that is not counted yet.
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_file_that_is_being_published_keeps_its_room(upstream, root, monkeypatch, moment):
    publish, meanwhile = blobs.publish, []

    def second():
        try:
            fetch_one(upstream, root, "model-00002", 2 * SIZE - 1)
        except NoSpaceError as error:
            meanwhile.append(error.scope)

    def held(*args):
        monkeypatch.setattr(blobs, "publish", publish)
        thread = threading.Thread(target=second)
        if moment == "before":
            thread.start()
            thread.join(20)
        published = publish(*args)
        if moment == "after":
            thread.start()
            thread.join(20)
        return published

    monkeypatch.setattr(blobs, "publish", held)
    fetch_one(upstream, root, "model-00001", 2 * SIZE - 1)
    assert meanwhile == ["quota"]
    assert blob_sizes(root) == [SIZE]
    assert files_under(root / "incoming") == []


def test_two_threads_of_a_run_do_not_pass_one_quota_together(upstream, root, monkeypatch):
    publish, publishing, refused, in_time = blobs.publish, threading.Event(), threading.Event(), []
    upstream.inject(Do(lambda: publishing.wait(20)), kind="weights", path=make_document(2)["id"])

    class Listening(Reporter):
        def finished(self, key, name, how):
            if "quota" in how:
                refused.set()

    def held(*args):  # the second file is asked for now, and the first one published once that one has been refused
        publishing.set()
        in_time.append(refused.wait(20))
        return publish(*args)

    monkeypatch.setattr(blobs, "publish", held)
    overrides = {"store.quota": 2 * SIZE - 1, "sync.workers": 2}
    assert run_sync(upstream, root, overrides, reporter=Listening()).exit_code == 3
    assert in_time == [True]
    assert blob_sizes(root) == [SIZE]


def test_a_blob_counts_once(tmp_path):
    budget = DiskBudget(Layout(tmp_path), StoreLimits(quota=100))
    with budget.reserve() as first:
        first.admit(60)
        first.came(60)
        first.stored(60)
        with budget.reserve() as second:
            second.admit(40)
            with pytest.raises(NoSpaceError):
                second.admit(41)
        with budget.reserve() as third:
            third.admit(40)


def put_blob(layout, size):
    """What another process has published."""
    blob = layout.blobs / "ab" / f"ab{'0' * 30}.onnx"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * size)


def test_what_another_process_has_published_since_counts(tmp_path):
    layout = Layout(tmp_path)
    budget = DiskBudget(layout, StoreLimits(quota=1000))
    with budget.reserve() as first:
        first.admit(100)
    put_blob(layout, 900)
    with budget.reserve() as second, pytest.raises(NoSpaceError):
        second.admit(500)


def test_a_count_that_is_old_is_made_anew_and_many_small_files_share_one(tmp_path, monkeypatch):
    layout, now, counts = Layout(tmp_path), [0.0], []
    inventory = budgets.inventory
    monkeypatch.setattr(budgets, "inventory", lambda of: counts.append(1) or inventory(of))
    monkeypatch.setattr(budgets.time, "monotonic", lambda: now[0])
    budget = DiskBudget(layout, StoreLimits(quota=100_000))
    for _ in range(100):
        with budget.reserve() as reservation:
            reservation.admit(10)
            reservation.came(10)
            reservation.stored(10)
    assert len(counts) == 1
    put_blob(layout, 99_500)
    now[0] += 2
    with budget.reserve() as reservation, pytest.raises(NoSpaceError):
        reservation.admit(900)


def test_a_file_that_is_a_blob_and_a_guest_for_a_moment_takes_no_room_from_another(tmp_path):
    layout = Layout(tmp_path)
    budget, done = DiskBudget(layout, StoreLimits(quota=100)), []
    with budget.reserve() as first:
        first.admit(60)
        first.came(60)
        put_blob(layout, 60)  # the same one, of which the budget has not been told yet
        telling = threading.Timer(0.1, first.stored, [60])
        telling.start()
        with budget.reserve() as second:
            second.admit(40)
            done.append(second.size)
        telling.join()
    assert done == [40]


def test_all_who_have_a_root_open_share_its_room_and_the_last_one_takes_it_along(tmp_path):
    layout, limits = Layout(tmp_path), StoreLimits(quota=100)
    with open_budget(layout, limits) as first:
        with open_budget(layout, limits) as second, open_budget(layout, StoreLimits()) as other:
            assert second is first
            assert other is not first
        with open_budget(layout, limits) as third:
            assert third is first
    with open_budget(layout, limits) as later:
        assert later is not first


def test_what_another_process_fetches_has_its_room_until_it_is_killed(upstream, root):
    gate = Gate()
    upstream.inject(Hold(gate, after=100), kind="weights")
    env = environment(upstream, root, MIRROR_STORE_QUOTA=str(2 * SIZE - 1))
    other = start_mirror("download", "model-00001", "-o", str(root.parent / "m"), "--fetch", env=env)
    try:
        gate.wait_reached()
        with pytest.raises(NoSpaceError) as raised:
            fetch_one(upstream, root, "model-00002", 2 * SIZE - 1)
        assert raised.value.scope == "quota"
    finally:
        other.kill()
        other.communicate(timeout=20)
        gate.release.set()
    fetch_one(upstream, root, "model-00002", 2 * SIZE - 1)
    assert blob_sizes(root) == [SIZE]


def test_a_body_whose_length_comes_with_its_end_is_not_stored_over_the_quota(root):
    with FaultyUpstream([make_model(1, size=SIZE)]) as upstream:
        upstream.inject(Chunked(), kind="weights", times=None)
        with pytest.raises(NoSpaceError) as raised:
            fetch_one(upstream, root, "model-00001", SIZE - 1)
        assert raised.value.scope == "quota"
        assert files_under(root / "incoming") == files_under(root / "blobs") == []
        fetch_one(upstream, root, "model-00001", SIZE)
        assert blob_sizes(root) == [SIZE]
