"""Publishing reads a large catalog in parts: writers come in between, and the next index has what they wrote."""

from __future__ import annotations

import random
import sqlite3

import pytest
from test_catalog import NOW, row, weights

from registry_mirror.catalog import Catalog, Verified, checks, engine, migrate, rows
from registry_mirror.files import PRIVATE
from registry_mirror.store.layout import Layout
from registry_mirror.sync.books import publish_index

IDS = [f"m{number}" for number in range(6)]


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """A root with six models that are read in three parts. Who waits for a lock in vain fails at once."""
    monkeypatch.setattr(engine, "_BUSY", 0.1)
    monkeypatch.setattr(rows, "_BATCH", 2)
    monkeypatch.setattr(checks, "_AT_ONCE", 2)
    found = Layout(tmp_path)
    migrate(found.catalog)
    with Catalog(found.catalog) as catalog:
        catalog.record_models([row(each) for each in IDS], NOW)
        catalog.record_weights([weights(each, md5_of(number)) for number, each in enumerate(IDS)])
        catalog.record_checks([Verified(md5_of(number), "onnx", 5, 7) for number in range(len(IDS))], NOW)
    return found


def md5_of(number):
    return f"{number:032x}"


def published(layout, catalog):
    """Publishes, and says what the index holds, table by table."""
    publish_index(layout, PRIVATE, catalog, lambda _: None)
    with sqlite3.connect(layout.index) as index:
        tables = ("models", "weights", "failures", "pins", "evicted", "checks")
        found = {table: sorted(map(str, index.execute(f"SELECT * FROM {table}"))) for table in tables}  # noqa: S608
        meta = dict(index.execute("SELECT key, value FROM meta WHERE key IN ('catalog_id', 'revision')"))
    index.close()
    return found, meta


@pytest.mark.parametrize("read", [Catalog.models_since, Catalog.checks_since])
def test_a_writer_does_not_wait_for_the_reader_of_a_large_catalog(layout, read):
    with Catalog(layout.catalog) as catalog, Catalog(layout.catalog) as other:
        count = 0
        for _ in read(catalog, None):
            other.record_failure("m0", "pytorch", "broken", NOW)  # would fail with "database is locked"
            count += 1
    assert count == len(IDS)


def test_each_check_comes_once_also_where_the_last_part_is_full(layout):
    with Catalog(layout.catalog) as catalog:
        assert [each.md5 for each in catalog.checks_since(None)] == [md5_of(number) for number in range(6)]
        revision = catalog.revision()
        catalog.record_checks([Verified(md5_of(number), "onnx", 5, 8) for number in (1, 4, 5)], NOW)
        assert [each.md5 for each in catalog.checks_since(revision)] == [md5_of(number) for number in (1, 4, 5)]


CHANGES = [
    lambda catalog, number: catalog.record_models([row(IDS[number], name=f"renamed {number}")], NOW),
    lambda catalog, number: catalog.record_weights([weights(IDS[number], md5_of(10 + number))]),
    lambda catalog, number: catalog.record_failure(IDS[number], "pytorch", "broken", NOW),
    lambda catalog, number: catalog.record_lost(md5_of(number), "onnx", "gone", NOW),
    lambda catalog, number: catalog.record_checks([Verified(md5_of(number), "onnx", 5, 9)], NOW),
    lambda catalog, number: catalog.pin([IDS[number]], NOW),
    lambda catalog, number: catalog.unpin([IDS[number]]),
    lambda catalog, number: catalog.mark_gone([IDS[number]], NOW),
    lambda catalog, number: catalog.record_models([row(f"new {number}")], NOW),
]


@pytest.mark.parametrize("seed", range(8))
def test_what_changes_while_an_index_is_made_is_in_the_next_one(layout, monkeypatch, seed):
    chance = random.Random(seed)
    with Catalog(layout.catalog) as catalog, Catalog(layout.catalog) as other:

        def disturbed(read):
            def found(revision):
                for each in read(revision):
                    chance.choice(CHANGES)(other, chance.randrange(len(IDS)))
                    yield each

            return found

        for _ in range(3):  # built, then brought up to date twice
            revision = catalog.revision()
            with monkeypatch.context() as patched:
                patched.setattr(catalog, "models_since", disturbed(catalog.models_since))
                patched.setattr(catalog, "checks_since", disturbed(catalog.checks_since))
                _, meta = published(layout, catalog)
            assert meta["revision"] == str(revision)
            assert catalog.revision() > revision
        followed = published(layout, catalog)
        layout.index.unlink()
        assert followed == published(layout, catalog)
