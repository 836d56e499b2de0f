"""`mirror gc` and `mirror pin` on real roots: what goes, when, and what must never."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.syncing import environment, files_under, mirror, run_sync, settings_for, start_mirror
from support.upstream import FaultyUpstream, Gate, Hold, error

from registry_mirror import ConfigurationError, ConflictError, LockedError, Mirror
from registry_mirror.catalog import Catalog
from registry_mirror.catalog.retention import Retention
from registry_mirror.errors import Interrupted
from registry_mirror.model import micros, parse_time, utc_now
from registry_mirror.store.blobs import touch
from registry_mirror.store.layout import Layout
from registry_mirror.sync import recorder
from registry_mirror.upkeep.gc import collect as collector
from registry_mirror.upkeep.gc import survey
from registry_mirror.upkeep.gc.collect import collect, look
from registry_mirror.upkeep.pins import pin

AT_ONCE = {"retention.superseded": "0s", "retention.grace": "0s"}


def name_of(number):
    return f"model-{number:05d}"


def id_of(number):
    return make_document(number)["id"]


def gc(upstream, root, overrides=None):
    settings = settings_for(upstream, root, AT_ONCE if overrides is None else overrides)
    return collect(settings, settings.retention, lambda _: None)


def blobs(root):
    return files_under(root / "blobs")


def retrain(upstream, root, number=1):
    """Gives a model other weights and syncs; says where the ones before lie."""
    before = Mirror(root).models.path(name_of(number))
    upstream.replace_weights(id_of(number), weights_bytes(number + 500))
    assert run_sync(upstream, root).exit_code == 0
    return before


@pytest.fixture
def later(monkeypatch):
    """Moves the clock of `gc` on by so many days."""

    def move(days):
        now = utc_now() + timedelta(days=days)
        monkeypatch.setattr(survey, "utc_now", lambda: now)
        monkeypatch.setattr(collector, "utc_now", lambda: now)

    return move


def test_superseded_weights_leave_the_index_after_their_time_and_the_disk_after_the_grace_period(upstream, root, later):
    run_sync(upstream, root)
    before = retrain(upstream, root)
    models, md5 = Mirror(root).models, before.stem
    later(29)
    assert gc(upstream, root, {}).let_go == ()
    assert models.path(name_of(1), md5=md5) == before
    later(31)
    (row,) = gc(upstream, root, {}).let_go
    assert (row.held.name, row.held.md5, row.verdict.rule) == (name_of(1), md5, "superseded")
    with pytest.raises(ConflictError, match="no cached onnx weights with MD5"):
        models.path(name_of(1), md5=md5)
    later(31 + 6)
    assert gc(upstream, root, {}).removed == ()
    assert before.exists()
    later(31 + 8)
    (step,) = gc(upstream, root, {}).removed
    assert (step.name, step.size) == (f"blobs/{md5[:2]}/{before.name}", 256)
    assert "superseded for 31 d" in step.verdict.reason
    assert not before.exists()
    assert models.path(name_of(1)).read_bytes() == weights_bytes(501)
    assert len(blobs(root)) == 3
    assert files_under(root / "incoming") == []


def test_a_second_run_in_a_row_finds_nothing_to_do(upstream, root):
    run_sync(upstream, root)
    retrain(upstream, root)
    gc(upstream, root)
    assert gc(upstream, root).removed
    last = gc(upstream, root)
    assert (last.let_go, last.removed, last.plan.wait, last.plan.begin, last.plan.forget) == ((), (), (), (), ())
    assert run_sync(upstream, root).record.as_json()["requests"] == {"api": 2, "storage": 0}


@pytest.mark.parametrize("end", ["archive", "remove"])
def test_weights_of_archived_and_gone_models_stay_unless_the_operator_says_otherwise(upstream, root, later, end):
    run_sync(upstream, root)
    getattr(upstream, end)(id_of(1))
    run_sync(upstream, root)
    later(3000)
    assert gc(upstream, root, {}).let_go == ()
    key = "retention.archived" if end == "archive" else "retention.gone"
    assert gc(upstream, root, {key: "4000d"}).let_go == ()
    (row,) = gc(upstream, root, {key: "90d"}).let_go
    assert row.held.name == name_of(1)
    with pytest.raises(ConflictError, match="no longer kept"):
        Mirror(root).models.path(name_of(1))


def test_a_file_that_another_model_still_has_stays_when_one_lets_it_go(root):
    same = weights_bytes(77)
    with FaultyUpstream([make_model(1, data=same), make_model(2, data=same)]) as upstream:
        run_sync(upstream, root)
        before = retrain(upstream, root)
        for _ in range(3):
            done = gc(upstream, root)
            assert done.removed == ()
    assert Mirror(root).models.path(name_of(2)) == before
    assert before.read_bytes() == same


def test_superseded_weights_stay_while_what_took_their_place_is_missing(upstream, root):
    run_sync(upstream, root)
    retrain(upstream, root)
    Mirror(root).models.path(name_of(1)).unlink()
    done = gc(upstream, root)
    assert done.let_go == ()
    assert "is not in the store" in done.plan.doubts[0].verdict.reason


def test_a_dry_run_changes_nothing_and_says_what_the_real_run_then_does(upstream, root):
    env = environment(upstream, root, MIRROR_RETENTION_SUPERSEDED="0s", MIRROR_RETENTION_QUARANTINE="0s")
    run_sync(upstream, root)
    retrain(upstream, root)
    (root / "quarantine" / "x.bad.host.7.ab").write_bytes(b"bad")
    for _ in range(3):
        before = {path: path.stat() for path in root.rglob("*") if path.is_file()}
        planned = json.loads(mirror("gc", "--dry-run", "--grace", "0s", "--json", env=env).stdout)["gc"]
        after = {path: path.stat() for path in root.rglob("*") if path.is_file()}
        assert {path: (s.st_ino, s.st_mtime_ns, s.st_size) for path, s in before.items()} == {
            path: (s.st_ino, s.st_mtime_ns, s.st_size) for path, s in after.items()
        }
        done = json.loads(mirror("gc", "--grace", "0s", "--json", env=env).stdout)["gc"]
        assert decisions(done) == decisions(planned)
    assert len(blobs(root)) == 3
    assert files_under(root / "quarantine") == []


def decisions(report):
    """What a report decides, without the ages in its reasons."""
    lists = {**{key: report[key] for key in ("let_go", "evicted", "doubts")}, "removed": report["removed"]["each"]}
    decided = {key: [(one["file"], one["bytes"], one["rule"]) for one in each] for key, each in lists.items()}
    return decided | {key: value for key, value in report.items() if key not in (*lists, "waiting", "dry_run")}


def test_the_page_on_retention_names_every_key_of_the_report(upstream, root):
    run_sync(upstream, root)
    report = json.loads(mirror("gc", "--dry-run", "--json", env=environment(upstream, root)).stdout)["gc"]
    page = (Path(__file__).parents[2] / "docs" / "retention.md").read_text()
    assert {key for key in report if f"`{key}`" not in page} == set()


def test_the_dry_run_prints_a_line_with_name_bytes_rule_and_reason(upstream, root):
    env = environment(upstream, root, MIRROR_RETENTION_SUPERSEDED="0s")
    run_sync(upstream, root)
    before = retrain(upstream, root)
    printed = mirror("gc", "--dry-run", "--grace", "0s", env=env)
    assert printed.returncode == 0
    assert f"let go        256 B  model-00001 (onnx, {before.stem}): superseded for" in printed.stdout
    assert "[superseded]" in printed.stdout
    mirror("gc", "--grace", "0s", env=env)
    printed = mirror("gc", "--dry-run", "--grace", "0s", env=env)
    assert printed.stdout.startswith(f"delete        256 B  blobs/{before.stem[:2]}/{before.name}: superseded for")
    assert printed.stderr.startswith("plan: to remove 1 file (256 B), 0 let go")


# --- what must never go ----------------------------------------------------------------------------------------------


def test_a_reader_that_opened_an_older_index_finds_its_files_through_the_grace_period(upstream, root, later):
    run_sync(upstream, root)
    index = root / "index.sqlite"
    with sqlite3.connect(f"file:{index}?mode=ro&immutable=1", uri=True) as old:
        named = old.execute("SELECT md5 FROM weights").fetchall()
    old.close()
    retrain(upstream, root)
    overrides = {"retention.superseded": "0s"}
    for days in (0, 1, 6):
        later(days)
        gc(upstream, root, overrides)
        assert all((root / "blobs" / md5[:2] / f"{md5}.onnx").exists() for (md5,) in named)


def test_readers_that_look_up_and_open_all_the_time_never_miss_a_file_while_gc_runs(root):
    ended, faults, reads = threading.Event(), [], [0]

    def hammer(models):
        while not ended.is_set():
            for number in range(6):
                try:
                    with models.path(name_of(number)).open("rb") as file:
                        assert file.read(2) == b"\x08\x08"
                    reads[0] += 1
                except Exception as error:
                    faults.append(error)

    with FaultyUpstream(many_models(6)) as upstream:
        run_sync(upstream, root)
        threads = [threading.Thread(target=hammer, args=(Mirror(root).models,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        removed = 0
        try:
            for round_ in range(5):
                for number in range(6):
                    upstream.replace_weights(id_of(number), weights_bytes(1000 * round_ + number + 100))
                run_sync(upstream, root)
                # A reader that has just looked a path up is given a moment: grace 0 would have to give none.
                removed += len(gc(upstream, root, {**AT_ONCE, "retention.grace": "1s"}).removed)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        ended.wait()
    assert faults == []
    assert reads[0] > 100


def test_without_an_index_that_can_be_read_nothing_goes(upstream, root):
    run_sync(upstream, root)
    retrain(upstream, root)
    gc(upstream, root)
    with Catalog(root / "catalog.sqlite") as catalog:
        assert [note.since is not None for note in catalog.retention.notes().values()] == [True]
    (root / "index.sqlite").write_bytes(b"not an index")
    done = look(settings := settings_for(upstream, root, AT_ONCE), settings.retention)
    assert done.delete == ()
    assert "no index can be read" in done.doubts[0].verdict.reason


def test_a_catalog_that_was_made_anew_without_an_index_takes_nothing_before_a_run_ended_ok_and_grace_is_over(
    upstream, root, later
):
    run_sync(upstream, root)
    before = retrain(upstream, root)
    (root / "catalog.sqlite").unlink()
    (root / "index.sqlite").unlink()
    assert run_sync(upstream, root).record.tally.reused.files == 3
    assert gc(upstream, root, {}).removed == ()
    later(8)
    (doubt,) = gc(upstream, root, {}).plan.doubts
    assert doubt.verdict.rule == "stray"
    with sqlite3.connect(root / "catalog.sqlite") as catalog:
        ended = micros(utc_now() + timedelta(days=7))
        catalog.execute("UPDATE runs SET finished_at = ?", (ended,))
    catalog.close()
    (step,) = gc(upstream, root, {}).removed
    assert step.name.endswith(before.name)


def test_a_root_that_is_new_has_no_past_to_have_lost(upstream, root):
    run_sync(upstream, root)
    retrain(upstream, root)
    for _ in range(2):
        decided = gc(upstream, root, {"retention.superseded": "0s"}).plan
        assert decided.doubts == ()
    assert [step.verdict.rule for step in decided.wait] == ["grace"]


def test_names_that_the_store_does_not_give_are_told_and_stay(upstream, root):
    run_sync(upstream, root)
    strangers = ["ab/notes.txt", "README", "ab/" + "ab" * 16 + ".onnx.part", "cd/" + "ab" * 16 + ".onnx", "zz/x/y"]
    for name in strangers:
        (root / "blobs" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "blobs" / name).write_bytes(b"mine")
    for _ in range(3):
        done = gc(upstream, root)
    assert {step.name for step in done.plan.doubts} == {
        "blobs/README", *(f"blobs/{name}" for name in strangers[:1] + strangers[2:4]), "blobs/zz/x"
    }  # fmt: skip
    assert all((root / "blobs" / name).read_bytes() == b"mine" for name in strangers)


def test_a_clock_that_went_back_takes_nothing(upstream, root, later):
    run_sync(upstream, root)
    before = retrain(upstream, root)
    gc(upstream, root)
    later(-400)
    done = gc(upstream, root)
    assert done.removed == ()
    assert {doubt.verdict.rule for doubt in done.plan.doubts} == {"clock"}
    assert before.exists()


def test_a_sync_of_a_clock_that_was_ahead_ends_no_gc_for_longer_than_until_the_next_sync(upstream, root, later):
    run_sync(upstream, root)
    superseded = retrain(upstream, root)
    with sqlite3.connect(root / "index.sqlite") as database:
        moment = (utc_now() + timedelta(days=2000)).strftime("%Y-%m-%dT%H:%M:%SZ")
        database.execute("UPDATE meta SET value = ? WHERE key IN ('published_at', 'built_at')", (moment,))
    database.close()
    assert run_sync(upstream, root).exit_code == 0
    later(31)
    assert len(gc(upstream, root, {}).let_go) == 1
    later(39)
    gc(upstream, root, {})
    assert not superseded.exists()


def test_an_index_that_was_built_before_the_clock_went_back_counts_again_when_it_is_right(upstream, root):
    run_sync(upstream, root)
    built = utc_now() - timedelta(days=1)
    with sqlite3.connect(root / "index.sqlite") as database:
        database.execute("UPDATE meta SET value = '1999-01-01T00:00:00Z' WHERE key = 'built_at'")
        database.execute("INSERT INTO meta VALUES ('built_before', ?)", (built.strftime("%Y-%m-%dT%H:%M:%SZ"),))
    database.close()
    view = survey.look_at_index(Layout(root), {"catalog_id": "another", "revision": "0"})
    assert view.built_at == built.replace(microsecond=0)


def test_a_copy_of_a_root_and_a_folder_that_is_none_are_refused_and_left_as_they_are(upstream, root, tmp_path):
    run_sync(upstream, root)
    (root / "catalog.sqlite").unlink()
    for folder in (root, tmp_path / "nothing"):
        settings = settings_for(upstream, folder)
        with pytest.raises(ConfigurationError, match="no catalog in"):
            collect(settings, settings.retention, lambda _: None)
    assert not (tmp_path / "nothing").exists()


# --- beside others ---------------------------------------------------------------------------------------------------


def test_beside_a_running_sync_it_ends_with_6_and_waits_when_asked_to(upstream, root):
    env = environment(upstream, root)
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights", path=id_of(1))
    running = start_mirror("sync", env=env)
    gate.wait_reached()
    with pytest.raises(LockedError):
        gc(upstream, root)
    assert mirror("gc", env=env).returncode == 6
    waiting = start_mirror("gc", "--wait", env=env)
    gate.release.set()
    assert waiting.wait(30) == 0
    running.communicate(timeout=30)
    assert running.returncode == 0
    waiting.communicate()
    assert len(blobs(root)) == 3


def test_a_blob_that_gc_took_after_a_sync_had_recognised_it_is_fetched_in_the_same_run(upstream, root, monkeypatch):
    """The storage's headers say that the bytes are here; before their row is written, they no longer are."""
    run_sync(upstream, root)
    kept = Mirror(root).models.path(name_of(1))
    upstream.update(id_of(1))
    asked = []

    def gone_by_then(blobs, found):
        if not asked:
            kept.unlink()
        asked.append(found.md5)
        return original(blobs, found)

    original = recorder.is_stored
    monkeypatch.setattr(recorder, "is_stored", gone_by_then)
    finished = run_sync(upstream, root)
    assert finished.exit_code == 0
    assert (finished.record.tally.fetched.files, finished.record.tally.reused.files) == (1, 0)
    assert asked == [kept.stem] * 2
    assert kept.read_bytes() == weights_bytes(1)


