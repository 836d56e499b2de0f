"""`mirror verify` against real damage: what it finds, what becomes of it, and what it leaves alone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.syncing import files_under, run_sync, wait_for
from support.threads import refuse_threads
from support.upstream import FaultyUpstream, FlipByte, Gate, Hold, error
from support.verifying import Listener, blob_of, flip, run_repair, run_verify

from registry_mirror import ConfigurationError, ConflictError, IntegrityError, Mirror, NotFoundError
from registry_mirror.catalog import Catalog
from registry_mirror.catalog.checks import Checks
from registry_mirror.model import micros
from registry_mirror.sync.stop import Stop
from registry_mirror.upkeep.verify import run as verifying
from registry_mirror.upkeep.verify import scan
from registry_mirror.upkeep.verify import scan as look
from registry_mirror.upkeep.verify.record import VerifyOutcome


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Six models, synced. The upstream is gone: a verify asks nobody."""
    root = tmp_path_factory.mktemp("template") / "root"
    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
    return root


@pytest.fixture
def synced(template, root):
    """A copy of it, for one test to damage."""
    return shutil.copytree(template, root)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def replace_by_link(path):
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def link_to_other_bytes(path):
    other = path.parent.parent.parent / "elsewhere"
    other.write_bytes(bytes(256))
    path.unlink()
    path.symlink_to(other)


def forge(path):
    """The bytes stay, and the record says another SHA-256: as two contents with one MD5 would look."""
    with contextlib.closing(sqlite3.connect(path.parents[2] / "catalog.sqlite")) as database, database:
        database.execute("UPDATE weights SET sha256 = ? WHERE md5 = ?", ("0" * 64, path.stem))
        # As an older version leaves it: else the index tells that the catalog is damaged, not the file.
        database.execute("DELETE FROM facts WHERE key = 'published_index'")


