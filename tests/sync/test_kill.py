"""kill -9 in a download and at every step of publishing: nothing is wrong after it, and the next run goes on."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from support.documents import make_document, many_models, weights_bytes
from support.syncing import environment, files_under, run_sync, start_mirror, wait_for
from support.upstream import FaultyUpstream, Gate, Hold

from registry_mirror import Mirror
from registry_mirror.catalog import Catalog
from registry_mirror.store.parts import IncomingFile, abandoned


def check_root(root):
    """The promises that hold after any kill: what the index names is whole, and the catalog opens."""
    index = root / "index.sqlite"
    if index.exists():
        with sqlite3.connect(f"file:{index}?mode=ro&immutable=1", uri=True) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            named = database.execute("SELECT md5, size FROM weights").fetchall()
        database.close()
        for md5, size in named:
            data = (root / "blobs" / md5[:2] / f"{md5}.onnx").read_bytes()
            assert hashlib.md5(data, usedforsecurity=False).hexdigest() == md5
            assert len(data) == size
    for blob in (root / "blobs").glob("*/*"):
        assert hashlib.md5(blob.read_bytes(), usedforsecurity=False).hexdigest() == blob.stem


def weights_parts(root):
    """Weights that are on their way in."""
    return [name for name in files_under(root / "incoming") if name.startswith("weights.")]


def test_a_kill_in_the_middle_of_a_download_leaves_a_part_that_the_next_run_goes_on_with(upstream, root):
    gate = Gate()
    upstream.inject(Hold(gate, after=100), kind="weights", path=make_document(1)["id"])
    process = start_mirror("sync", env=environment(upstream, root, MIRROR_SYNC_WORKERS="1"))
    gate.wait_reached()
    wait_for(lambda: any(path.stat().st_size == 100 for path in (root / "incoming").glob("weights.*.part")))
    process.kill()
    process.communicate(timeout=20)
    assert len(weights_parts(root)) == 2  # and its sidecar
    check_root(root)
    gate.release.set()
    upstream.requests.clear()
    finished = run_sync(upstream, root)
    assert finished.exit_code == 0
    assert finished.record.tally.fetched.files == 2
    ranges = [entry.headers.get("range") for entry in upstream.requests.entries if entry.origin == "storage"]
    assert "bytes=100-" in ranges
    assert files_under(root / "incoming") == []
    check_root(root)


# Kills itself at the nth call of a function: after the n-1 before it have done their work.
SCRIPT = """
import os, signal, sys, threading
from pathlib import Path

where, number, base_url, key, root = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
calls = 0
lock = threading.Lock()

def dying(original, after):
    def call(*args, **kwargs):
        global calls
        with lock:
            calls += 1
            mine = calls
        if mine == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if mine == number and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

from registry_mirror.config import load_settings
from registry_mirror.catalog.weights import WeightsTable
from registry_mirror.secret import Secret
from registry_mirror.store import blobs as store
from registry_mirror.index import publish as index
from registry_mirror.store import blobs
from registry_mirror.sync.reporter import Reporter
from registry_mirror.sync.run import SyncOptions, sync
from registry_mirror.sync.stop import Stop

if where in ("replace", "after replace"):
    os.replace = dying(os.replace, where.startswith("after"))
elif where == "fsync":
    os.fsync = dying(os.fsync, False)
elif where == "blob published, row not written":
    blobs.publish = dying(blobs.publish, True)
elif where == "row written, index not published":
    # How many rows come in one call is a matter of timing, so the first call that brings any is the one.
    record, killing = WeightsTable.record, dying(WeightsTable.record, True)
    WeightsTable.record = lambda self, several, *more: (killing if several else record)(self, several, *more)
elif where == "index half built":
    index._run = dying(index._run, True)

settings = load_settings(root=root, env={}, overrides={
    "upstream.base_url": base_url, "sync.publish_every": "0s", "sync.workers": 2}).settings
