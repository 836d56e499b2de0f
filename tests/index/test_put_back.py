"""A catalog that was put back, by an operator from a backup or by a power cut that undid its last commit."""

from __future__ import annotations

import shutil
import time
from contextlib import closing

import pytest
from support.documents import make_document
from support.syncing import run_sync, settings_for
from support.verifying import run_verify

from registry_mirror import Mirror
from registry_mirror.catalog import Catalog
from registry_mirror.catalog.database import connect
from registry_mirror.index.publish import published_revision
from registry_mirror.upkeep.gc.collect import collect
from registry_mirror.upkeep.pins import pin, unpin

FIRST, SECOND = make_document(0)["id"], make_document(1)["id"]


@pytest.fixture
def put_back(upstream, root, tmp_path):
    """A root whose index is one revision ahead of its catalog: it says that the first model is pinned."""
    run_sync(upstream, root)
    shutil.copy2(root / "catalog.sqlite", tmp_path / "backup")
    pin(settings_for(upstream, root), [FIRST], time.sleep)
    shutil.copy2(tmp_path / "backup", root / "catalog.sqlite")
    return settings_for(upstream, root)


def pinned(root):
    with Mirror(root) as mirror:
        return {each.id for each in mirror.models.iter() if each.mirror.pinned}


def test_what_a_put_back_catalog_records_under_a_number_that_was_given_before_reaches_the_index(put_back, root):
    pin(put_back, [SECOND], time.sleep)
    assert pinned(root) == {SECOND}
    pin(put_back, [FIRST], time.sleep)
    assert pinned(root) == {FIRST, SECOND}
    unpin(put_back, [SECOND], time.sleep)
    assert pinned(root) == {FIRST}


@pytest.mark.parametrize("verb", ["sync", "verify", "gc"])
def test_every_writer_notices_a_put_back_catalog(put_back, upstream, root, verb):
    before = published_revision(root / "index.sqlite")
    upstream.update(SECOND, name="another")
    if verb == "sync":
        assert run_sync(upstream, root).exit_code == 0
    elif verb == "verify":
        run_verify(root)
    else:
        collect(put_back, put_back.retention, time.sleep)
    after = published_revision(root / "index.sqlite")
    assert after[0] != before[0]
    assert pinned(root) == set()
    with Catalog(root / "catalog.sqlite") as catalog:
        assert after == (catalog.facts()["catalog_id"], catalog.revision())


def test_a_catalog_that_was_not_put_back_keeps_its_name(upstream, root):
    run_sync(upstream, root)
    before = published_revision(root / "index.sqlite")
    pin(settings_for(upstream, root), [FIRST], time.sleep)
    run_sync(upstream, root)
    assert published_revision(root / "index.sqlite")[0] == before[0]


def test_a_commit_is_not_undone_by_a_power_cut(upstream, root):
    """EXTRA syncs the folder once the journal is gone; a journal that came back would undo the commit."""
    run_sync(upstream, root)
    engine = connect(root / "catalog.sqlite")
    with closing(engine.raw_connection()) as connection:
        assert connection.cursor().execute("PRAGMA synchronous").fetchone() == (3,)
    engine.dispose()
