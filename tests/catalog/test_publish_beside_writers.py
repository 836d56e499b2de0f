"""Publishing beside writers of the catalog: they wait for the copying only, and no change is missed."""

from __future__ import annotations

import random
import sqlite3
import threading
from contextlib import contextmanager

import pytest
from test_catalog import NOW, row, weights

from registry_mirror.catalog import Catalog, Verified, database, migrate
from registry_mirror.files import PRIVATE
from registry_mirror.index import publish as publishing
from registry_mirror.store.layout import Layout
from registry_mirror.store.root import RootWatch
from registry_mirror.writer import Writer

IDS = [f"m{number}" for number in range(6)]


@pytest.fixture
def layout(tmp_path):
    """A root with six models."""
    found = Layout(tmp_path)
    migrate(found.catalog)
    with Catalog(found.catalog) as catalog:
        catalog.models.record([row(each) for each in IDS], NOW)
        catalog.weights.record([weights(each, md5_of(number)) for number, each in enumerate(IDS)])
        catalog.checks.record([Verified(md5_of(number), "onnx", 5, 7) for number in range(len(IDS))], NOW)
    return found


def md5_of(number):
    return f"{number:032x}"


def published(layout, catalog):
    """Publishes, and says what the index holds, table by table."""
    Writer(layout, PRIVATE, catalog, lambda _: None, RootWatch(layout.root)).publish_index()
    with sqlite3.connect(layout.index) as index:
        tables = ("models", "weights", "failures", "pins", "evicted", "checks")
        found = {table: sorted(map(str, index.execute(f"SELECT * FROM {table}"))) for table in tables}  # noqa: S608
        meta = dict(index.execute("SELECT key, value FROM meta WHERE key IN ('catalog_id', 'revision')"))
    index.close()
    return found, meta


def test_a_writer_that_comes_while_rows_are_copied_waits_and_is_in_the_next_index(layout, monkeypatch):
    copy, threads = publishing._copy, []
    with Catalog(layout.catalog) as catalog, Catalog(layout.catalog) as other:

        def beside(connection, base):
            copy(connection, base)
            if not threads:
                threads.append(threading.Thread(target=other.pins.add, args=(["m1"], NOW)))
                threads[0].start()
                threads[0].join(0.2)
                assert threads[0].is_alive()

        monkeypatch.setattr(publishing, "_copy", beside)
        found, _ = published(layout, catalog)
        threads[0].join(10)
        assert found["pins"] == []
        assert len(published(layout, catalog)[0]["pins"]) == 1


def test_a_writer_does_not_wait_for_the_indexes_of_a_large_index(layout, monkeypatch):
    monkeypatch.setattr(database, "_BUSY", 0.1)
    run = publishing._run
    with Catalog(layout.catalog) as catalog, Catalog(layout.catalog) as other:

        def beside(connection, script):
            run(connection, script)
            if "CREATE UNIQUE INDEX" in script:
                other.weights.record_failure("m0", "pytorch", "broken", NOW)  # would fail with "database is locked"

        monkeypatch.setattr(publishing, "_run", beside)
        assert published(layout, catalog)[0]["failures"] == []
        assert len(published(layout, catalog)[0]["failures"]) == 1


def test_a_catalog_that_stays_locked_is_told_and_the_index_stands(layout, monkeypatch):
    monkeypatch.setattr(publishing, "_BUSY", 0.1)
    with Catalog(layout.catalog) as catalog:
        published(layout, catalog)
        before = layout.index.read_bytes()
        catalog.pins.add(["m1"], NOW)
        facts, built = catalog.facts(), []
        monkeypatch.setattr(catalog, "facts", lambda: facts)
        monkeypatch.setattr(publishing, "_build", lambda *_: built.append(1))
        with sqlite3.connect(layout.catalog, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(database.CatalogError, match="locked"):
                published(layout, catalog)
        other.close()
        assert (layout.index.read_bytes(), built) == (before, [])  # it has waited once


CHANGES = [
    lambda catalog, number: catalog.models.record([row(IDS[number], name=f"renamed {number}")], NOW),
    lambda catalog, number: catalog.weights.record([weights(IDS[number], md5_of(10 + number))]),
    lambda catalog, number: catalog.weights.record_failure(IDS[number], "pytorch", "broken", NOW),
    lambda catalog, number: catalog.checks.record_lost(md5_of(number), "onnx", "gone", NOW),
    lambda catalog, number: catalog.checks.record([Verified(md5_of(number), "onnx", 5, 9)], NOW),
    lambda catalog, number: catalog.pins.add([IDS[number]], NOW),
    lambda catalog, number: catalog.pins.remove([IDS[number]]),
    lambda catalog, number: catalog.models.mark_gone([IDS[number]], NOW),
    lambda catalog, number: catalog.models.record([row(f"new {number}")], NOW),
]


@pytest.mark.parametrize("seed", range(8))
def test_what_changes_while_an_index_is_made_is_in_it_or_in_the_next_one(layout, monkeypatch, seed):
    chance = random.Random(seed)
    opened, digest_of = publishing._opened, publishing.digest_of
    with Catalog(layout.catalog) as catalog, Catalog(layout.catalog) as other:

        def change():
            for _ in range(3):
                chance.choice(CHANGES)(other, chance.randrange(len(IDS)))

        @contextmanager
        def disturbed(*args):
            change()
            with opened(*args) as connection:
                yield connection

        def disturbed_too(path):
            change()
            return digest_of(path)

        for _ in range(3):  # built, then brought up to date twice
            revision = catalog.revision()
            with monkeypatch.context() as patched:
                patched.setattr(publishing, "_opened", disturbed)
                patched.setattr(publishing, "digest_of", disturbed_too)
                _, meta = published(layout, catalog)
            assert revision < int(meta["revision"]) < catalog.revision()
        followed = published(layout, catalog)
        layout.index.unlink()
        assert followed == published(layout, catalog)