def ready_to_delete(upstream, root):
    """A root in which the next `gc` removes one blob: the first weights of model 1."""
    run_sync(upstream, root)
    before = retrain(upstream, root)
    gc(upstream, root)
    return before


def test_a_row_that_comes_between_the_plan_and_the_deletion_saves_the_blob(upstream, root, monkeypatch):
    before = ready_to_delete(upstream, root)
    upstream.replace_weights(id_of(1), weights_bytes(1))
    original = collector._Collector._delete

    def adopted_first(self, *args):
        monkeypatch.setattr(collector, "run_lock", None)
        env = environment(upstream, root)
        # It fetches, because no such version is here, and then says that there still is none.
        done = mirror("download", name_of(1), "-o", str(root.parent / "m"), "--fetch", "--version", "x", env=env)
        assert done.returncode == 9
        return original(self, *args)

    monkeypatch.setattr(collector._Collector, "_delete", adopted_first)
    done = gc(upstream, root)
    assert len(done.plan.delete) == 1
    assert done.removed == ()
    assert len(done.spared) == 1
    assert before.read_bytes() == weights_bytes(1)
    assert Mirror(root).models.path(name_of(1)) == before


def older_index(root, before, kept):
    """A backup of the index is put back, which still names it."""
    shutil.copy2(kept, root / "coming")
    os.replace(root / "coming", root / "index.sqlite")


