"""A catalog that was lost, or a copy of a root that never had one: what the index names is not forgotten."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pytest
from support.documents import make_document, make_model, weights_bytes
from support.syncing import files_under, run_sync, settings_for
from support.upstream import FaultyUpstream

from registry_mirror import Mirror
from registry_mirror.catalog import Catalog
from registry_mirror.index import rebuild
from registry_mirror.model import micros, utc_now
from registry_mirror.upkeep.gc import collect as collector
from registry_mirror.upkeep.gc import survey
from registry_mirror.upkeep.gc.collect import collect
from registry_mirror.upkeep.pins import pin

ARCHIVED, GONE, RETRAINED, LIVE = (make_document(number)["id"] for number in range(4))
HELD = {ARCHIVED: 0, GONE: 1, RETRAINED: 502, LIVE: 3}


@pytest.fixture
def upstream():
    with FaultyUpstream([make_model(number) for number in range(4)]) as upstream:
        yield upstream


@pytest.fixture
def lost(upstream, root):
    """A root with an archived, a gone, a retrained and a pinned model, whose catalog was moved away."""
    run_sync(upstream, root)
    upstream.archive(ARCHIVED)
    upstream.remove(GONE)
    upstream.replace_weights(RETRAINED, weights_bytes(502))
    assert run_sync(upstream, root).exit_code == 0
    pin(settings_for(upstream, root), [LIVE], time.sleep)
    (root / "catalog.sqlite").rename(root.parent / "moved away")
    return root


def pictures(root):
    """What a reader is told of each model, but for when its weights were last seen to be its own."""
    with Mirror(root) as mirror:
        found = {each.id: each.mirror for each in mirror.models.iter(include_archived=True, include_gone=True)}
    return {each: (m.md5, m.first_seen, m.gone_at, m.pinned) for each, m in found.items()}


def gc_years_later(upstream, root, monkeypatch):
    """Two rounds of gc when every period is over, with a sync in between, as cron would have it."""
    for years in (1, 2):
        now = utc_now() + timedelta(days=365 * years)
        monkeypatch.setattr(survey, "utc_now", lambda now=now: now)
        monkeypatch.setattr(collector, "utc_now", lambda now=now: now)
        settings = settings_for(upstream, root)
        collect(settings, settings.retention, lambda _: None)
        with closing(sqlite3.connect(root / "catalog.sqlite")) as catalog, catalog:
            ended = micros(now)
            catalog.execute("UPDATE runs SET finished_at = ?", (ended,))


def check_all_there(root):
    for model_id, number in HELD.items():
        assert Mirror(root).models.path(model_id).read_bytes() == weights_bytes(number)


def test_a_sync_without_its_catalog_keeps_all_that_the_index_named(upstream, lost, monkeypatch):
    before = pictures(lost)
    done = run_sync(upstream, lost)
    assert (done.exit_code, done.record.tally.fetched.files) == (0, 0)
    assert pictures(lost) == before
    check_all_there(lost)
    old = Mirror(lost).models.path(RETRAINED, md5=make_model(2).weights["onnx"].md5.hex())
    assert old.read_bytes() == weights_bytes(2)
    gc_years_later(upstream, lost, monkeypatch)
    check_all_there(lost)
    assert not old.exists()  # superseded long since, as the ages of what was taken over tell


def test_a_run_that_fails_publishes_nothing_over_what_was_there(upstream, lost):
    before = pictures(lost)
    upstream.stop()
    assert run_sync(upstream, lost).exit_code == 5
    assert pictures(lost) == before


def test_a_copy_of_a_root_without_catalog_is_synced_on(upstream, lost, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("index.sqlite", "run.json"):
        shutil.copy2(lost / name, copy / name)
    shutil.copytree(lost / "blobs", copy / "blobs")
    before = pictures(copy)
    assert run_sync(upstream, copy).exit_code == 0
    assert {key: each[:3] for key, each in pictures(copy).items()} == {key: each[:3] for key, each in before.items()}
    gc_years_later(upstream, copy, monkeypatch)
    check_all_there(copy)


def test_bytes_that_were_copied_badly_are_found_by_the_sync(upstream, lost):
    blob = Mirror(lost).models.path(LIVE)
    blob.chmod(0o600)
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert run_sync(upstream, lost).record.tally.fetched.files == 1
    check_all_there(lost)
    assert len(files_under(lost / "quarantine")) == 1


def test_a_key_of_another_organisation_is_refused_also_without_the_catalog(lost):
    before = pictures(lost)
    stranger = make_model(9)
    stranger.document["organization_id"] = "11111111-0000-0000-0000-000000000000"
    with FaultyUpstream([stranger]) as other:
        done = run_sync(other, lost)
    assert done.exit_code == 2
    assert "this root mirrors organisation" in str(done.error)
    assert pictures(lost) == before


def test_evicted_weights_are_not_fetched_again_by_themselves(upstream, root):
    run_sync(upstream, root)
    with Catalog(root / "catalog.sqlite") as catalog:
        (held,) = (each for each in catalog.retention.holdings() if each.model_id == LIVE)
        catalog.retention.let_go({held: "quota"}, lambda _: "x", evicted_at=utc_now())
    run_sync(upstream, root)
    (root / "catalog.sqlite").unlink()
    assert run_sync(upstream, root).record.tally.fetched.files == 0
    assert not Mirror(root).models.get(LIVE).mirror.cached


def test_a_kill_while_it_is_rebuilt_leaves_no_catalog_that_knows_less(upstream, lost, monkeypatch):
    before, copied = pictures(lost), rebuild._copied

    def killed(catalog, index, steps, stamp_of):
        copied(catalog, index, steps[:-1], stamp_of)
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild, "_copied", killed)
    with pytest.raises(KeyboardInterrupt):
        run_sync(upstream, lost)
    assert not (lost / "catalog.sqlite").exists()
    monkeypatch.undo()
    assert run_sync(upstream, lost).exit_code == 0
    assert pictures(lost) == before


def test_an_index_that_cannot_be_read_gives_nothing_and_stops_nothing(upstream, lost):
    (lost / "index.sqlite").write_bytes(b"not an index" * 1000)
    assert run_sync(upstream, lost).exit_code == 0
    assert set(pictures(lost)) == {ARCHIVED, RETRAINED, LIVE}
