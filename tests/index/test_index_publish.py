"""Publishing the index: whole or not at all, and only when something changed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.roots import CATALOG, FETCHED, SEEN, Root, failure

from registry_mirror.files import Modes
from registry_mirror.index import publish as publishing
from registry_mirror.index import schema
from registry_mirror.index.reader import IndexReader
from registry_mirror.index.values import CheckTotals
from registry_mirror.mirror import Mirror
from registry_mirror.model import BlobCheck, utc_now
from registry_mirror.store import parts as incoming

HERE = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "root")


def names(root: Root) -> set[str]:
    with Mirror(root.path) as mirror:
        return {model.name for model in mirror.models.iter()}


def meta(root: Root) -> dict[str, str]:
    with sqlite3.connect(root.layout.index) as connection:
        found = dict(connection.execute("SELECT key, value FROM meta"))
    connection.close()
    return found


@pytest.fixture
def asked(monkeypatch):
    """The revisions after which changes were copied, None for everything."""
    calls, copy = [], publishing._copy

    def spied(connection, base):
        calls.append(base)
        copy(connection, base)

    monkeypatch.setattr(publishing, "_copy", spied)
    return calls


@pytest.fixture
def at(monkeypatch):
    """Sets the clock of the publisher so many days ahead."""

    def move(days):
        monkeypatch.setattr(publishing, "utc_now", lambda: utc_now() + timedelta(days=days))

    return move


def test_an_index_of_a_clock_that_was_ahead_is_dated_anew_though_nothing_has_changed(root, at):
    at(2000)
    root.add("a")
    root.publish()
    ahead = meta(root)
    at(0)
    assert root.publish()
    found = meta(root)
    assert found["published_at"] == found["built_at"] < ahead["built_at"] == found["built_before"]
    assert not root.publish()
    root.add("b")
    root.publish()
    assert meta(root)["built_before"] == ahead["built_at"]
    assert names(root) == {"a", "b"}


def test_two_clocks_may_differ_by_a_minute_and_an_index_stays(root, monkeypatch):
    monkeypatch.setattr(publishing, "utc_now", lambda: utc_now() + timedelta(seconds=50))
    root.add("a")
    root.publish()
    monkeypatch.undo()
    assert not root.publish()


def test_a_new_index_holds_every_model_and_says_of_what_revision(root):
    root.add("a")
    root.add("b")
    assert root.publish(organization="acme") is True
    assert names(root) == {"a", "b"}
    found = meta(root)
    assert found.pop("published_at").endswith("Z")
    assert found.pop("built_at").endswith("Z")
    assert found == {"catalog_id": CATALOG, "revision": "2", "organization": "acme"}


def test_the_file_is_one_file_with_our_marks_and_a_rollback_journal(root):
    root.add()
    root.publish()
    header = root.layout.index.read_bytes()[:100]
    assert header[18:20] == b"\x01\x01"  # neither readers nor writers need a write-ahead log
    assert int.from_bytes(header[68:72]) == schema.APPLICATION_ID
    assert int.from_bytes(header[60:64]) == schema.USER_VERSION
    assert os.listdir(root.layout.incoming) == []
    assert sorted(os.listdir(root.path)) == ["blobs", "incoming", "index.sqlite"]


def test_nothing_new_touches_nothing(root, asked):
    root.add()
    assert root.publish(a="1")
    before = root.footprint()
    assert root.publish(a="1") is False
    assert root.footprint() == before
    assert asked == [None]


def test_another_meta_value_alone_is_published(root):
    root.add()
    root.publish(a="1")
    assert root.publish(a="2") is True
    assert meta(root)["a"] == "2"
    assert root.publish() is True
    assert "a" not in meta(root)


def test_only_what_changed_since_is_copied_and_replaced_whole(root, asked):
    kept = root.add("kept")
    changed = root.add("old name", weights=(root.blob(b"1"), root.blob(b"2", "pytorch")), failures=(failure(),))
    root.publish()
    root.alter(changed, name="new name", weights=(root.blob(b"3"),), failures=())
    assert root.publish() is True
    assert asked == [None, 2]
    assert names(root) == {"kept", "new name"}
    with sqlite3.connect(root.layout.index) as connection:
        rows = connection.execute("SELECT model_id, md5 FROM weights").fetchall()
        assert sorted(rows) == sorted([(kept.id, kept.weights[0].md5), (changed.id, root.blob(b"3").md5)])
        assert connection.execute("SELECT count(*) FROM failures").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    "why", ["another catalog", "index ahead", "no revision", "garbage", "empty", "another program", "newer", "older"]
)
def test_an_index_that_cannot_be_extended_is_built_anew(root, asked, why):
    root.add("a")
    root.publish()
    spoil(root, why)
    assert root.publish() is True
    assert asked == [None, None]
    assert names(root) == {"a"}
    assert meta(root)["catalog_id"] == CATALOG
    assert meta(root)["revision"] == "1"


def spoil(root: Root, why: str) -> None:
    index = root.layout.index
    if why in ("garbage", "empty"):
        index.write_bytes(b"<html>" * 1000 if why == "garbage" else b"")
        return
    statement = {
        "another catalog": "UPDATE meta SET value = 'other' WHERE key = 'catalog_id'",
        "index ahead": "UPDATE meta SET value = '7' WHERE key = 'revision'",
        "no revision": "DELETE FROM meta WHERE key = 'revision'",
        "another program": "PRAGMA application_id = 1",
        "newer": "PRAGMA user_version = 2",
        "older": "PRAGMA user_version = 0",
    }[why]
    connection = sqlite3.connect(index, isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_damage_that_shows_only_while_it_is_extended_leads_to_a_new_one(root, asked):
    for number in range(300):
        root.add(f"model {number}", None, description="x" * 500)
    root.publish()
    with root.layout.index.open("r+b") as file:
        file.seek(2 * schema.PAGE_SIZE)  # past the header and the meta table
        file.write(b"\xff" * (root.layout.index.stat().st_size - 2 * schema.PAGE_SIZE))
    root.add("new", None)
    assert root.publish() is True
    assert asked == [None, 300, None]
    assert len(names(root)) == 301


def test_a_failure_leaves_the_old_index_and_no_litter(root, monkeypatch):
    root.add("old")
    root.publish()
    before = root.layout.index.read_bytes()
    root.add("new")
    copy = publishing._copy

    def failing(connection, base):
        copy(connection, base)
        raise RuntimeError("the catalog went away")

    monkeypatch.setattr(publishing, "_copy", failing)
    for catalog in (CATALOG, "another"):
        with pytest.raises(RuntimeError):
            root.publish(catalog_id=catalog)
        assert root.layout.index.read_bytes() == before
        assert os.listdir(root.layout.incoming) == []


def test_a_catalog_that_is_damaged_leaves_the_old_index(root):
    for number in range(300):
        root.add(f"model {number}", None, description="x" * 500)
    root.publish()
    before = root.layout.index.read_bytes()
    root.add("new", None)
    root.write()
    with root.catalog.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * (root.catalog.stat().st_size - 20 * 4096))
    for catalog in (CATALOG, "another"):
        with pytest.raises(sqlite3.DatabaseError):
            root.publish(catalog_id=catalog)
    assert root.layout.index.read_bytes() == before
    assert os.listdir(root.layout.incoming) == []


def test_a_key_that_publish_sets_itself_is_refused(root):
    with pytest.raises(ValueError, match="published_at"):
        root.publish(published_at="never")


@pytest.mark.parametrize(
    ("umask", "modes", "expected"),
    [(0o022, Modes(), 0o644), (0o077, Modes(), 0o600), (0o077, Modes.for_sharing("group"), 0o664)],
)
def test_the_mode_obeys_the_umask_unless_a_group_shares_the_root(root, umask, modes, expected):
    root.add()
    old = os.umask(umask)
    try:
        root.publish(modes=modes)
    finally:
        os.umask(old)
    assert root.layout.index.stat().st_mode & 0o777 == expected


def test_side_files_of_another_tool_do_not_outlive_the_file_they_belonged_to(root):
    root.add()
    root.publish()
    stale = root.path / "index.sqlite-wal"
    stale.write_bytes(b"stale")
    root.add()
    root.publish()
    assert not stale.exists()


def test_half_a_surrogate_pair_does_not_keep_the_others_from_being_published(root):
    root.add("half \ud800", None, note="\udfff")
    root.add("whole", None)
    root.publish()
    assert names(root) == {"half \ud800", "whole"}
    with Mirror(root.path) as mirror:
        assert mirror.models.get("half \ud800").document["note"] == "\udfff"


def test_an_unreadable_time_is_the_oldest(root):
    for name, created in (("a", "yesterday"), ("b", None), ("c", "2026-01-01T00:00:00+02:00"), ("d", "2026-01-01")):
        root.add(name, None, created=created, model_id=name)
    root.publish()
    with Mirror(root.path) as mirror:
        assert [model.name for model in mirror.models.list()] == ["d", "c", "b", "a"]


KILLED = """
import sys
sys.path[:0] = sys.argv[2:4]
from pathlib import Path
from registry_mirror.index import publish as publishing
from support.roots import Root