def touched(root, before, kept):
    """A sync on another machine, whose lock is not seen, is about to write its row."""
    touch(Layout(root), before.stem, "onnx")


def wanted_and_let_go_again(root, before, kept):
    """Its grace period has begun anew."""
    name = f"{before.parent.name}/{before.name}"
    with Catalog(root / "catalog.sqlite") as catalog:
        catalog.retention.forget_notes([name])
        catalog.retention.note_unnamed([name], utc_now())


@pytest.mark.parametrize("event", [older_index, touched, wanted_and_let_go_again])
def test_what_happens_between_the_plan_and_the_deletion_saves_the_blob(upstream, root, monkeypatch, event):
    run_sync(upstream, root)
    kept = shutil.copy2(root / "index.sqlite", root.parent / "index")
    before = retrain(upstream, root)
    gc(upstream, root)
    original = collector._Collector._delete

    def first(self, *args):
        event(root, before, kept)
        return original(self, *args)

    monkeypatch.setattr(collector._Collector, "_delete", first)
    done = gc(upstream, root)
    assert (len(done.plan.delete), done.removed, len(done.spared)) == (1, (), 1)
    assert before.read_bytes() == weights_bytes(1)


def test_a_row_ends_the_grace_period_at_once(upstream, root):
    ready_to_delete(upstream, root)
    with Catalog(root / "catalog.sqlite") as catalog:
        assert len(catalog.retention.notes()) == 1
        upstream.replace_weights(id_of(1), weights_bytes(1))
        assert run_sync(upstream, root).record.tally.reused.files == 1
        assert catalog.retention.notes() == {}


