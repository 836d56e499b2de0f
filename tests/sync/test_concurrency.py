"""Several at once: readers, writers, other hosts, and locks that lie: nothing is damaged, nobody waits for the dead."""

from __future__ import annotations

import errno
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.killing import Forge, Watching
from support.syncing import run_sync, settings_for
from support.upstream import FaultyUpstream, Gate, Hold
from test_kill import check_root

from registry_mirror import Mirror
from registry_mirror.store.layout import Layout
from registry_mirror.store.lock import holder_of
from registry_mirror.sync.reporter import Reporter
from registry_mirror.upkeep.pins import pin, pinned

NOW = {"retention.superseded": "0s", "retention.grace": "0s"}


@pytest.fixture(scope="module")
def forges():
    """Two processes that fork, for two hosts."""
    with ExitStack() as stack:
        yield [stack.enter_context(Forge()) for _ in range(2)]


@pytest.fixture
def served():
    with FaultyUpstream(many_models(12)) as running:
        yield running


def job(op, upstream, root, **more):
    overrides = {"sync.publish_every": "0s", "sync.workers": 2, **more.pop("overrides", {})}
    given = {"root": str(root), "base_url": upstream.base_url, "key": upstream.api_key}
    return {"op": op, **given, "overrides": overrides, **more}


def both(forges, first, second):
    """Two operations at once."""
    forges[0].begin({"host": "one", **first})
    forges[1].begin({"host": "two", **second})
    return [forge.end() for forge in forges]


@contextmanager
def read_all_the_while(root, count=1, *, graceless=False):
    """Readers that look until the block ends; each must have seen something and nothing wrong."""
    readers = [Watching(root, (), graceless=graceless) for _ in range(count)]
    for reader in readers:
        reader.start()
    yield
    for reader in readers:
        reader.end()
    assert all(reader.looks for reader in readers)


def changed(upstream, turn):
    """Some models are retrained, and one is new."""
    for number in (0, 3, 6):
        upstream.replace_weights(make_document(number)["id"], weights_bytes(1000 * turn + number))
    upstream.add(make_model(100 + turn))


def is_mirrored(upstream, root):
    check_root(root)
    with Mirror(root) as mirror:
        for model in upstream.models:
            assert mirror.models.get(model.id).mirror.md5 == model.weights["onnx"].md5_hex


def test_many_readers_beside_a_writer_see_whole_pictures_only(served, root, forges):
    run_sync(served, root)
    with read_all_the_while(root, 4):
        for turn in range(1, 4):
            changed(served, turn)
            assert forges[0].run(job("sync", served, root)).code == 0
    is_mirrored(served, root)


def test_of_two_syncs_started_at_once_one_goes_and_the_other_says_who(served, root, forges):
    run_sync(served, root)
    gate = Gate()
    served.inject(Hold(gate), kind="list")
    forges[0].begin(job("sync", served, root))
    gate.wait_reached()
    assert forges[1].run(job("sync", served, root)).code == 6
    gate.release.set()
    assert forges[0].end().code == 0


def test_a_second_sync_that_may_wait_goes_when_the_first_has_ended(served, root, forges):
    run_sync(served, root)
    gate = Gate()
    served.inject(Hold(gate), kind="list")
    forges[0].begin(job("sync", served, root))
    gate.wait_reached()
    forges[1].begin(job("sync", served, root, wait=True))
    gate.release.set()
    assert [forge.end().code for forge in forges] == [0, 0]


def test_two_syncs_of_two_hosts_whose_locks_lie_end_well_and_damage_nothing(served, root, forges):
    run_sync(served, root)
    with read_all_the_while(root):
        for turn in range(1, 4):
            changed(served, turn)
            ends = both(forges, *(job("sync", served, root, lying=True) for _ in range(2)))
            assert {end.code for end in ends} == {0}, ends
            is_mirrored(served, root)
    again = run_sync(served, root).record.as_json()
    assert (again["fetched"]["bytes"], again["requests"]["storage"]) == (0, 0)


def test_two_syncs_that_make_one_root_while_locks_lie_leave_one_that_the_next_run_completes(served, root, forges):
    ends = both(forges, *(job("sync", served, root, lying=True) for _ in range(2)))
    assert 0 in {end.code for end in ends} or run_sync(served, root).exit_code == 0
    assert run_sync(served, root).exit_code == 0
    is_mirrored(served, root)


def test_a_gc_beside_a_sync_while_locks_lie_takes_nothing_that_is_wanted(served, root, forges):
    run_sync(served, root)
    with read_all_the_while(root, graceless=True):
        for turn in range(1, 4):
            changed(served, turn)
            ends = both(
                forges,
                job("sync", served, root, lying=True),
                job("gc", served, root, lying=True, overrides=NOW),
            )
            assert {end.code for end in ends} == {0}, ends
            check_root(root)
    assert run_sync(served, root).exit_code == 0
    is_mirrored(served, root)


def test_a_download_and_a_pin_beside_a_sync_are_all_there_in_the_end(served, root, tmp_path, forges):
    run_sync(served, root)
    for turn in range(1, 4):
        changed(served, turn)
        new = make_document(100 + turn)["id"]
        ends = both(
            forges,
            job("sync", served, root),
            job("download", served, root, model=new, output=str(tmp_path / f"{turn}.onnx")),
        )
        assert {end.code for end in ends} == {0}, ends
        assert (tmp_path / f"{turn}.onnx").read_bytes() == weights_bytes(100 + turn)
        ends = both(forges, job("sync", served, root), job("pin", served, root, ids=[new], remove=False))
        assert {end.code for end in ends} == {0}, ends
    is_mirrored(served, root)
    assert len(pinned(settings_for(served, root))) == 3


@pytest.mark.parametrize("step", ["commit", "replace"])
def test_nobody_waits_for_locks_that_a_killed_process_held(served, root, forges, step):
    """It died in a transaction of the catalog, or with the lock of publishing: the next writer is not held up."""
    run_sync(served, root)
    first = make_document(0)["id"]
    doomed = job("pin", served, root, ids=[first], remove=False)
    for at in range(1, 60):
        end = forges[0].run({**doomed, "at": at})
        if end.last.startswith(step) or not end.killed:
            break
    assert end.killed
    began = time.monotonic()
    pin(settings_for(served, root), [make_document(1)["id"]], pytest.fail)
    assert time.monotonic() - began < 5
    check_root(root)


def test_the_holder_of_a_lock_is_told_with_its_host(served, root, forges):
    run_sync(served, root)
    gate = Gate()
    served.inject(Hold(gate), kind="list")
    forges[0].begin(job("sync", served, root, host="gateway-one"))
    gate.wait_reached()
    assert "on gateway-one" in holder_of(Layout(root))
    assert forges[1].run(job("sync", served, root)).code == 6
    gate.release.set()
    assert forges[0].end().code == 0


def test_a_run_does_not_wait_for_a_fetch_whose_end_could_not_be_told(served, root):
    class Mute(Reporter):
        def finished(self, key, name, how):
            raise OSError(errno.EIO, "the terminal is gone")

    ended = []
    run = threading.Thread(target=lambda: ended.append(run_sync(served, root, reporter=Mute())), daemon=True)
    run.start()
    run.join(30)
    assert [len(each.record.tally.failed) for each in ended] == [12]
    again = run_sync(served, root).record.tally
    assert (again.reused.files, again.fetched.files, again.failed) == (12, 0, [])