root = Root(Path(sys.argv[1]))
root.revision = 10
for number in range(300):
    root.add(f"new {number}", None, note="x" * 200_000)  # more than the page cache holds
set_meta = publishing._set_meta
def stopping(*args):
    print("in the middle", flush=True)
    sys.stdin.read()
publishing._set_meta = stopping
root.publish()
"""


@pytest.mark.parametrize("anew", [False, True])
def test_a_kill_in_the_middle_leaves_the_old_index_whole_and_the_next_publish_works(root, anew):
    root.add("old")
    root.publish()
    if anew:
        spoil(root, "another catalog")
    before = root.layout.index.read_bytes()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(root.path), str(HERE), str(HERE.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout.readline() == b"in the middle\n"
        child.send_signal(signal.SIGKILL)
    assert root.layout.index.read_bytes() == before
    (left,) = root.layout.incoming.iterdir()
    assert left.stat().st_size > 0
    root.add("next")
    root.publish()
    assert names(root) == {"old", "next"}
    assert incoming.sweep(root.layout.incoming) == [left]  # its name tells whose it was


FULL = """
import sys
sys.path[:0] = sys.argv[2:4]
from pathlib import Path
from registry_mirror.errors import NoSpaceError
from support.roots import Root

root = Root(Path(sys.argv[1]))
root.add("old", None)
root.publish()
before = root.layout.index.read_bytes()
for changed in (None, "another catalog"):
    root.add("big", None, description="x" * 3_000_000)
    try:
        root.publish()
    except NoSpaceError as error:
        assert "index" in str(error)
    else:
        sys.exit("it was published")
    assert root.layout.index.read_bytes() == before
    assert list(root.layout.incoming.iterdir()) == []