def test_a_blob_that_is_adopted_at_the_very_moment_is_put_back_also_where_no_lock_holds(upstream, root, monkeypatch):
    before = ready_to_delete(upstream, root)
    layout, rename = Layout(root), os.rename

    def touched_first(source, target):
        if source == before:
            touch(layout, before.stem, "onnx")
        rename(source, target)

    monkeypatch.setattr(collector.os, "rename", touched_first)
    done = gc(upstream, root)
    assert (done.removed, len(done.spared)) == ((), 1)
    assert before.read_bytes() == weights_bytes(1)
    assert files_under(root / "incoming") == []


def test_a_touch_keeps_the_time_by_which_a_scrub_knows_a_file(upstream, root):
    run_sync(upstream, root)
    blob = Mirror(root).models.path(name_of(1))
    before = blob.stat()
    touch(Layout(root), blob.stem, "onnx")
    after = blob.stat()
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_atime_ns > before.st_atime_ns
    assert after.st_ctime_ns > before.st_ctime_ns


def test_a_model_that_comes_back_keeps_the_weights_that_were_about_to_be_let_go(upstream, root, monkeypatch):
    run_sync(upstream, root)
    upstream.archive(id_of(1))
    run_sync(upstream, root)
    original = Retention.let_go

    def restored_first(self, *args, **kwargs):
        with Catalog(root / "catalog.sqlite") as other:
            keys = ("id", "name", "status", "model_type", "architecture")
            row: dict = {key: make_document(1)[key] for key in keys}
            row |= {key: micros(parse_time(make_document(1)[key])) for key in ("created_at", "updated_at")}
            document = json.dumps(make_document(1))
            other.models.record([{**row, "document": document, "fingerprint": "", "stamp": "s"}], utc_now())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Retention, "let_go", restored_first)
    done = gc(upstream, root, {"retention.archived": "0s", "retention.grace": "0s"})
    assert (done.let_go, len(done.spared)) == ((), 1)
    assert Mirror(root).models.path(name_of(1)).exists()


