"""Disks that are full, read-only, failing or gone, at every kind of write: a clear end, nothing half there, and the
next run goes on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.mirrors import ServedMirror
from support.syncing import environment, files_under, mirror, run_sync, start_mirror, wait_for
from support.upstream import FaultyUpstream, Gate, Hold, no_digest
from test_kill import check_root

from registry_mirror import Mirror
from registry_mirror.catalog import migrate, needs_migration
from registry_mirror.catalog.weights import WeightsTable
from registry_mirror.errors import ConfigurationError, NoSpaceError, StoreError
from registry_mirror.files import database_full
from registry_mirror.server import auth as keys
from registry_mirror.store import budget as budgets
from registry_mirror.store.budget import DiskBudget, Space, StoreLimits, free_space, misfit
from registry_mirror.store.faults import store_error
from registry_mirror.store.layout import Layout
from registry_mirror.sync.reporter import Reporter

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "space", "limits", "scope"),
    [
        (10, Space(10), StoreLimits(), None),
        (11, Space(10), StoreLimits(), "file"),
        (10, Space(20, promised=10), StoreLimits(), None),
        (10, Space(20, promised=11), StoreLimits(), "file"),
        (10, Space(20), StoreLimits(floor=10), None),
        (10, Space(20), StoreLimits(floor=11), "file"),
        (0, Space(20), StoreLimits(floor=21), "file"),
        (10**15, Space(None), StoreLimits(floor=10), None),
        (10, Space(None, used=90), StoreLimits(quota=100), None),
        (11, Space(None, used=90), StoreLimits(quota=100), "quota"),
        (5, Space(None, used=90, promised=6), StoreLimits(quota=100), "quota"),
        (50, Space(10, used=90), StoreLimits(quota=100), "quota"),
    ],
)
def test_a_file_is_begun_only_where_it_fits(size, space, limits, scope):
    refusal = misfit(size, space, limits)
    assert (None if refusal is None else refusal[0]) == scope


def test_a_file_system_that_says_it_has_no_blocks_is_not_believed(tmp_path, monkeypatch):
    assert free_space(tmp_path) > 0
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(budgets.os, "statvfs", lambda _: os.statvfs_result([*real[:2], 0, 0, 0, *real[5:]]))
    assert free_space(tmp_path) is None
    monkeypatch.setattr(budgets.os, "statvfs", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no")))
    assert free_space(tmp_path) is None


def test_a_promise_counts_against_others_until_its_bytes_are_on_the_disk_or_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(budgets, "free_space", lambda _: 100)
    budget = DiskBudget(Layout(tmp_path), StoreLimits())
    with budget.reserve() as first, budget.reserve() as second:
        first.admit(60)
        with pytest.raises(NoSpaceError, match="60 B are needed and 40 B are free"):
            second.admit(60)
        first.came(30)
        second.admit(70)
        with pytest.raises(NoSpaceError):
            first.admit(60)
    with budget.reserve() as third:
        third.admit(100)


def test_a_file_that_goes_on_needs_room_for_its_rest_and_all_of_it_counts_against_the_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(budgets, "free_space", lambda _: 40)
    with DiskBudget(Layout(tmp_path), StoreLimits()).reserve() as reservation:
        reservation.admit(100, 60)
        with pytest.raises(NoSpaceError, match="41 B are needed"):
            reservation.admit(100, 59)
    with (
        DiskBudget(Layout(tmp_path), StoreLimits(quota=99)).reserve() as reservation,
        pytest.raises(NoSpaceError, match="quota"),
    ):
        reservation.admit(100, 60)


def test_what_comes_without_a_length_is_stopped_at_the_floor_and_at_the_quota(tmp_path, monkeypatch):
    free = [100 * MIB]
    monkeypatch.setattr(budgets, "free_space", lambda _: free[0])
    with DiskBudget(Layout(tmp_path), StoreLimits(floor=MIB)).reserve() as reservation:
        reservation.admit(None)
        reservation.came(50 * MIB)
        free[0] = MIB - 1
        with pytest.raises(NoSpaceError, match=r"store\.min_free") as caught:
            reservation.came(99 * MIB)
    assert caught.value.scope == "file"  # it may be what fills the disk
    with DiskBudget(Layout(tmp_path), StoreLimits(floor=MIB)).reserve() as reservation:
        free[0] = 200 * MIB
        reservation.admit(100 * MIB)
        free[0] = MIB - 1
        with pytest.raises(NoSpaceError, match=r"store\.min_free") as caught:
            reservation.came(99 * MIB)
    assert caught.value.scope == "disk"
    with DiskBudget(Layout(tmp_path), StoreLimits(quota=20 * MIB)).reserve() as reservation:
        reservation.admit(None)
        with pytest.raises(NoSpaceError, match="quota") as caught:
            reservation.came(21 * MIB)
    assert caught.value.scope == "quota"


# --- full ------------------------------------------------------------------------------------------------------------


def test_a_file_that_would_not_fit_is_not_begun_and_the_others_come_all_the_same(disk):
    root = disk / "root"
    with FaultyUpstream([make_model(1, size=8 * MIB), *many_models(3, start=2)]) as upstream:
        env = environment(upstream, root, MIRROR_SYNC_WORKERS="1")
        done = mirror("sync", "--json", env=env)
        assert done.returncode == 7, done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("failed: 4 models")
        assert "no space left: 8.0 MiB are needed and " in last
        assert "mirror gc --dry-run" in last
        run = json.loads(done.stdout)["run"]
        assert run["fetched"]["files"] == 3
        assert [each["name"] for each in run["failed"]] == ["model-00001"]
        assert files_under(root / "incoming") == []
        assert [failure.name for failure in Mirror(root).status().failures] == ["model-00001"]
        subprocess.run(["mount", "-o", "remount,size=24m", str(disk)], check=True)
        again = json.loads(mirror("sync", "--json", env=env).stdout)["run"]
        assert (again["outcome"], again["fetched"]["files"]) == ("ok", 1)


def test_a_body_without_an_end_fails_alone_and_the_others_come_all_the_same(disk):
    subprocess.run(["mount", "-o", "remount,size=48m", str(disk)], check=True)
    block = weights_bytes(1, 1 << 18)

    def endless(_request, answer):
        return replace(answer(), body=itertools.repeat(block), offset=0, length=None)

    with FaultyUpstream([*many_models(3), make_model(5, size=MIB), *many_models(3, start=7)]) as upstream:
        upstream.inject(no_digest(), endless, kind="weights", path=make_document(5)["id"], times=None)
        finished = run_sync(upstream, disk / "root", {"sync.workers": 1})
    assert finished.record.tally.fetched.files == 6
    assert [each.name for each in finished.record.tally.failed] == ["model-00005"]
    assert "are free on its disk" in finished.record.tally.failed[0].error  # and never filled it
    assert files_under(disk / "root" / "incoming") == []


def test_the_floor_is_left_free(disk):
    with FaultyUpstream(many_models(2, size=MIB)) as upstream:
        env = environment(upstream, disk / "root", MIRROR_SYNC_WORKERS="1", MIRROR_STORE_MIN_FREE="1500 KiB")
        done = mirror("sync", env=env)
        assert done.returncode == 7
        assert "of which store.min_free keeps 1.5 MiB" in done.stderr.splitlines()[-1]
        assert len(list((disk / "root" / "blobs").glob("*/*"))) == 1
        assert free_space(disk) >= 1500 << 10


def test_a_disk_that_others_fill_while_a_file_comes_ends_with_7_and_leaves_nothing_half(disk):
    root, gate = disk / "root", Gate()
    with FaultyUpstream([make_model(1, size=2 * MIB), make_model(2)]) as upstream:
        env = environment(upstream, root)
        upstream.inject(Hold(gate, after=MIB), kind="weights", path=make_document(1)["id"])
        running = start_mirror("sync", env=env)
        gate.wait_reached()
        with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        gate.release.set()
        _, err = running.communicate(timeout=30)
        assert running.returncode == 7, err
        assert "no space left" in err.splitlines()[-1]
        check_root(root)
        # At most a beginning that the next run goes on with, where another write met the full disk first.
        assert all(name.endswith((".part", ".part.json")) for name in files_under(root / "incoming"))
        (disk / "filler").unlink()
        assert mirror("sync", env=env).returncode == 0
        check_root(root)
        assert files_under(root / "incoming") == []


class Told(Reporter):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_files_that_came_and_could_not_be_recorded_are_told_once_and_recognised_by_the_next_run(root, monkeypatch):
    def full(_, rows, *__):
        if rows:
            raise NoSpaceError("no space left while writing the catalog")
        return []

    told = Told()
    with FaultyUpstream(many_models(2)) as upstream:
        with monkeypatch.context() as broken:
            broken.setattr(WeightsTable, "record", full)
            done = run_sync(upstream, root, {"sync.workers": 1}, reporter=told)
        assert (done.exit_code, done.record.tally.fetched.files) == (7, 0)
        (line,) = told.lines
        count = int(line.removeprefix("files fetched that could not be recorded: ").split(";")[0])
        assert count == len(list((root / "blobs").glob("*/*"))) > 0
        again = run_sync(upstream, root).record.tally
    assert (again.reused.files, again.fetched.files) == (count, 2 - count)


def fill(disk):
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


def test_gc_frees_room_on_a_full_disk(disk):
    root = disk / "root"
    with FaultyUpstream([make_model(1, size=MIB)]) as upstream:
        env = environment(upstream, root, MIRROR_RETENTION_SUPERSEDED="0s", MIRROR_RETENTION_GRACE="0s")
        assert mirror("sync", env=env).returncode == 0
        before = Mirror(root).models.path("model-00001")
        upstream.replace_weights(make_document(1)["id"], b"other weights")
        assert mirror("sync", env=env).returncode == 0
        assert mirror("gc", env=env).returncode == 0  # lets it go
        fill(disk)
        done = mirror("gc", env=env)
    assert done.returncode == 0, done.stderr
    assert not before.exists()
    assert free_space(disk) >= MIB
    check_root(root)


def test_gc_that_can_free_nothing_on_a_full_disk_says_so_with_7(disk):
    root = disk / "root"
    with FaultyUpstream([make_model(1)]) as upstream:
        env = environment(upstream, root, MIRROR_RETENTION_SUPERSEDED="0s", MIRROR_RETENTION_GRACE="0s")
        assert mirror("sync", env=env).returncode == 0
        upstream.replace_weights(make_document(1)["id"], b"other weights")
        assert mirror("sync", env=env).returncode == 0
        fill(disk)
        done = mirror("gc", env=env)
    assert done.returncode == 7
    assert "failed: no space left" in done.stderr
    check_root(root)


# --- read-only, forbidden, failing -----------------------------------------------------------------------------------


def wait_for_index(root, name):
    """Until a model is in the index: one that is on its way from folder to folder would be stopped by the mounts."""

    def is_there():
        if not (root / "index.sqlite").exists() or any("index" in each for each in files_under(root / "incoming")):
            return False
        with Mirror(root) as mirror:
            return name in {model.name for model in mirror.models.iter()}

    wait_for(is_there)


def test_folders_that_become_read_only_in_the_middle_end_it_with_1_and_the_next_run_goes_on(disk):
    """The folders, each with a mount of its own: the kernel refuses to turn a whole disk while a file is written."""
    root, gate = disk / "root", Gate()
    folders = [root / "incoming", root / "blobs"]
    with FaultyUpstream(many_models(3)) as upstream:
        env = environment(upstream, root, MIRROR_SYNC_WORKERS="1")
        assert mirror("sync", env=env).returncode == 0
        for number in (7, 8, 9):
            upstream.add(make_model(number))
        upstream.inject(Hold(gate), kind="download", path=make_document(8)["id"])
        running = start_mirror("sync", env=env)
        gate.wait_reached()
        wait_for_index(root, "model-00009")
        for folder in folders:
            subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        try:
            gate.release.set()
            _, err = running.communicate(timeout=30)
            assert running.returncode == 1, err
            assert err.splitlines()[-1].startswith("failed: ")
            assert "Read-only file system" in err.splitlines()[-1]
            check_root(root)
        finally:
            for folder in folders:
                subprocess.run(["umount", str(folder)], check=True)
        assert mirror("sync", env=env).returncode == 0
        assert Mirror(root).models.path("model-00009").read_bytes() == weights_bytes(9)
        check_root(root)


def test_a_mount_that_goes_away_in_the_middle_ends_with_1_and_nothing_is_written_in_its_place(disk):
    root, gate = disk, Gate()
    with FaultyUpstream(many_models(3)) as upstream:
        env = environment(upstream, root)
        upstream.inject(Hold(gate), kind="download", path=make_document(1)["id"])
        running = start_mirror("sync", env={**env, "MIRROR_SYNC_WORKERS": "1"})
        gate.wait_reached()
        wait_for_index(root, "model-00002")
        subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)  # what the fixture takes away again
        subprocess.run(["umount", "-l", str(disk)], check=True)
        subprocess.run(["umount", "-l", str(disk)], check=True)
        gate.release.set()
        _, err = running.communicate(timeout=30)
        try:
            assert running.returncode == 1, err
            last = err.splitlines()[-1]
            assert last.startswith("failed: ")
            assert "is no longer the f" in last  # the root the folder, or the catalog the file, that it was
            assert os.listdir(disk) == []
        finally:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=True)


def test_one_folder_that_is_forbidden_fails_one_model_with_1_and_the_others_come(upstream, root, monkeypatch):
    """The tests run as root, whom no mode stops: the refusal is made where the system would make it."""
    bad = Layout(root).blob(hashlib.md5(weights_bytes(1), usedforsecurity=False).hexdigest(), "onnx")
    replace = os.replace

    def refuse(source, target):
        if os.fspath(target) == os.fspath(bad):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    finished = run_sync(upstream, root)
    assert (finished.exit_code, finished.record.tally.fetched.files) == (1, 2)
    assert "Permission denied" in finished.record.last_line()
    assert "the right to write there" in finished.record.last_line()
    assert [each.name for each in finished.record.tally.failed] == ["model-00001"]
    assert files_under(root / "incoming") == []
    monkeypatch.undo()
    assert run_sync(upstream, root).exit_code == 0
    check_root(root)


WRITES = ["open", "write", "fsync", "replace", "mkdir", "index", "run.json"]
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.ENOTCONN, errno.ESTALE]


def failing(monkeypatch, root, where, number):
    """Lets one kind of write fail from now on, in the way that the system would."""

    # Not the time of the first look at the root: what fails there was never a run.
    def fails(*path):
        raise OSError(number, os.strerror(number), *map(os.fspath, path))

    import registry_mirror.files as files
    import registry_mirror.index.publish as index
    import registry_mirror.store.parts as incoming
    import registry_mirror.sync.run as run

    if where == "open":
        monkeypatch.setattr(incoming, "create_exclusive", lambda path, *_, **__: fails(path))
    elif where == "write":
        monkeypatch.setattr(incoming, "write_all", lambda *_: fails())
    elif where == "fsync":
        fsync = os.fsync
        thread = threading.current_thread
        monkeypatch.setattr(os, "fsync", lambda fd: fails() if thread().name.startswith("fetch") else fsync(fd))
    elif where == "replace":
        original = os.replace
        monkeypatch.setattr(os, "replace", lambda a, b: fails(b) if "blobs" in os.fspath(b) else original(a, b))
    elif where == "mkdir":
        mkdir = os.mkdir
        inside = f"{root}/blobs/"
        monkeypatch.setattr(files.os, "mkdir", lambda path, *m: fails(path) if inside in f"{path}" else mkdir(path, *m))
    elif where == "index":
        monkeypatch.setattr(index, "create_exclusive", lambda path, *_, **__: fails(path))
    elif where == "run.json":
        monkeypatch.setattr(run, "write_run", lambda layout, *_, **__: fails(layout.run_record))


@pytest.mark.parametrize("where", WRITES)
@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_write_that_fails_ends_with_7_or_1_one_clear_line_and_nothing_half(root, monkeypatch, where, number):
    with FaultyUpstream(many_models(2)) as upstream:
        failing(monkeypatch, root, where, number)
        finished = run_sync(upstream, root)
        full = number in (errno.ENOSPC, errno.EDQUOT)
        assert finished.exit_code == (7 if full else 1)
        line = finished.record.last_line()
        assert "\n" not in line
        assert line.startswith("failed: ")
        assert ("no space left" if full else os.strerror(number)) in line
        check_root(root)
        # What ends the run may find the other file on its way: its beginning is kept, for the next run to go on with.
        left = files_under(root / "incoming")
        assert len(left) <= 2 if where == "index" else not left
        assert all(f"{name}.json" in left for name in left if name.endswith(".part"))
        monkeypatch.undo()
        assert run_sync(upstream, root).exit_code == 0
        assert files_under(root / "incoming") == []
        assert sorted(model.name for model in Mirror(root).models.iter() if model.mirror.cached) == [
            "model-00000", "model-00001"
        ]  # fmt: skip
        check_root(root)


def test_a_disk_that_takes_no_more_writes_ends_the_handing_out_at_once(root, monkeypatch):
    with FaultyUpstream(many_models(60)) as upstream:
        failing(monkeypatch, root, "open", errno.EROFS)
        finished = run_sync(upstream, root, {"sync.workers": 2})
        assert finished.exit_code == 1
        assert len(finished.record.tally.failed) <= 4
        assert finished.record.storage_requests <= 4


def test_an_error_of_the_system_says_what_file_and_what_to_do():
    error = store_error(OSError(errno.EROFS, "Read-only file system", "/r/blobs/x"), "model 'a'")
    assert isinstance(error, StoreError)
    assert error.everywhere
    assert str(error) == "model 'a': Read-only file system (/r/blobs/x); mount it writable, or sync where it is"
    assert not store_error(OSError(errno.EACCES, "Permission denied"), "x").everywhere


def test_a_root_and_a_folder_that_are_read_only_are_told_with_the_cure(disk):
    root, upstream = disk / "root", FaultyUpstream(many_models(1))
    with upstream:
        env = environment(upstream, root)
        assert mirror("sync", env=env).returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = mirror("pin", "model-00000", env=env)
        assert done.returncode == 2
        assert "cannot write to the root" in done.stderr
        assert "pin where it is synced" in done.stderr
        assert mirror("pin", "--list", env=env).returncode == 0
        done = mirror("download", "model-00000", "-o", str(disk / "m"), env=env)
        assert done.returncode == 2
        assert "Read-only file system; name a file in a folder where you may write" in done.stderr


# --- file systems that cannot do everything --------------------------------------------------------------------------


@pytest.mark.parametrize("shared", ["private", "group"])
@pytest.mark.parametrize(
    "number", [errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL], ids=errno.errorcode.get
)
def test_a_file_system_that_keeps_no_permissions_holds_a_mirror_all_the_same(
    upstream, root, monkeypatch, shared, number
):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    assert run_sync(upstream, root, {"store.shared": shared}).exit_code == 0
    check_root(root)
    keys.change(root / "keys.toml", lambda present: present)


def test_a_mode_that_a_failing_disk_refuses_is_a_failure(upstream, root, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "chmod", refuse)
    assert run_sync(upstream, root).exit_code == 1


@pytest.fixture
def few_inodes(tmp_path):
    """A file system with bytes for all and inodes for a few."""

    def mount(count):
        folder = tmp_path / "inodes"
        folder.mkdir()
        options = f"size=64m,nr_inodes={count}"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False).returncode:
            pytest.skip("mounting needs root")
        mounted.append(folder)
        return folder

    mounted = []
    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("count", [3, 6, 8, 9, 10, 12, 14, 17, 20, 24])
def test_a_disk_without_inodes_is_7_and_says_inode_wherever_it_is_met(few_inodes, count):
    with FaultyUpstream(many_models(20)) as upstream:
        try:
            finished = run_sync(upstream, few_inodes(count) / "root")
            code, line = finished.exit_code, finished.record.last_line()
        except NoSpaceError as error:
            code, line = error.exit_code, str(error)
    assert (code, "no inode left" in line, "fault" in line) == (7, True, False), line


def test_other_verbs_on_a_disk_without_inodes_say_so_as_well(few_inodes):
    root = few_inodes(60) / "root"
    with FaultyUpstream(many_models(2)) as upstream:
        assert run_sync(upstream, root).exit_code == 0
        with contextlib.suppress(OSError):
            for number in range(60):
                (root.parent / str(number)).touch()
        for verb in (
            ["pin", "model-00001"],
            ["keys", "add", "box"],
            ["verify"],
            ["download", "model-00001", "-o", "m"],
        ):
            done = mirror(*verb, env=environment(upstream, root), cwd=root.parent)
            assert (done.returncode, "no inode left" in done.stderr) == (7, True), done.stderr


def test_a_catalog_that_cannot_be_opened_for_another_reason_is_no_full_disk(tmp_path):
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    assert database_full(error, tmp_path, "the catalog") is None
    assert database_full(error, tmp_path / "absent", "the catalog") is None
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert isinstance(database_full(error, tmp_path, "the catalog"), NoSpaceError)


def limited(upstream, root, blocks):
    return subprocess.run(
        ["/bin/sh", "-c", f'ulimit -f {blocks}; exec "$0" -m registry_mirror sync', sys.executable],
        env=environment(upstream, root), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_file_larger_than_the_process_may_write_fails_one_model_and_says_why(root):
    with FaultyUpstream([make_model(1, size=2 * MIB), *many_models(2, start=2)]) as upstream:
        done = limited(upstream, root, 2048)
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert "ulimit -f" in done.stderr.splitlines()[-1]
    assert len(list((root / "blobs").glob("*/*"))) == 2
    assert not any(name.startswith("weights") for name in files_under(root / "incoming"))


@pytest.mark.parametrize("folder", ["blobs", "incoming", "quarantine"])
@pytest.mark.parametrize("way", ["link", "mount", "bind"])
def test_a_folder_of_the_root_on_another_file_system_is_refused_before_anything_is_asked(
    upstream, disk, root, folder, way
):
    assert run_sync(upstream, root).exit_code == 0
    there = disk if way == "link" else root / folder
    if way == "link":
        shutil.copytree(root / folder, disk / folder)
        shutil.rmtree(root / folder)
        (root / folder).symlink_to(disk / folder)
    elif way == "mount":
        shutil.copytree(root / folder, disk / folder)
        subprocess.run(["mount", "--bind", str(disk / folder), str(there)], check=True)
    else:
        subprocess.run(["mount", "--bind", str(there), str(there)], check=True)
    try:
        upstream.add(make_model(9))
        upstream.requests.clear()
        said = "is a link to" if way == "link" else "is on another file system than the root"
        with pytest.raises(ConfigurationError, match=f"{folder} {said}") as caught:
            run_sync(upstream, root)
        assert "the whole root" in str(caught.value)
        assert upstream.requests.api == upstream.requests.storage == 0
        with Mirror(root) as opened:
            assert opened.models.path("model-00001").read_bytes() == weights_bytes(1)
            assert opened.status().totals.files == 3
    finally:
        if way != "link":
            subprocess.run(["umount", str(there)], check=True)


def test_a_link_to_the_whole_root_is_fine(upstream, root, tmp_path):
    assert run_sync(upstream, root).exit_code == 0
    (tmp_path / "link").symlink_to(root)
    upstream.add(make_model(9))
    assert run_sync(upstream, tmp_path / "link").exit_code == 0
    check_root(root)


def test_a_rename_that_crosses_file_systems_all_the_same_ends_the_run_at_the_first_file(root, monkeypatch):
    replace = os.replace

    def cross(source, target):
        if "blobs" in os.fspath(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fspath(source), None, os.fspath(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", cross)
    with FaultyUpstream(many_models(40)) as upstream:
        finished = run_sync(upstream, root, {"sync.workers": 1})
    assert finished.exit_code == 1
    assert finished.record.storage_requests <= 2
    assert "put the whole root on one disk" in finished.record.last_line()


@pytest.fixture
def odd_root(tmp_path):
    """A root whose path is no UTF-8, as one made under another locale."""
    return Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 %41?#"))


def test_a_root_of_any_bytes_works_each_time_and_for_every_verb(upstream, odd_root, tmp_path):
    env = environment(upstream, odd_root)
    verbs = [
        ["sync", "--json"],
        ["sync", "--dry-run", "--json"],
        ["list", "--json"],
        ["path", "model-00001"],
        ["path", "model-00001", "--json"],
        ["status"],
        ["status", "--json"],
        ["verify", "--json"],
        ["gc", "--json"],
        ["pin", "model-00001", "--json"],
        ["doctor", "--offline", "--json"],
        ["download", "model-00001", "-o", str(tmp_path / "m"), "--json"],
        ["config", "show"],
        ["config", "check", "--json"],
        ["keys", "add", "a", "--json"],
        ["sync", "--json"],
    ]
    for verb in verbs:
        done = subprocess.run(
            [sys.executable, "-m", "registry_mirror", *verb], env=env, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, (verb, done.stderr)
        if "--json" in verb:
            json.loads(done.stdout)
        if verb == ["path", "model-00001"]:
            assert Path(os.fsdecode(done.stdout.rstrip(b"\n"))).read_bytes() == weights_bytes(1)


def test_an_old_catalog_under_a_path_of_any_bytes_is_migrated(odd_root):
    odd_root.mkdir()
    migrate(odd_root / "catalog.sqlite", target="0001")
    migrate(odd_root / "catalog.sqlite")
    assert not needs_migration(odd_root / "catalog.sqlite")


def test_a_blob_under_a_path_of_any_bytes_is_served(upstream, odd_root):
    assert run_sync(upstream, odd_root).exit_code == 0
    digest = hashlib.md5(weights_bytes(1), usedforsecurity=False).hexdigest()
    with ServedMirror(odd_root) as served, urllib.request.urlopen(f"{served.base_url}/blobs/{digest}.onnx") as answer:
        assert answer.read() == weights_bytes(1)


@pytest.mark.parametrize("allowed", [9, 11, 13, 16])
def test_too_few_descriptors_are_told_in_words_and_nothing_hangs(root, allowed):
    """Which of them is refused is a race of threads, so it is tried again and again."""
    with FaultyUpstream(many_models(10)) as upstream:
        for _ in range(3):
            shutil.rmtree(root, ignore_errors=True)
            done = mirror(
                "sync",
                env=environment(upstream, root),
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed)),
            )
            assert done.returncode in (0, 1), done.stderr
            assert "a fault in registry-mirror" not in done.stderr
            assert "Traceback" not in done.stderr
            if done.returncode:
                assert "ulimit -n" in done.stderr.splitlines()[-1]
        assert mirror("sync", env=environment(upstream, root)).returncode == 0
        check_root(root)


@pytest.mark.parametrize("options", ["size=64k", "nr_inodes=24"])
def test_a_disk_that_is_too_small_is_7_with_what_is_full(tmp_path, options):
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        with FaultyUpstream(many_models(30, size=3000)) as upstream:
            for _ in range(3):
                done = mirror("sync", env=environment(upstream, place / "root"))
                assert done.returncode == 7, done.stderr
                assert "a fault in registry-mirror" not in done.stderr
                assert ("inode" if "inodes" in options else "no space left") in done.stderr.splitlines()[-1]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_server_with_too_few_descriptors_says_so(upstream, root):
    run_sync(upstream, root)
    done = mirror(
        "serve", "--port", "0", env=environment(upstream, root),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )  # fmt: skip
    assert done.returncode == 2
    assert "this process may have 64 files open, and the server needs 248" in done.stderr
    assert "LimitNOFILE" in done.stderr
