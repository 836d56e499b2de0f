"""The catalog: rows, revisions, and migrations that a kill cannot halve."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import inspect
from support.catalogs import models_since

from registry_mirror import CatalogError
from registry_mirror.catalog import Catalog, WeightsRecord, migrate, migration, needs_migration
from registry_mirror.catalog.database import connect
from registry_mirror.catalog.migration import HEAD, REVISIONS
from registry_mirror.catalog.models import ModelsTable
from registry_mirror.catalog.schema import metadata
from registry_mirror.digests import text_digest
from registry_mirror.model import micros, utc_now
from registry_mirror.store.parts import sweep_root

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(path):
    migrate(path)
    with Catalog(path) as opened:
        yield opened


def row(model_id="m1", **values):
    return {
        "id": model_id, "name": f"name of {model_id}", "status": "ready", "model_type": None, "architecture": None,
        "created_at": None, "updated_at": None, "document": "{}", "fingerprint": "f", "stamp": "s",
        **values,
    }  # fmt: skip


def weights(model_id="m1", md5="a" * 32, **values):
    return WeightsRecord(**{
        "model_id": model_id, "format": "onnx", "version": "1", "md5": md5, "sha256": "b" * 64, "size": 5, "stamp": "s",
        "declared_md5": True, "fetched_at": NOW, **values,
    })  # fmt: skip


def columns_of(path):
    engine = connect(path)
    try:
        found = inspect(engine)
        return {
            table: {(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)}
            for table in found.get_table_names()
            if table != "alembic_version"
        }
    finally:
        engine.dispose()


def test_migrations_make_the_tables_that_the_code_works_with(path, tmp_path):
    migrate(path)
    engine = connect(tmp_path / "declared.sqlite")
    metadata.create_all(engine)
    engine.dispose()
    assert columns_of(path) == columns_of(tmp_path / "declared.sqlite")


def schema_of(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        told = {
            table: [
                sorted(database.execute(f"PRAGMA {what}({table})").fetchall())
                for what in ("table_info", "foreign_key_list")
            ]
            for table in tables
        }
        indices = sorted(
            (table, name, unique, [row[2] for row in database.execute(f"PRAGMA index_info({name})")])
            for table in tables
            for _, name, unique, *_ in database.execute(f"PRAGMA index_list({table})")
        )
        version = database.execute("SELECT version_num FROM alembic_version").fetchall()
    # The order of columns is that of their coming.
    columns = {table: sorted(row[1:] for row in info) for table, (info, _) in told.items()}
    return columns, {table: keys for table, (_, keys) in told.items()}, indices, version


def test_a_new_catalog_is_what_all_migrations_make_and_needs_no_alembic(path, tmp_path):
    migrate(path)
    migrate(tmp_path / "stepwise.sqlite", target="0001")
    migrate(tmp_path / "stepwise.sqlite")
    assert schema_of(path) == schema_of(tmp_path / "stepwise.sqlite")
    assert not needs_migration(path)
    code = "import sys\nfrom pathlib import Path\nfrom registry_mirror.catalog import migrate\n"
    code += f"migrate(Path({str(tmp_path / 'other.sqlite')!r}))\nsys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_head_is_the_newest_migration_and_every_one_is_known():
    on_disk = sorted(each.name[:4] for each in VERSIONS.glob("0*.py"))
    assert tuple(on_disk) == REVISIONS
    assert on_disk[-1] == HEAD


def first_schema(path, models=3):
    """A catalog as the first version left it, with rows."""
    migrate(path, target="0001")
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO facts VALUES ('catalog_id', 'c1'), ('revision', '7')")
        for number in range(models):
            database.execute(
                "INSERT INTO models VALUES"
                " (?,?,'ready',NULL,NULL,'1',NULL,NULL,?,'f','s','2026-01-01T00:00:00Z',NULL,3)",
                (f"m{number}", f"name {number}", f'{{"id": "m{number}"}}'),
            )
            database.execute(
                "INSERT INTO weights VALUES (?,'onnx',?,'1','sha',5,'2026-01-01T00:00:00Z','s',1,1)",
                (f"m{number}", f"{number:032x}"),
            )
    database.close()


def test_a_catalog_of_the_first_schema_keeps_its_rows(path):
    first_schema(path)
    assert needs_migration(path)
    migrate(path)
    assert not needs_migration(path)
    with Catalog(path) as catalog:
        assert catalog.facts() == {"catalog_id": "c1", "revision": "7"}
        known = catalog.models.known()
        assert sorted(known) == ["m0", "m1", "m2"]
        assert known["m1"].weights[0].md5 == f"{1:032x}"
        assert known["m1"].absent == frozenset()


def test_times_become_numbers_and_those_that_cannot_be_read_are_none_or_now(path):
    first_schema(path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE models SET created_at = '2026-03-01T10:00:00+02:00', updated_at = 'a Sunday'")
        database.execute("UPDATE models SET first_seen = 'once' WHERE id = 'm1'")
        database.execute("UPDATE models SET gone_at = '2026-03-01T08:00:00.000001Z' WHERE id = 'm2'")
    began = micros(utc_now())
    migrate(path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT created_at, updated_at, first_seen, gone_at FROM models ORDER BY id").fetchall()
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    created, first = 1_772_352_000_000_000, 1_767_225_600_000_000
    assert rows[0] == (created, None, first, None)
    assert rows[1][2] >= began
    assert rows[2] == (created, None, first, created + 1)


def test_a_migrated_catalog_recognises_every_model_by_its_text(path):
    first_schema(path, models=2500)  # more than one statement fills
    migrate(path)
    with Catalog(path) as catalog:
        digests = {model_id: digest for model_id, *_, digest in catalog.models.recorded()}
    assert digests == {f"m{number}": text_digest(f'{{"id": "m{number}"}}'.encode()) for number in range(2500)}


KILLED = """
import os, signal, sys
from pathlib import Path
from registry_mirror.catalog import database, migrate
import alembic.operations.ops as ops