# --- leftovers and faults --------------------------------------------------------------------------------------------


def test_leftovers_go_by_age_and_the_part_of_a_live_process_stays_for_a_week(upstream, root, later):
    run_sync(upstream, root)
    here = survey.host_name()
    mine, dead = f"weights.{here}.{os.getpid()}.ab.part", f"weights.{here}.{2**22 + 1}.ab.part"
    elsewhere, trash = "weights.there-1.7.ab.part", f"gc-{'ab' * 16}.onnx.{here}.{2**22 + 1}.ab.part"
    for name in (mine, dead, elsewhere, trash):
        (root / "incoming" / name).write_bytes(b"part")
    (root / "quarantine" / "x.bad.host.7.ab").write_bytes(b"bad")
    assert [step.name for step in gc(upstream, root, {}).removed] == [f"incoming/{trash}"]
    later(6)
    assert gc(upstream, root, {}).removed == ()
    later(8)
    assert {step.name for step in gc(upstream, root, {}).removed} == {
        f"incoming/{name}" for name in (mine, dead, elsewhere)
    }
    later(31)
    assert [step.name for step in gc(upstream, root, {}).removed] == ["quarantine/x.bad.host.7.ab"]
    assert files_under(root / "incoming") == []


@pytest.mark.parametrize("moment", [-5.0, 4e9, 1e13])
def test_a_leftover_whose_time_no_clock_can_have_set_goes(upstream, root, moment):
    run_sync(upstream, root)
    part = root / "incoming" / "weights.there-1.7.ab.part"
    part.write_bytes(b"part")
    try:
        os.utime(part, (moment, moment))
    except OverflowError:
        pytest.skip("this file system has no such times")
    assert [step.name for step in gc(upstream, root, {}).removed] == [f"incoming/{part.name}"]
    assert not part.exists()