DAMAGES = {
    "content": flip,
    "size": lambda path: os.truncate(path, 100),
    "missing": lambda path: path.unlink(),
    "not a file": replace_by_folder,
    "a link to nothing": replace_by_link,
    "a link to other bytes": link_to_other_bytes,
    "forged": forge,
}
PROBLEMS = {"a link to nothing": "not a file", "a link to other bytes": "not a file"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_blob_is_found_put_aside_and_given_to_no_reader(synced, damage):
    blob = blob_of(synced, 2)
    DAMAGES[damage](blob)
    record = run_verify(synced)
    assert (record.outcome, record.exit_code, len(record.tally.bad)) == (VerifyOutcome.BAD, 4, 1)
    (finding,) = record.as_json()["findings"]
    assert finding["problem"] == PROBLEMS.get(damage, damage)
    assert [(each["name"], each["current"]) for each in finding["models"]] == [("model-00002", True)]
    assert not os.path.lexists(blob)
    kept = [str(each) for each in (synced / "quarantine").iterdir()]
    assert kept == ([] if damage == "missing" else [finding["quarantine"]])
    with Mirror(synced) as mirror:
        with pytest.raises(ConflictError, match="its file"):
            mirror.models.path("model-00002")
        assert not mirror.models.get("model-00002").mirror.cached
        assert mirror.models.path("model-00001", verify=True).read_bytes() == weights_bytes(1)
        status = mirror.status()
    assert [each.name for each in status.failures] == ["model-00002"]
    assert (status.upkeep.checks.lost, status.upkeep.last["bad"]) == (1, 1)


def test_what_was_found_is_told_once_and_the_next_sync_fetches_it(root):
    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
        damaged = flip(blob_of(root, 2))
        assert run_verify(root).exit_code == 4
        again = run_verify(root)
        assert (again.outcome, again.tally.awaiting, again.tally.checked) == (VerifyOutcome.OK, 1, 5)
        finished = run_sync(upstream, root)
        assert (finished.exit_code, finished.record.tally.fetched.files) == (0, 1)
    assert blob_of(root, 2).read_bytes() == weights_bytes(2)
    assert [each.read_bytes() for each in (root / "quarantine").iterdir()] == [damaged]
    assert Mirror(root).status().failures == ()
    last = run_verify(root)
    assert (last.outcome, last.tally.awaiting, last.tally.checked) == (VerifyOutcome.OK, 0, 6)


def test_a_blob_that_several_models_share_is_hashed_once_and_lost_to_all_of_them(root):
    with FaultyUpstream([make_model(number, data=b"\x08\x08same bytes") for number in range(4)]) as upstream:
        upstream.add(make_model(9))
        run_sync(upstream, root)
        assert run_verify(root).tally.checked == 2
        blob = Mirror(root).models.path("model-00000")
        flip(blob, 3)
        record = run_verify(root)
        assert [len(each.holders) for each in record.tally.bad] == [4]
        assert len(Mirror(root).status().failures) == 4
        assert run_sync(upstream, root, {"sync.workers": 1}).record.tally.fetched.files == 1
    assert [Mirror(root).models.path(f"model-{number:05d}") for number in range(4)] == [blob] * 4
    assert Mirror(root).status().failures == ()


def test_a_superseded_file_is_checked_too_and_its_loss_is_no_failure_of_the_model(root):
    with FaultyUpstream([make_model(0)]) as upstream:
        run_sync(upstream, root)
        old = blob_of(root, 0)
        upstream.replace_weights(make_document(0)["id"], weights_bytes(50))
        run_sync(upstream, root)
    assert run_verify(root).tally.checked == 2
    flip(old)
    record = run_verify(root)
    assert [each.holders[0].current for each in record.tally.bad] == [False]
    with Mirror(root) as mirror:
        assert mirror.status().failures == ()
        assert mirror.models.path("model-00000").read_bytes() == weights_bytes(50)
        with pytest.raises(ConflictError):
            mirror.models.path("model-00000", md5=old.stem)


def test_sha256_is_the_check_and_md5_is_added_on_request(synced, monkeypatch):
    hashed = []
    monkeypatch.setattr(look.hashlib, "md5", lambda *a, md5=look.hashlib.md5, **k: hashed.append(1) or md5(*a, **k))
    assert run_verify(synced).as_json()["digests"] == ["sha256"]
    assert hashed == []
    assert run_verify(synced, md5=True).as_json()["digests"] == ["sha256", "md5"]
    assert len(hashed) == 6


def test_a_quick_look_hashes_nothing_and_finds_what_is_gone_or_cut(synced, monkeypatch):
    run_verify(synced)
    monkeypatch.setattr(look, "_hash", lambda *_, **__: pytest.fail("hashed"))
    flip(blob_of(synced, 0))  # neither size nor time tell
    os.utime(blob_of(synced, 1), (1, 1))
    blob_of(synced, 2).unlink()
    os.truncate(blob_of(synced, 3), 9)
    record = run_verify(synced, quick=True)
    assert {each.finding.verdict for each in record.tally.bad} == {look.BlobVerdict.MISSING, look.BlobVerdict.SIZE}
    assert record.as_json()["touched_names"] == [f"{blob_of(synced, 1).stem[:2]}/{blob_of(synced, 1).name}"]
    assert record.exit_code == 4


def test_another_time_alone_is_nothing_bad_and_is_hashed_first(synced):
    run_verify(synced)
    os.utime(blob_of(synced, 4), (1, 1))
    record = run_verify(synced, quick=True)
    assert (record.outcome, record.tally.touched[0].blob.md5) == (VerifyOutcome.OK, blob_of(synced, 4).stem)
    assert Mirror(synced).status().upkeep.checks.never == 1
    with Catalog(synced / "catalog.sqlite") as catalog:
        assert [blob.md5 for blob in catalog.checks.blobs() if not blob.check.checked_at] == [blob_of(synced, 4).stem]
    assert run_verify(synced, time_limit=0, workers=1).tally.checked == 1
    assert Mirror(synced).status().upkeep.checks.never == 0
    assert run_verify(synced, quick=True).tally.touched == []


def test_a_quick_look_takes_the_times_of_a_copy_on_fat_for_the_same(synced):
    run_verify(synced)
    for number, beside in ((1, 1_999_999_999), (2, 2_000_000_001)):
        state = blob_of(synced, number).stat()
        os.utime(blob_of(synced, number), ns=(state.st_atime_ns, state.st_mtime_ns - beside))
    (touched,) = run_verify(synced, quick=True).tally.touched
    assert touched.blob.md5 == blob_of(synced, 2).stem


def test_a_quick_look_is_no_check(synced):
    run_verify(synced, quick=True)
    assert Mirror(synced).status().upkeep.checks.never == 6


def test_a_time_limit_stops_and_the_next_runs_go_on_with_the_oldest(synced, monkeypatch):
    seen = []
    study = scan.study
    monkeypatch.setattr(scan, "study", lambda path, *a, **k: seen.append(path.stem) or study(path, *a, **k))
    times = iter(datetime(2026, 11, day, tzinfo=UTC) for day in range(1, 28))
    monkeypatch.setattr("registry_mirror.upkeep.verify.ledger.utc_now", lambda: next(times))
    for left in range(5, -1, -1):
        record = run_verify(synced, time_limit=0, workers=1)
        assert (record.outcome, record.tally.checked, record.tally.left) == (VerifyOutcome.OK, 1, 5)
        assert Mirror(synced).status().upkeep.checks.never == left
        assert "5 files" in record.last_line()
    assert len(set(seen)) == 6
    first = seen[:]
    seen.clear()
    for _ in range(6):
        run_verify(synced, time_limit=0, workers=1)
    assert seen == first


def test_the_time_limit_ends_a_large_file_in_its_middle_and_does_not_count_it(root, monkeypatch):
    monkeypatch.setattr(look, "_READ", 64)
    with FaultyUpstream([make_model(0), make_model(1, size=4096)]) as upstream:
        run_sync(upstream, root)
    run_verify(root, named=("model-00001",))  # so that the small one comes first
    clock = [0.0]
    monkeypatch.setattr(scan.time, "monotonic", lambda: clock[0])

    class Clock(Listener):
        hashed = 0

        def advanced(self, count):
            self.hashed += count
            if self.hashed > 256 + 1000:
                clock[0] = 100.0

    watcher = Clock()
    record = run_verify(root, time_limit=50, workers=1, watcher=watcher)
    assert (record.tally.checked, record.tally.left, record.tally.left_bytes) == (1, 1, 4096)
    assert watcher.hashed < 4096


def test_older_than_leaves_out_what_was_checked_lately(synced):
    run_verify(synced, named=("model-00001",))
    assert run_verify(synced, older_than=3600.0).tally.checked == 5
    assert run_verify(synced, older_than=3600.0).tally.checked == 0
    with contextlib.closing(sqlite3.connect(synced / "catalog.sqlite")) as database, database:
        old = micros(datetime.now(UTC) - timedelta(days=31))
        database.execute("UPDATE checks SET checked_at = ? WHERE md5 = ?", (old, blob_of(synced, 3).stem))
    assert run_verify(synced, older_than=30 * 86400.0).tally.checked == 1


def test_names_choose_models_and_an_unknown_one_is_refused(synced):
    flip(blob_of(synced, 5))
    assert run_verify(synced, named=("model-00001", make_document(2)["id"])).tally.checked == 2
    assert run_verify(synced, named=("model-00005",)).exit_code == 4
    with pytest.raises(NotFoundError, match="no model 'nobody'"):
        run_verify(synced, named=("nobody",))


def test_a_blob_that_nothing_names_is_told_and_left_alone(synced):
    stray = synced / "blobs" / "ab" / f"ab{'0' * 30}.onnx"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    record = run_verify(synced)
    assert record.exit_code == 0
    assert record.as_json()["unreferenced"] == {"files": 1, "bytes": 5, "names": [f"ab/{stray.name}"]}
    assert "1 unreferenced" in record.last_line()
    assert stray.read_bytes() == b"stray"
    assert run_verify(synced, named=("model-00001",)).tally.unreferenced == {}


@pytest.mark.parametrize("gone", ["all", "most"])
def test_a_mount_that_is_gone_loses_nothing(root, gone):
    with FaultyUpstream(many_models(12)) as upstream:
        run_sync(upstream, root)
    (root / "blobs").rename(root / "away")
    (root / "blobs").mkdir()
    if gone == "most":
        shutil.copytree(
            blob_of(root, 0).parent.parent.parent / "away" / blob_of(root, 0).parent.name, blob_of(root, 0).parent
        )
    watcher = Listener()
    record = run_verify(root, watcher=watcher)
    assert record.exit_code == 4
    assert (
        f"{'12 files missing, and 0' if gone == 'all' else '11 files missing, and 1'} are there: a mount"
        in watcher.said[0]
    )
    with Catalog(root / "catalog.sqlite") as catalog:
        assert not any(blob.check.lost_at for blob in catalog.checks.blobs())
    shutil.rmtree(root / "blobs")
    (root / "away").rename(root / "blobs")
    assert run_verify(root).exit_code == 0
    assert Mirror(root).status().totals.files == 12


def test_a_mount_that_goes_while_it_is_looked_at_loses_nothing(root):
    with FaultyUpstream(many_models(12)) as upstream:
        run_sync(upstream, root)

    class Unmounting(Listener):
        def looked(self):
            with contextlib.suppress(FileNotFoundError):
                (root / "blobs").rename(root / "away")

    watcher = Unmounting()
    record = run_verify(root, watcher=watcher, workers=1)
    assert record.exit_code == 4
    assert len(record.tally.bad) == 11
    (root / "away").rename(root / "blobs")
    assert run_verify(root).exit_code == 0
    assert Mirror(root).status().upkeep.checks.lost == 0


def unreadable(monkeypatch, *stems, code=errno.EIO):
    """Reading these files fails as on a bad disk. Ours alone: the real disk is well."""
    hashing = look._hash

    def failing(path, **options):
        if path.stem in stems:
            raise OSError(code, os.strerror(code), str(path))
        return hashing(path, **options)

    monkeypatch.setattr(look, "_hash", failing)


def test_a_file_that_the_disk_does_not_give_is_lost_and_put_aside(synced, monkeypatch):
    unreadable(monkeypatch, blob_of(synced, 3).stem)
    record = run_verify(synced)
    (finding,) = record.as_json()["findings"]
    assert finding["problem"] == "unreadable"
    assert "Input/output error" in finding["error"]
    assert not blob_of(synced, 3).exists()
    assert len(os.listdir(synced / "quarantine")) == 1


def test_a_disk_that_gives_nothing_loses_nothing(synced, monkeypatch):
    unreadable(monkeypatch, *(blob_of(synced, number).stem for number in range(6)))
    record = run_verify(synced)
    assert (record.exit_code, len(record.tally.bad)) == (4, 6)
    assert os.listdir(synced / "quarantine") == []
    assert Mirror(synced).models.path("model-00003").exists()


def test_a_file_that_this_account_may_not_read_is_told_and_not_lost(synced, monkeypatch):
    unreadable(monkeypatch, blob_of(synced, 3).stem, code=errno.EACCES)
    record = run_verify(synced)
    assert [each["problem"] for each in record.as_json()["findings"]] == ["refused"]
    assert record.exit_code == 4
    assert Mirror(synced).models.path("model-00003", verify=True).exists()


def test_bytes_that_were_read_wrong_once_condemn_no_file(synced, monkeypatch):
    hashing, once = look._hash, []

    def flaky(path, **options):
        md5, sha256, identity = hashing(path, **options)
        if path.stem == blob_of(synced, 1).stem and not once:
            once.append(path)
            return md5, "0" * 64, identity
        return md5, sha256, identity

    monkeypatch.setattr(look, "_hash", flaky)
    watcher = Listener()
    assert run_verify(synced, watcher=watcher).exit_code == 0
    assert "memory or disk may be failing" in watcher.said[0]
    assert blob_of(synced, 1).exists()


def test_whole_bytes_that_come_between_the_look_and_the_quarantine_are_kept(synced, monkeypatch):
    blob = blob_of(synced, 2)
    flip(blob)
    record_lost = Checks.record_lost

    def meanwhile(self, *args):
        record_lost(self, *args)
        fresh = synced / "incoming" / "fresh"
        fresh.write_bytes(weights_bytes(2))
        os.replace(fresh, blob)

    monkeypatch.setattr(Checks, "record_lost", meanwhile)
    assert run_verify(synced).exit_code == 0
    assert blob.read_bytes() == weights_bytes(2)
    assert os.listdir(synced / "quarantine") == []
    assert Mirror(synced).models.path("model-00002", verify=True) == blob


def test_the_index_never_names_a_file_that_is_gone(synced, monkeypatch):
    """At the moment of the rename, what readers open names the file no more."""
    flip(blob_of(synced, 2))
    seen = []
    replace = os.replace

    def watched(source, target):
        if "quarantine" in str(target):
            with pytest.raises(ConflictError):
                Mirror(synced).models.path("model-00002")
            seen.append(target)
        return replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    run_verify(synced)
    assert len(seen) == 1


def test_a_verify_runs_beside_a_sync_that_is_fetching(root):
    with FaultyUpstream(many_models(3)) as upstream:
        run_sync(upstream, root)
        upstream.add(make_model(7))
        gate = Gate()
        upstream.inject(Hold(gate, after=10), kind="weights", path=make_document(7)["id"])
        done = []
        syncing = threading.Thread(target=lambda: done.append(run_sync(upstream, root)))
        syncing.start()
        gate.wait_reached()
        flip(blob_of(root, 1))
        record = run_verify(root)
        assert (record.exit_code, record.tally.checked) == (4, 3)
        gate.release.set()
        syncing.join(30)
        assert done[0].exit_code == 0
        assert run_sync(upstream, root).record.tally.fetched.files == 1
    assert run_verify(root).as_json()["checked"]["files"] == 4
    assert {model.name for model in Mirror(root).models.iter() if model.mirror.cached} == {
        "model-00000", "model-00001", "model-00002", "model-00007"
    }  # fmt: skip


def test_the_end_that_is_asked_for_keeps_what_was_recorded(synced):
    stop = Stop()

    class Stopping(Listener):
        def looked(self):
            stop.set()

    record = run_verify(synced, watcher=Stopping(), stop=stop, workers=1)
    assert (record.outcome, record.exit_code) == (VerifyOutcome.INTERRUPTED, 130)
    assert record.tally.checked + record.tally.left == 6
    never = Mirror(synced).status().upkeep.checks.never
    assert never == 6 - record.tally.checked < 6


def test_a_copy_without_a_catalog_is_checked_against_its_index_and_nothing_is_touched(synced, tmp_path):
    run_verify(synced)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(synced / "index.sqlite", copy)
    shutil.copytree(
        synced / "blobs", copy / "blobs", copy_function=shutil.copyfile
    )  # without times, as some tools copy
    watcher = Listener()
    record = run_verify(copy, watcher=watcher)
    assert (record.exit_code, record.tally.checked, record.as_json()["recorded"]) == (0, 6, False)
    assert "nothing is recorded" in watcher.said[0]
    assert Mirror(copy).models.path("model-00001", verify=True)
    flip(blob_of(copy, 1))
    before = files_under(copy)
    record = run_verify(copy)
    assert (record.exit_code, [each.finding.verdict for each in record.tally.bad]) == (4, [look.BlobVerdict.CONTENT])
    assert [each["name"] for each in record.as_json()["findings"][0]["models"]] == ["model-00001"]
    assert files_under(copy) == before
    with pytest.raises(IntegrityError, match="mirror verify --repair"):
        Mirror(copy).models.path("model-00001", verify=True)
    assert run_verify(copy, named=("model-00002",)).tally.checked == 1
    with pytest.raises(ConfigurationError, match="nothing can be repaired"):
        run_verify(copy, repair=True)


def test_a_folder_that_is_no_root_has_nothing_to_verify(tmp_path):
    with pytest.raises(ConfigurationError, match="no index in"):
        run_verify(tmp_path)


def test_the_summary_and_the_checks_travel_with_the_index(synced, tmp_path):
    summary = run_verify(synced).summary()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(synced / "index.sqlite", copy)
    upkeep = Mirror(copy).status().upkeep
    assert upkeep.last == json.loads(json.dumps(summary))
    assert (upkeep.checks.never, upkeep.files.damaged, upkeep.files.of) == (0, 6, 6)


def test_the_status_says_which_files_have_changed_since_they_were_checked(synced):
    run_verify(synced)
    assert Mirror(synced).status().upkeep.files.touched == 0
    os.utime(blob_of(synced, 0), (1, 1))
    os.truncate(blob_of(synced, 1), 5)
    files = Mirror(synced).status().upkeep.files
    assert (files.looked_at, files.damaged, files.touched) == (6, 1, 1)
    with pytest.raises(IntegrityError):
        Mirror(synced).models.path("model-00001", verify=True)
    # The time alone refuses nothing: the hash that was asked for decides.
    assert Mirror(synced).models.path("model-00000", verify=True).exists()


# -- repair -----------------------------------------------------------------------------------------------------------


def test_repair_fetches_at_once_what_was_found_and_what_was_lost_before(root):
    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
        flip(blob_of(root, 1))
        run_verify(root)
        blob_of(root, 2).unlink()
        record = run_repair(upstream, root)
    assert (record.outcome, record.exit_code) == (VerifyOutcome.REPAIRED, 0)
    assert (record.tally.fetched, record.tally.awaiting) == (2, 0)
    assert [each["repaired"] for each in record.as_json()["findings"]] == [True]
    for number in (1, 2):
        assert Mirror(root).models.path(f"model-{number:05d}", verify=True).read_bytes() == weights_bytes(number)
    status = Mirror(root).status()
    assert (status.failures, status.upkeep.last["outcome"]) == ((), "repaired")


def test_a_repair_that_the_upstream_cannot_serve_ends_with_4_and_the_others_are_repaired(root):
    with FaultyUpstream(many_models(4)) as upstream:
        run_sync(upstream, root)
        flip(blob_of(root, 1))
        flip(blob_of(root, 2))
        upstream.inject(FlipByte(3), kind="weights", path=make_document(1)["id"], times=10)
        record = run_repair(upstream, root)
    assert (record.exit_code, record.tally.fetched, len(record.tally.unrepaired)) == (4, 1, 1)
    assert record.tally.unrepaired[0].startswith("model-00001: ")
    assert Mirror(root).models.path("model-00002", verify=True)
    (failure,) = Mirror(root).status().failures
    assert failure.failure.attempts == 2


def test_a_refused_key_ends_the_repair_at_once(root):
    with FaultyUpstream(many_models(4)) as upstream:
        run_sync(upstream, root)
        for number in range(3):
            flip(blob_of(root, number))
        upstream.inject(error(401), kind="get", times=10)
        upstream.requests.clear()
        record = run_repair(upstream, root)
        assert len(upstream.requests.entries) == 1
    assert (record.exit_code, len(record.tally.unrepaired)) == (4, 3)
    assert "left for the next sync" in record.tally.unrepaired[2]


def test_what_was_superseded_cannot_be_repaired(root):
    with FaultyUpstream([make_model(0), make_model(1)]) as upstream:
        run_sync(upstream, root)
        upstream.replace_weights(make_document(0)["id"], weights_bytes(50))
        run_sync(upstream, root)
        flip(blob_of(root, 0))
        record = run_repair(upstream, root)
    assert (record.exit_code, record.tally.fetched) == (4, 0)


def test_a_repair_of_named_models_fetches_no_others(root):
    with FaultyUpstream(many_models(4)) as upstream:
        run_sync(upstream, root)
        flip(blob_of(root, 0))
        flip(blob_of(root, 1))
        run_verify(root)
        record = run_repair(upstream, root, named=("model-00001",))
    assert (record.exit_code, record.tally.fetched) == (0, 1)
    assert not blob_of(root, 0).exists()


def test_every_finding_is_recorded_as_it_comes(synced, monkeypatch):
    """Not at the end: a kill would lose it."""
    monkeypatch.setattr(verifying, "_RECORD_EVERY", 0.0)

    def recorded():
        with Catalog(synced / "catalog.sqlite") as catalog:
            return sum(bool(blob.check.checked_at) for blob in catalog.checks.blobs())

    class Waiting(Listener):
        number = 0

        def looked(self):
            wait_for(lambda: recorded() == self.number)  # those before this one
            self.number += 1

    assert run_verify(synced, watcher=Waiting(), workers=1).tally.checked == 6
    assert recorded() == 6


def test_a_thread_that_cannot_be_started_ends_the_others(upstream, root, monkeypatch):
    run_sync(upstream, root)

    def endless(*_args, advance, **_options):
        while True:
            advance(0)

    started = refuse_threads(monkeypatch, lambda _: bool(started))
    monkeypatch.setattr(scan, "study", endless)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run_verify(root, workers=2)
    started[0].join(20)
    assert not started[0].is_alive()
