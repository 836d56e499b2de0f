"""Power cuts at every step of everything that writes: what was not synced is dropped, and the promises still hold."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.lives import age
from support.powerloss import Recorder, Way
from support.syncing import run_sync, settings_for
from support.upstream import FaultyUpstream
from support.verifying import blob_of, flip, run_verify

from registry_mirror import Mirror, files
from registry_mirror.catalog import Catalog
from registry_mirror.upkeep.gc.collect import collect
from registry_mirror.upkeep.pins import pin


def is_whole(path, md5):
    return path.exists() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5


class Cuts:
    """Cuts the power after every step, and looks at what is left; of some, a sync goes on from there later."""

    def __init__(self, upstream, folder, *, every=23, damaged=()):
        self.upstream, self.folder, self.every, self.damaged = upstream, folder, every, damaged
        self.made, self.later, self.problems = 0, [], []

    def __call__(self, images, step):
        for image in images:
            self.made += 1
            root = image.write(self.folder / f"{self.made:05d}")
            try:
                self.check(root)
                if self.made % self.every == 0:
                    self.later.append(root)
            except Exception as error:
                self.problems.append(f"{step}, {image.way}: {type(error).__name__}: {error}")

    def check(self, root):
        """No name is there without its bytes, and no row without its blob."""
        for blob in (root / "blobs").glob("*/*"):
            assert is_whole(blob, blob.stem) or blob.stem in self.damaged, f"{blob.name} is not whole"
        for name, query in (
            ("index.sqlite", "SELECT md5 FROM weights"),
            ("catalog.sqlite", "SELECT md5 FROM weights WHERE md5 NOT IN (SELECT md5 FROM checks WHERE lost_at > '')"),
        ):
            if not (root / name).exists():
                continue
            with closing(sqlite3.connect(root / name)) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                old = not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'checks'").fetchall()
                named = database.execute("SELECT md5 FROM weights" if old else query).fetchall()
            for (md5,) in named:
                blob = root / "blobs" / md5[:2] / f"{md5}.onnx"
                assert is_whole(blob, md5) or md5 in self.damaged, f"{name} names {md5}, which is not whole"

    def go_on(self, root):
        """The next sync ends well and has everything."""
        assert run_sync(self.upstream, root).exit_code == 0
        self.check(root)
        with Mirror(root) as mirror:
            for model in self.upstream.models:
                assert mirror.models.get(model.id).mirror.md5 == model.weights["onnx"].md5_hex


@pytest.fixture
def served():
    with FaultyUpstream(many_models(2)) as running:
        yield running


@pytest.fixture
def cuts(served, tmp_path):
    return Cuts(served, tmp_path / "cuts")


def lived(root, cuts, act):
    """Does something with the power cut at every step."""
    with Recorder(root, cuts) as recorder:
        act()
    assert not cuts.problems, "\n".join(cuts.problems[:8])
    for left in cuts.later:
        cuts.go_on(left)
    return recorder.steps


def test_power_cut_at_every_step_of_a_first_sync(served, root, cuts):
    steps = lived(root, cuts, lambda: run_sync(served, root))
    assert steps > 40
    assert cuts.made == steps * len(Way)
    assert len(cuts.later) > 5


def test_power_cut_at_every_step_of_a_sync_that_changes_and_adds(served, root, cuts):
    run_sync(served, root)
    served.replace_weights(make_document(0)["id"], weights_bytes(70))
    served.add(make_model(5))
    assert lived(root, cuts, lambda: run_sync(served, root, {"sync.publish_every": "0s"})) > 20
    assert len(cuts.later) > 3


def test_power_cut_after_a_blob_was_recognised_that_a_killed_run_had_not_made_durable(served, root, cuts):
    """The killed run had renamed the blob and not yet synced the folder: the row must not come before that is done."""
    run_sync(served, root)
    served.add(make_model(5))
    data = weights_bytes(5)

    def act():
        blob = blob_of(root, 5)
        os.makedirs(blob.parent, exist_ok=True)
        with files.create_exclusive(root / "incoming" / "left", 0o644) as stream:
            stream.write(data)
            os.fsync(stream.fileno())
        os.replace(root / "incoming" / "left", blob)
        assert run_sync(served, root).record.tally.reused.files == 1

    lived(root, cuts, act)


def test_power_cut_at_every_step_of_a_gc(served, root, cuts):
    run_sync(served, root)
    served.replace_weights(make_document(0)["id"], weights_bytes(70))
    run_sync(served, root)
    settings = settings_for(served, root, {"retention.superseded": "0s", "retention.grace": "0s"})

    def act():
        for _ in range(2):
            collect(settings, settings.retention, time.sleep)
        assert not blob_of(root, 0).exists()

    lived(root, cuts, act)


def test_power_cut_at_every_step_of_a_verify_that_puts_a_blob_aside(served, root, cuts):
    run_sync(served, root)
    flip(blob_of(root, 1))
    cuts.damaged = {blob_of(root, 1).stem}
    lived(root, cuts, lambda: run_verify(root))
    assert not blob_of(root, 1).exists()


def test_power_cut_at_every_step_of_a_migration(served, root, cuts):
    run_sync(served, root)
    age(root / "catalog.sqlite", "0001")
    lived(root, cuts, lambda: pin(settings_for(served, root), [make_document(0)["id"]], time.sleep))
    with Catalog(root / "catalog.sqlite") as catalog:
        assert [each.model_id for each in catalog.pins.all()] == [make_document(0)["id"]]


@pytest.mark.parametrize("forgotten", ["folders", "blobs", "index"])
def test_a_sync_that_forgot_to_sync_would_be_found_out(served, root, cuts, forgotten, monkeypatch):
    """The simulation has teeth: without one kind of fsync, something is lost at some step."""
    cuts.every = 10**6
    with Recorder(root, cuts):
        recorded = os.fsync

        def forgetful(descriptor):
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            kinds = {"folders": os.path.isdir(name), "blobs": "weights." in name, "index": "index." in name}
            if not kinds[forgotten]:
                recorded(descriptor)

        monkeypatch.setattr(os, "fsync", forgetful)
        run_sync(served, root)
        monkeypatch.undo()
    assert cuts.problems