sync(settings, Secret(key), SyncOptions(), Reporter(), Stop())
"""

POINTS = [
    *(("replace", number) for number in (1, 3, 4, 5, 6, 8, 9)),
    *(("after replace", number) for number in (2, 4, 5, 6, 7)),
    *(("fsync", number) for number in (1, 4, 9, 13, 16)),
    *(("blob published, row not written", number) for number in (1, 3)),
    ("row written, index not published", 1),
    *(("index half built", number) for number in (1, 3, 4, 6)),
]


@pytest.mark.parametrize(("where", "number"), POINTS)
def test_a_kill_at_any_step_leaves_a_root_that_reads_well_and_that_the_next_run_completes(
    upstream, root, where, number
):
    args = [sys.executable, "-c", SCRIPT, where, str(number), upstream.base_url, upstream.api_key, str(root)]
    assert subprocess.run(args, check=False, timeout=60).returncode == -signal.SIGKILL
    check_root(root)
    finished = run_sync(upstream, root)
    assert finished.exit_code == 0
    check_root(root)
    assert files_under(root / "incoming") == []
    assert not [name for name in os.listdir(root) if name.startswith(".") and "catalog" in name]
    assert {model.name for model in Mirror(root).models.iter() if model.mirror.cached} == {
        f"model-{number:05d}" for number in range(3)
    }
    again = run_sync(upstream, root).record.as_json()
    assert (again["unchanged"], again["requests"]["storage"]) == (3, 0)


def test_what_a_killed_run_had_published_is_not_fetched_again(root):
    with FaultyUpstream(many_models(6)) as upstream:
        gate = Gate()
        upstream.inject(Hold(gate, after=100), kind="weights", path=make_document(5)["id"])
        process = start_mirror("sync", env=environment(upstream, root, MIRROR_SYNC_WORKERS="1"))
        gate.wait_reached()
        process.kill()
        process.communicate(timeout=20)
        gate.release.set()
        upstream.requests.clear()
        tally = run_sync(upstream, root).record.tally
    assert tally.fetched.files == 1
    assert Mirror(root).models.path("model-00005").read_bytes() == weights_bytes(5)


def test_a_lock_that_a_killed_run_held_hangs_nobody_and_its_holder_file_deceives_nobody(upstream, root):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights")
    process = start_mirror("sync", env=environment(upstream, root))
    gate.wait_reached()
    process.kill()
    process.communicate(timeout=20)
    gate.release.set()
    assert (root / "run.holder.json").exists()
    assert run_sync(upstream, root).exit_code == 0
    assert not (root / "run.holder.json").exists()


HERE, ELSEWHERE = "here-1", "there-2"


@pytest.mark.parametrize(
    ("host", "pid", "age", "lives", "expected"),
    [
        (HERE, 7, 0, False, True),
        (HERE, 7, 7 * 86400 - 1, True, False),
        (HERE, 7, 7 * 86400 + 1, True, True),  # the number is somebody else's by now
        (ELSEWHERE, 7, 0, False, False),
        (ELSEWHERE, 7, 8 * 86400, True, True),
        (None, None, 0, False, False),
        (None, None, 8 * 86400, False, True),
    ],
)
def test_a_part_is_abandoned_when_its_process_is_gone_or_it_is_a_week_old(tmp_path, host, pid, age, lives, expected):
    assert abandoned(IncomingFile(tmp_path, host, pid, age), HERE, lambda _: lives) is expected


def test_the_part_of_a_live_process_is_not_swept(upstream, root):
    gate = Gate()
    upstream.inject(Hold(gate, after=10), kind="weights", path=make_document(1)["id"])
    env = environment(upstream, root)
    fetching = start_mirror("download", "model-00001", "-o", str(root.parent / "m"), "--fetch", env=env)
    gate.wait_reached()
    wait_for(lambda: weights_parts(root))
    assert run_sync(upstream, root, named=frozenset({"model-00002"})).exit_code == 0
    assert weights_parts(root)
    gate.release.set()
    fetching.communicate(timeout=20)
    assert fetching.returncode == 0
    with Catalog(root / "catalog.sqlite") as catalog:
        assert {each.name for each in catalog.models.known().values() if each.weights} == {"model-00001", "model-00002"}