def test_a_leftover_that_somebody_writes_to_again_stays(upstream, root, later, monkeypatch):
    run_sync(upstream, root)
    part = root / "incoming" / "weights.there-1.7.ab.part"
    part.write_bytes(b"part")
    original = collector._Collector._sweep

    def written_first(self, step):
        moment = utc_now() + timedelta(days=8)
        os.utime(part, (moment.timestamp(), moment.timestamp()))
        return original(self, step)

    monkeypatch.setattr(collector._Collector, "_sweep", written_first)
    later(8)
    done = gc(upstream, root, {})
    assert (len(done.plan.sweep), done.removed, done.spared) == (1, (), (f"incoming/{part.name}",))
    assert part.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EROFS])
def test_what_cannot_be_removed_is_told_with_exit_1_and_the_rest_goes(root, monkeypatch, number):
    with FaultyUpstream(many_models(3)) as upstream:
        run_sync(upstream, root)
        for each in (0, 1):
            retrain(upstream, root, each)
        gc(upstream, root)
        rename, refused = os.rename, []

        def refuse_once(source, target):
            if not refused:
                refused.append(source)
                raise OSError(number, os.strerror(number), str(source))
            rename(source, target)

        monkeypatch.setattr(collector.os, "rename", refuse_once)
        done = gc(upstream, root)
        assert (len(done.removed), len(done.problems)) == (1, 1)
        assert os.strerror(number) in str(done.problems[0])
        assert refused[0].exists()
        (step,) = gc(upstream, root).removed
        assert root / step.name == refused[0]


def test_a_file_that_the_system_does_not_let_go_ends_it_with_1(upstream, root):
    before = ready_to_delete(upstream, root)
    env = environment(upstream, root)
    if shutil.which("chattr") is None or os.system(f"chattr +i {before} 2>/dev/null"):  # noqa: S605
        pytest.skip("chattr needs root and a file system that has it")
    try:
        done = mirror("gc", "--grace", "0s", env=env)
        assert done.returncode == 1
        assert f"failed: cannot remove blobs/{before.parent.name}/{before.name}: Operation not permitted" in done.stderr
    finally:
        os.system(f"chattr -i {before}")  # noqa: S605
    assert mirror("gc", "--grace", "0s", env=env).returncode == 0
    assert not before.exists()


