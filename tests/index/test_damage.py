"""Damage to the index and to the catalog, wherever it is: noticed, mended from the other, or told with the cure."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from support.syncing import environment, files_under, mirror, run_sync, settings_for
from support.upstream import make_model
from support.verifying import run_verify

from registry_mirror import Mirror
from registry_mirror.damage import damage_of
from registry_mirror.errors import CatalogError, MirrorError, NoIndexError
from registry_mirror.writer import mend_catalog

if TYPE_CHECKING:
    from pathlib import Path

SEED = 2026
DAMAGES = int(os.environ.get("DAMAGES", "100"))  # `make test-kill` does 300


@pytest.fixture
def synced(upstream, root):
    for number in range(20, 50):
        upstream.add(make_model(number, size=64, description="d" * 300))
    run_sync(upstream, root)
    return root


def zero_page(path: Path, number: int) -> None:
    data = bytearray(path.read_bytes())
    data[number * 4096 : (number + 1) * 4096] = bytes(4096)
    put(path, data)


def put(path: Path, data: bytes) -> None:
    """In the place of the file, as the disk would have it: the same name, and no publication."""
    beside = path.with_name(".beside")
    beside.write_bytes(data)
    os.replace(beside, path)


def damaged(good: bytes, rnd: random.Random) -> bytes:
    """A copy with one kind of damage at a random place and of a random length."""
    data, pages = bytearray(good), len(good) // 4096
    kind, place, length = rnd.randrange(6), rnd.randrange(len(data)), rnd.choice((1, 7, 100, 4096, 20_000))
    if kind == 0:
        data[place : place + length] = bytes(len(data[place : place + length]))
    elif kind == 1:
        data[place : place + length] = rnd.randbytes(len(data[place : place + length]))
    elif kind == 2:
        for _ in range(40):
            data[rnd.randrange(len(data))] = rnd.randrange(256)
    elif kind == 3:
        one, other = rnd.randrange(pages) * 4096, rnd.randrange(pages) * 4096
        data[one : one + 4096], data[other : other + 4096] = data[other : other + 4096], data[one : one + 4096]
    elif kind == 4:
        del data[place:]
    else:
        data[place] ^= 1 << rnd.randrange(8)
    return bytes(data)


def use(root: Path) -> None:
    """What readers do. Whatever is wrong is one of our errors, and none of it a fault of ours."""
    with Mirror(root) as opened:
        for ask in (
            lambda: [each.metrics for each in opened.models.list(limit=500)],
            lambda: opened.models.get("model-00025").description,
            lambda: opened.models.path("model-00001"),
            lambda: [each.name for each in opened.models.iter()],
            opened.status,
        ):
            with contextlib.suppress(MirrorError):  # anything else is a fault of ours
                ask()


def test_random_damages_are_mended_or_named_and_no_blob_is_lost(upstream, synced):
    """After one sync, or one verify without the upstream, every reader works or names the file and the cure."""
    blobs, rnd = sorted(files_under(synced / "blobs")), random.Random(SEED)
    good = {name: (synced / name).read_bytes() for name in ("index.sqlite", "catalog.sqlite")}
    worked = 0
    for number in range(DAMAGES):
        name = ("index.sqlite", "catalog.sqlite")[number % 2]
        put(synced / name, damaged(good[name], rnd))
        if name == "index.sqlite":
            use(synced)
        told = None
        try:
            ended = run_sync(upstream, synced).error if number % 3 == 0 else run_verify(synced) and None
        except MirrorError as error:
            told = error
        else:
            told = ended
        worked += told is None
        assert told is None or (name in str(told) and told.hint), told
        use(synced)
        assert sorted(files_under(synced / "blobs")) == blobs
        for each, data in good.items():
            put(synced / each, data)
        shutil.rmtree(synced / "quarantine")
    assert worked > DAMAGES * 2 // 3


@pytest.mark.parametrize("mender", ["sync", "verify", "gc"])
def test_a_damaged_index_is_made_anew_from_the_catalog_and_said(upstream, synced, mender):
    index = synced / "index.sqlite"
    for number in range(2, index.stat().st_size // 4096, 7):
        zero_page(index, number)
    with Mirror(synced) as opened, pytest.raises(NoIndexError) as caught:
        list(opened.models.iter())
    assert "index.sqlite" in str(caught.value)
    assert "mirror verify" in str(caught.value)
    done = mirror(mender, env=environment(upstream, synced))
    assert done.returncode == 0, done.stderr
    assert "is not what was published (its bytes changed): it is made anew" in done.stderr
    with Mirror(synced) as opened:
        assert len(list(opened.models.iter())) == 33
    assert "not what was published" not in mirror(mender, env=environment(upstream, synced)).stderr


def test_a_text_that_changed_in_the_index_is_not_carried_on(upstream, synced):
    """Every page is sound, so nothing but the digest tells."""
    with contextlib.closing(sqlite3.connect(synced / "index.sqlite")) as database, database:
        database.execute("UPDATE models SET name = 'forged' WHERE name = 'model-00001'")
    upstream.add(make_model(99))
    run_sync(upstream, synced)
    with Mirror(synced) as opened:
        names = {each.name for each in opened.models.iter()}
    assert {"model-00001", "model-00099"} <= names
    assert "forged" not in names


def test_an_index_that_is_whole_is_not_made_anew(upstream, synced):
    before = (synced / "index.sqlite").stat()
    run_sync(upstream, synced)
    run_verify(synced, quick=True)
    with contextlib.closing(sqlite3.connect(synced / "catalog.sqlite")) as database, database:
        database.execute("DELETE FROM facts WHERE key = 'published_index'")  # as an older version leaves it
    with Mirror(synced) as opened:
        built = opened.status()
    run_sync(upstream, synced)
    assert built is not None
    assert (synced / "index.sqlite").stat().st_size == before.st_size


def test_a_damaged_catalog_is_made_anew_from_the_index_and_keeps_what_no_listing_tells(upstream, synced):
    env = environment(upstream, synced)
    assert mirror("pin", "model-00001", env=env).returncode == 0
    catalog = synced / "catalog.sqlite"
    for number in range(3, catalog.stat().st_size // 4096):
        zero_page(catalog, number)
    for verb in (["sync"], ["gc"], ["pin", "model-00002"]):
        done = mirror(*verb, env=env)
        assert done.returncode != 0
        assert "catalog.sqlite" in done.stderr
        assert "mirror verify" in done.stderr
        assert "a fault in registry-mirror" not in done.stderr
    done = mirror("verify", env=env)
    assert done.returncode == 0, done.stderr
    assert "the catalog was damaged" in done.stderr
    assert "made anew from the index" in done.stderr
    kept = [name for name in os.listdir(synced / "quarantine") if name.startswith("catalog.sqlite.bad.")]
    assert len(kept) == 1
    assert run_sync(upstream, synced).record.tally.fetched.files == 0
    with Mirror(synced) as opened:
        assert len(opened.status().pins) == 1 if hasattr(opened.status(), "pins") else True
        assert len(list(opened.models.iter())) == 33


def test_nothing_is_made_of_a_damaged_index_when_the_catalog_is_damaged_too(upstream, synced):
    for name in ("index.sqlite", "catalog.sqlite"):
        for number in range(1, (synced / name).stat().st_size // 4096, 2):
            zero_page(synced / name, number)
    with pytest.raises(CatalogError, match="no sound index") as caught:
        mend_catalog(settings_for(upstream, synced))
    assert "move both away" in str(caught.value)
    (synced / "index.sqlite").unlink()
    (synced / "catalog.sqlite").unlink()
    assert run_sync(upstream, synced).record.tally.reused.files == 33


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("CREATE TRIGGER t AFTER UPDATE ON facts BEGIN DELETE FROM weights; END", "trigger 't'"),
        ("CREATE VIEW v AS SELECT * FROM models", "view 'v'"),
    ],
)
def test_a_catalog_with_a_trigger_or_a_view_is_not_used(upstream, synced, planted, said):
    with contextlib.closing(sqlite3.connect(synced / "catalog.sqlite")) as database, database:
        database.execute(planted)
    for verb in ("sync", "gc"):
        done = mirror(verb, env=environment(upstream, synced))
        assert done.returncode == 1
        assert said in done.stderr
    assert mirror("verify", env=environment(upstream, synced)).returncode == 0
    assert mirror("sync", env=environment(upstream, synced)).returncode == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE models SET document = '{' WHERE rowid = 3",
        "UPDATE models SET name = CAST(x'ff41' AS TEXT) WHERE rowid = 3",
        "UPDATE models SET name = x'41' WHERE rowid = 3",
        "UPDATE models SET first_seen = 9000000000000000000 WHERE rowid = 3",
        "UPDATE weights SET size = 'many' WHERE rowid = 3",
        "CREATE VIEW v AS SELECT 1",
    ],
)
def test_what_sqlite_finds_sound_and_nobody_wrote_is_damage(synced, change):
    index = synced / "index.sqlite"
    assert damage_of(index, "mode=ro&immutable=1") is None
    assert damage_of(synced / "catalog.sqlite", "mode=ro") is None
    index.chmod(0o644)
    with contextlib.closing(sqlite3.connect(index)) as database, database:
        database.execute(change)
    assert damage_of(index, "mode=ro&immutable=1") is not None
    use(synced)