print("named")
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a mount namespace")
def test_a_full_disk_is_named_and_leaves_the_old_index(tmp_path):
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; shift; exec "$@"'
    command = [sys.executable, "-c", FULL, str(tmp_path), str(HERE), str(HERE.parent)]
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("mounting is not allowed here")
    assert result.stdout == "named\n", result.stderr


def check(weights, at=FETCHED, mtime_ns=7, lost_at=None):
    """What a check of a blob found."""
    return BlobCheck(at, weights.size, mtime_ns, lost_at)


def checks(root: Root):
    """What a reader sees: the check of each blob, and how well all of them are known."""
    reader = IndexReader(root.layout.index)
    found = reader.read(lambda snapshot: ({each.md5: each.check for each in snapshot.blobs()}, snapshot.check_totals()))
    reader.close()
    return found


def test_a_check_that_is_still_to_come_counts_as_never_checked(root):
    ahead, checked = (root.add(name, name.encode()).weights[0] for name in "ab")
    root.check(ahead, check(ahead, utc_now() + timedelta(days=2000)))
    root.check(checked, check(checked))
    root.publish()
    assert checks(root)[1] == CheckTotals(1, FETCHED, 0)


def test_checks_reach_the_index_and_follow_without_their_models(root, asked):
    first, second = root.add("a", b"1").weights[0], root.add("b", b"2").weights[0]
    root.publish()
    assert checks(root) == ({first.md5: BlobCheck(), second.md5: BlobCheck()}, CheckTotals(2, None, 0))
    root.check(first, check(first))
    root.publish()
    assert asked == [None, root.revision - 1]
    assert checks(root) == ({first.md5: check(first), second.md5: BlobCheck()}, CheckTotals(1, FETCHED, 0))
    root.check(first, check(first, None))
    root.check(second, check(second, SEEN))
    root.publish()
    assert checks(root) == ({first.md5: check(first, None), second.md5: check(second, SEEN)}, CheckTotals(1, SEEN, 0))


def test_a_lost_blob_is_counted_although_no_weights_name_it(root):
    kept, lost = root.add("a", b"1").weights[0], root.add("b", b"2").weights[0]
    root.check(lost, check(lost, None, None, SEEN))
    root.check(kept, check(kept))
    root.publish()
    assert checks(root) == ({kept.md5: check(kept)}, CheckTotals(0, FETCHED, 1))


def test_an_index_from_before_there_were_checks_is_read_and_brought_up_to_date(root):
    weights = root.add("a", b"1").weights[0]
    root.publish()
    with sqlite3.connect(root.layout.index) as connection:
        connection.execute("DROP TABLE checks")
    connection.close()
    assert checks(root) == ({weights.md5: BlobCheck()}, CheckTotals(1, None, 0))
    root.check(weights, check(weights))
    root.publish()
    assert names(root) == {"a"}
    assert checks(root)[0] == {weights.md5: check(weights)}


def test_the_blobs_of_some_models_and_who_has_one(root):
    shared = root.blob(b"1")
    ids = [root.add(name, weights=(shared,)).id for name in ("b", "a")]
    other = root.add("c", weights=(replace(shared, sha256="0" * 64), root.blob(b"2", "pytorch")))
    root.publish()
    reader = IndexReader(root.layout.index)
    found = reader.read(
        lambda one: ([*one.blobs()], [*one.blobs({other.id})], [*one.blobs(())], one.holders(shared.md5, "onnx"))
    )
    reader.close()
    assert [(each.format, each.size) for each in found[0]] == [(each.format, each.size) for each in found[1]]
    assert found[2] == []
    assert {each.sha256 for each in found[0] if each.format == "onnx"} == {tuple(sorted(("0" * 64, shared.sha256)))}
    assert found[3] == [(ids[1], "a", True), (ids[0], "b", True), (other.id, "c", True)]