def test_a_signal_ends_it_between_two_files_and_the_next_one_goes_on(root):
    with FaultyUpstream(many_models(3)) as upstream:
        run_sync(upstream, root)
        for each in (0, 1):
            retrain(upstream, root, each)
        gc(upstream, root)
        files, asked = len(blobs(root)), []

        def interrupted(_seconds):
            asked.append(1)
            if len(asked) == 2:
                raise Interrupted("interrupted")

        settings = settings_for(upstream, root, AT_ONCE)
        with pytest.raises(Interrupted):
            collect(settings, settings.retention, interrupted)
        assert len(blobs(root)) == files - 1
        assert len(gc(upstream, root).removed) == 1


# --- pins ------------------------------------------------------------------------------------------------------------


def test_a_pin_keeps_present_and_superseded_weights_until_it_is_taken_away(upstream, root):
    env = environment(upstream, root, MIRROR_RETENTION_SUPERSEDED="0s")
    run_sync(upstream, root)
    before = retrain(upstream, root)
    assert mirror("pin", name_of(1), id_of(2), env=env).returncode == 0
    listed = json.loads(mirror("pin", "--list", "--json", env=env).stdout)["pins"]
    assert [each["name"] for each in listed] == [name_of(1), name_of(2)]
    assert "was already pinned" in mirror("pin", name_of(1), env=env).stderr
    shown = json.loads(mirror("list", "--json", env=env).stdout)["models"]
    assert {each["name"]: each["mirror"]["pinned"] for each in shown} == {
        name_of(0): False, name_of(1): True, name_of(2): True
    }  # fmt: skip
    for _ in range(3):
        assert gc(upstream, root).let_go == ()
    assert Mirror(root).models.path(name_of(1), md5=before.stem) == before
    assert mirror("pin", "--remove", name_of(1), env=env).returncode == 0
    assert [row.held.md5 for row in gc(upstream, root).let_go] == [before.stem]
    assert [each["name"] for each in json.loads(mirror("pin", "--list", "--json", env=env).stdout)["pins"]] == [
        name_of(2)
    ]


def test_a_pin_works_beside_a_running_sync_and_a_model_that_nobody_knows_ends_with_8(upstream, root):
    run_sync(upstream, root)
    upstream.add(make_model(9))
    env = environment(upstream, root)
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights", path=id_of(9))
    running = start_mirror("sync", env=env)
    gate.wait_reached()
    assert mirror("pin", name_of(1), env=env).returncode == 0
    assert Mirror(root).models.get(name_of(1)).mirror.pinned
    gate.release.set()
    running.communicate(timeout=30)
    assert running.returncode == 0
    assert Mirror(root).models.get(name_of(1)).mirror.pinned
    assert mirror("pin", "nosuch", env=env).returncode == 8
    assert mirror("pin", env=env).returncode == 2


# --- the quota -------------------------------------------------------------------------------------------------------