point = sys.argv[2]
if point == "in the upgrade":
    # After the first of two changes: half a schema, were it done in place.
    original = ops.CreateTableOp.create_table
    def kill(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
    ops.CreateTableOp.create_table = kill
    from alembic.operations import Operations
    Operations.create_table = kill
elif point == "before the rename":
    os.replace = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
else:
    os.fsync = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
migrate(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("point", ["in the upgrade", "before the sync", "before the rename"])
def test_a_migration_that_is_killed_leaves_the_catalog_as_it_was_and_the_next_one_works(path, point):
    first_schema(path)
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), point], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert migration.revision_of(path) == "0001"
    leftovers = [each for each in os.listdir(path.parent) if each.startswith(".catalog")]
    assert leftovers
    sweep_root(path.parent)
    migrate(path)
    assert os.listdir(path.parent) == ["catalog.sqlite"]
    with Catalog(path) as catalog:
        assert len(catalog.models.known()) == 3


def test_a_migration_that_fails_leaves_the_catalog_as_it_was(path, monkeypatch):
    first_schema(path)
    before = path.read_bytes()
    monkeypatch.setattr(migration, "_upgrade", lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
    with pytest.raises(RuntimeError):
        migrate(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["catalog.sqlite"]


def test_a_writer_without_the_run_lock_loses_nothing_to_a_migration_without_being_told(path, monkeypatch):
    first_schema(path)
    told, original = [], migration._sync

    def pin():
        try:
            other.set_facts({"pinned": "yes"})
        except CatalogError as error:
            told.append(str(error))

    def meanwhile(temporary):
        writer.start()
        writer.join(0.3)  # it would be done long since, were it not kept waiting
        original(temporary)

    monkeypatch.setattr(migration, "_sync", meanwhile)
    writer = threading.Thread(target=pin)
    with Catalog(path) as other:
        migrate(path)
        writer.join()
    with Catalog(path) as catalog:
        assert "pinned" not in catalog.facts()
        assert len(catalog.models.known()) == 3
    assert "no longer the file that it was" in told[0]
    assert os.listdir(path.parent) == ["catalog.sqlite"]


def test_alembic_is_not_even_imported_when_there_is_nothing_to_do(path):
    migrate(path)
    script = (
        "import sys; from pathlib import Path; from registry_mirror.catalog import Catalog, needs_migration\n"
        f"assert not needs_migration(Path({str(path)!r})); Catalog(Path({str(path)!r})).facts()\n"
        "assert 'sqlalchemy' in sys.modules; sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_newer_schema_is_refused_with_the_cure(path):
    migrate(path)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(CatalogError, match="upgrade registry-mirror"):
        needs_migration(path)


def test_a_file_that_is_no_catalog_is_refused_with_the_cure(path):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(CatalogError, match="built anew"):
        needs_migration(path)


def test_a_transaction_that_a_kill_left_open_is_rolled_back(path, catalog):
    catalog.models.record([row()], NOW)
    script = (
        "import os, signal, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA cache_size = 1'); database.execute('BEGIN IMMEDIATE')\n"
        "for n in range(3000): database.execute(\"INSERT INTO facts VALUES (?, ?)\", (str(n), 'x' * 500))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert path.with_name("catalog.sqlite-journal").exists()
    copied = path.with_name("copy")
    shutil.copytree(path.parent, copied)
    assert set(catalog.facts()) == {"catalog_id", "revision"}
    assert catalog.models.known()["m1"].name == "name of m1"


def test_every_change_of_a_model_raises_the_revision_and_is_found_since(catalog):
    def since(revision):
        return [each.model.id for each in models_since(catalog, revision)]

    catalog.models.record([row("m1"), row("m2")], NOW)
    first = catalog.revision()
    assert since(None) == ["m1", "m2"]
    assert since(first) == []
    for change in (
        lambda: catalog.weights.record([weights("m2")]),
        lambda: catalog.weights.record_failure("m2", "pytorch", "broken", NOW),
        lambda: catalog.weights.clear_failures(["m2"]),
        lambda: catalog.weights.record_absence("m2", "pte", "s"),
        lambda: catalog.models.mark_gone(["m2"], NOW),
        lambda: catalog.models.record([row("m2", status="failed")], NOW),
    ):
        before = catalog.revision()
        change()
        assert since(before) == ["m2"]


def test_what_changes_nothing_does_not_raise_the_revision(catalog):
    catalog.models.record([row()], NOW)
    before = catalog.revision()
    catalog.models.record([], NOW)
    catalog.weights.record([])
    catalog.models.mark_gone([], NOW)
    catalog.weights.clear_failures(["m1"])
    catalog.runs.record({"finished_at": "2026-01-01T00:00:00Z", "outcome": "ok"})
    assert catalog.revision() == before


def test_new_weights_take_the_place_of_old_ones_which_stay_on_record(catalog):
    catalog.models.record([row()], NOW)
    catalog.weights.record([weights(md5="a" * 32)])
    catalog.weights.record([weights(md5="c" * 32)])
    (found,) = models_since(catalog, None)
    assert {(each.md5[0], each.current) for each in found.weights} == {("a", 0), ("c", 1)}
    catalog.weights.record([weights(md5="a" * 32)])
    (found,) = models_since(catalog, None)
    assert {(each.md5[0], each.current) for each in found.weights} == {("a", 1), ("c", 0)}
    assert catalog.models.known()["m1"].weights[0].md5 == "a" * 32


@pytest.mark.parametrize("ask", [ModelsTable.recorded, ModelsTable.known])
def test_a_catalog_that_is_damaged_in_its_middle_is_named(path, ask):
    migrate(path)
    with Catalog(path) as catalog:
        catalog.models.record([row(f"m{number:04}", document="x" * 500) for number in range(500)], NOW)
    data = path.read_bytes()
    third = len(data) // 3 // 4096 * 4096
    path.write_bytes(data[:third] + b"\xff" * third + data[2 * third :])  # rows come before it fails
    with Catalog(path) as catalog, pytest.raises(CatalogError, match="the catalog failed: "):
        list(ask(catalog.models))


def test_of_two_weights_of_a_model_that_are_recorded_together_the_later_is_current(catalog):
    catalog.models.record([row(), row("m2")], NOW)
    catalog.weights.record([weights(md5="a" * 32), weights("m2", md5="b" * 32), weights(md5="c" * 32)])
    first, second = models_since(catalog, None)
    assert {(each.md5[0], each.current) for each in first.weights} == {("a", 0), ("c", 1)}
    assert [(each.md5[0], each.current) for each in second.weights] == [("b", 1)]


def test_failures_count_their_attempts_until_the_weights_come(catalog):
    catalog.models.record([row()], NOW)
    for _ in range(3):
        catalog.weights.record_failure("m1", "onnx", "broken", NOW)
    (found,) = models_since(catalog, None)
    assert found.failures[0].attempts == 3
    catalog.weights.record([weights()])
    (found,) = models_since(catalog, None)
    assert found.failures == ()


def test_a_model_that_comes_back_is_no_longer_gone_and_keeps_its_first_day(catalog):
    catalog.models.record([row()], NOW)
    catalog.models.mark_gone(["m1"], NOW)
    assert catalog.models.known()["m1"].gone
    catalog.models.record([row()], datetime(2027, 1, 1, tzinfo=UTC))
    assert not catalog.models.known()["m1"].gone
    (found,) = models_since(catalog, None)
    assert found.model.first_seen == micros(NOW)


def test_more_models_than_one_statement_takes(catalog):
    catalog.models.record([row(f"m{number}") for number in range(2500)], NOW)
    catalog.models.mark_gone([f"m{number}" for number in range(2500)], NOW)
    assert all(each.gone for each in catalog.models.known().values())
    assert len(list(models_since(catalog, 0))) == 2500


def test_two_writers_do_not_lose_each_others_rows(path, catalog):
    script = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from registry_mirror.catalog import Catalog\n"
        "catalog = Catalog(Path(sys.argv[1]))\n"
        "for n in range(40): catalog.weights.record_failure(sys.argv[2], 'onnx', str(n), datetime.now(UTC))\n"
        "catalog.close()"
    )
    catalog.models.record([row("m1"), row("m2")], NOW)
    before = catalog.revision()
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in ("m1", "m2")]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert catalog.revision() == before + 80
    assert sorted(each.failures[0].attempts for each in models_since(catalog, None)) == [40, 40]


def test_the_catalog_is_one_file_at_rest(path, catalog):
    catalog.models.record([row()], NOW)
    assert os.listdir(path.parent) == ["catalog.sqlite"]