def test_over_the_high_mark_the_oldest_make_room_and_a_sync_leaves_them_until_they_are_asked_for(root, tmp_path):
    quota = {"retention.grace": "0s", "store.quota": 6 * 256, "store.quota_high": 80, "store.quota_low": 50}
    with FaultyUpstream(many_models(6)) as upstream:
        env = environment(upstream, root)
        for number in range(6):  # one after the other, so that their order is known
            run_sync(upstream, root, named=frozenset({name_of(number)}))
            with sqlite3.connect(root / "catalog.sqlite") as catalog:
                moment = micros(parse_time(f"2026-01-0{9 - number}T00:00:00Z"))
                catalog.execute("UPDATE weights SET fetched_at = ? WHERE model_id = ?", (moment, id_of(number)))
            catalog.close()
        settings = settings_for(upstream, root, quota)
        pin(settings, [id_of(5)], lambda _: None)
        done = gc(upstream, root, quota)
        assert [row.held.name for row in done.evicted] == [name_of(4), name_of(3), name_of(2)]
        assert run_sync(upstream, root).record.as_json()["requests"] == {"api": 2, "storage": 0}
        told = mirror("path", name_of(3), env=env)
        assert told.returncode == 9
        weights = json.loads(mirror("status", "--json", env=env).stdout)["weights"]
        assert (weights["evicted"], weights["pinned_models"], weights["ready_not_cached"]) == (3, 1, 3)
        assert "1 pinned; 3 ready and not cached, 3 files evicted" in mirror("status", env=env).stdout
        assert "evicted at" in told.stderr
        assert f"`mirror sync {name_of(3)}`" in told.stderr
        assert len(gc(upstream, root, quota).removed) == 3
        assert run_sync(upstream, root, named=frozenset({name_of(3)})).record.tally.fetched.files == 1
        assert mirror("download", name_of(4), "-o", str(tmp_path / "m"), "--fetch", env=env).returncode == 0
        assert Mirror(root).models.path(name_of(3)).read_bytes() == weights_bytes(3)
        upstream.replace_weights(id_of(2), weights_bytes(502))
        assert run_sync(upstream, root).record.tally.fetched.files == 1
        assert Mirror(root).models.path(name_of(2)).read_bytes() == weights_bytes(502)
        assert run_sync(upstream, root).record.as_json()["requests"] == {"api": 2, "storage": 0}


def all_removed(upstream, root):
    for number in range(3):
        upstream.remove(id_of(number))
    return run_sync(upstream, root)


def key_refused(upstream, root):
    upstream.inject(error(403), kind="list", times=None)
    return run_sync(upstream, root)


def limited_in_the_middle(upstream, root):
    upstream.inject(error(429, retry_after=600), kind="list", times=None)
    return run_sync(upstream, root)


@pytest.mark.parametrize(("what", "code"), [(all_removed, 1), (key_refused, 5), (limited_in_the_middle, 3)])
def test_after_a_run_that_does_not_know_what_the_upstream_has_nothing_is_evicted(upstream, root, what, code):
    quota = {"retention.grace": "0s", "store.quota": 2 * 256}
    run_sync(upstream, root)
    assert what(upstream, root).exit_code == code
    done = gc(upstream, root, quota)
    assert done.evicted == ()
    assert "did not read the whole listing" in done.plan.remarks[0]
    assert gc(upstream, root, quota).removed == ()
    assert len(blobs(root)) == 3


def test_after_a_run_that_knows_it_is(upstream, root):
    run_sync(upstream, root)
    assert len(gc(upstream, root, {"retention.grace": "0s", "store.quota": 2 * 256}).evicted) == 2


def test_a_sync_never_goes_over_the_quota_and_says_so(root):
    with FaultyUpstream(many_models(5)) as upstream:
        env = environment(upstream, root, MIRROR_STORE_QUOTA="800", MIRROR_SYNC_WORKERS="1")
        done = mirror("sync", "--json", env=env)
        assert done.returncode == 3
        assert len(blobs(root)) == 3
        last = done.stderr.splitlines()[-1]
        assert last.startswith("partial: 5 models (5 added")
        assert "2 files are left for the next run: the quota of 800 B is used up" in last
        run = json.loads(done.stdout)["run"]
        assert (run["fetched"]["files"], run["failed"], run["requests"]["storage"]) == (3, [], 4)
        assert mirror("download", name_of(4), "-o", str(root / "m"), "--fetch", env=env).returncode == 7
        assert len(list(Mirror(root).models.iter())) == 5


def test_the_settings_of_retention_are_read_and_never_is_a_word_of_theirs(upstream, root):
    settings = settings_for(upstream, root, {"retention.superseded": "Never", "store.quota": "5 GiB"})
    assert settings.retention.superseded is None
    assert (settings.retention.gone, settings.retention.grace) == (None, 7 * 86400)
    assert settings.store.quota == 5 << 30
    with pytest.raises(ConfigurationError, match="which is not a duration"):
        settings_for(upstream, root, {"retention.gone": "sometimes"})
    with pytest.raises(ConfigurationError, match="which is not a size"):
        settings_for(upstream, root, {"store.min_free": "a lot"})
    assert replace(settings.retention, grace=0.0).grace == 0
