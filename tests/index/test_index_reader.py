"""Reading the index: a whole picture, the newest one, and a clear word when there is none."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading

import pytest
from support.roots import GONE as AWAY
from support.roots import Root, failure

from registry_mirror.errors import NoIndexError, NotFoundError
from registry_mirror.index import queries
from registry_mirror.index.queries import Snapshot
from registry_mirror.index.reader import IndexReader
from registry_mirror.index.schema import ARCHIVED, GONE, LIVE, LIVE_CACHED, RANK, READY, shadowed
from registry_mirror.index.values import Record, Selection


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "a %20 root? #1")


@pytest.fixture
def reader(root):
    reader = IndexReader(root.layout.index)
    yield reader
    reader.close()


def names(reader: IndexReader, selection: Selection | None = None) -> list[str]:
    return [row.name for row in reader.stream(selection or Selection(), "onnx")]


def change(root: Root, statement: str) -> None:
    connection = sqlite3.connect(root.layout.index, isolation_level=None)
    connection.execute(statement)
    connection.close()


def break_open_files(path) -> int:
    """Makes every read of the open `path` fail, as a stale handle on a network share does; counts the files."""
    folder, broken = os.open("/", os.O_RDONLY), 0
    for name in os.listdir("/proc/self/fd"):
        try:
            same = os.path.samestat(os.fstat(int(name)), os.stat(path))
        except OSError:
            continue
        if same:
            os.dup2(folder, int(name))
            broken += 1
    os.close(folder)
    return broken


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


@pytest.mark.parametrize(
    ("status", "gone", "cached", "expected"),
    [
        ("ready", False, False, READY),
        ("ready", False, True, READY),
        ("failed", False, True, LIVE_CACHED),
        ("training", False, False, LIVE),
        ("paused", False, False, LIVE),
        ("archived", False, True, ARCHIVED),
        ("ready", True, True, GONE),
        ("archived", True, True, GONE),
    ],
)
def test_rank(status, gone, cached, expected):
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE weights (model_id, current)")
        database.execute("INSERT INTO weights VALUES ('m', ?)", (cached,))
        model = "(SELECT 'm' AS id, ? AS status, ? AS gone_at) m"
        found = database.execute(f"SELECT {RANK} FROM {model}", (str(status), 5 if gone else None)).fetchone()  # noqa: S608
    assert found == (expected,)


def test_only_the_one_that_a_name_means_shadows_others():
    namesakes = [("new", READY), ("old", READY), ("training", LIVE), ("away", GONE)]
    assert shadowed("new", namesakes) == ("old",)
    assert shadowed("old", namesakes) == ()
    assert shadowed("new", []) == ()


def test_every_question_has_its_answer(root, reader):
    weights = (root.blob(b"1"), root.blob(b"0", version="0", current=False), root.blob(b"p", "pytorch"))
    model = root.add("a", weights=weights, failures=(failure("x"),))
    other = root.add("b", None, status="training")
    root.publish(organization="acme")

    assert reader.read(Snapshot.meta)["organization"] == "acme"
    row = reader.read(lambda picture: picture.by_id(model.id, "onnx"))
    assert (row.name, row.document, row.weights) == ("a", model.document, weights[0])
    assert (row.first_seen, row.gone_at) == (model.first_seen, None)
    assert reader.read(lambda picture: picture.by_id(model.id, "pytorch")).weights == weights[2]
    assert reader.read(lambda picture: picture.by_id(other.id, "onnx")).weights is None
    assert reader.read(lambda picture: picture.by_id("nobody", "onnx")) is None
    assert {one.md5 for one in reader.read(lambda picture: picture.weights(model.id))} == {one.md5 for one in weights}
    assert reader.read(lambda picture: picture.weights(model.id))[-1] == weights[1]
    assert reader.read(lambda picture: picture.by_md5(weights[1].md5, "onnx")) == weights[1]
    assert reader.read(lambda picture: picture.by_md5(weights[1].md5, "pytorch")) is None
    assert reader.read(lambda picture: picture.failures(model.id)) == [failure("x")]
    (opened,) = reader.read(Snapshot.open_failures)
    assert (opened.model_id, opened.name, opened.failure) == (model.id, "a", failure("x"))
    assert reader.read(lambda picture: picture.names("B", 1)) == ["b", "a"]


def test_a_record_is_that_of_the_model_that_an_id_or_else_a_name_means(root, reader):
    old = root.add("same", None, created="2024-01-01T00:00:00Z")
    new = root.add("same", None, created="2025-01-01T00:00:00Z")
    named = root.add(old.id, None)  # somebody's name is somebody else's id
    gone = root.add("gone", None, gone_at=AWAY)
    root.publish()

    def asked(ids: tuple[str, ...], name: str) -> Record | None:
        found = reader.read(lambda picture: picture.record(ids, name))
        rows = [reader.read(lambda picture, each=each: picture.by_id(each, "onnx")) for each in ids]
        rows += reader.read(lambda picture: picture.by_name(name, "onnx", limit=1))
        row = next(filter(None, rows), None)
        assert found == (None if row is None else (row.document, row.first_seen, row.gone_at is not None))
        return found

    assert asked((old.id,), old.id).text == old.document
    assert asked((), old.id).text == named.document
    assert asked(("nobody", new.id), "gone").text == new.document
    assert asked(("same",), "same").text == new.document
    assert asked(("gone", "nobody"), "gone") == (gone.document, gone.first_seen, True)
    assert asked(("nobody",), "nobody") is None
    assert asked((), old.id).text == named.document  # also when it was asked before


def test_records_are_remembered_up_to_a_size(root, monkeypatch):
    monkeypatch.setattr(queries, "_RECORDS", 10_000)
    monkeypatch.setattr(queries, "_LARGEST_RECORD", 2_000)
    root.add("large", None, description="x" * 2_000)
    for number in range(20):
        root.add(f"m{number}", None)
    root.publish()
    with contextlib.closing(sqlite3.connect(root.layout.index)) as connection:
        said: list[str] = []
        picture = Snapshot(connection)
        connection.set_trace_callback(said.append)
        assert picture.record((), "m0") == picture.record((), "m0") is not None
        assert len(said) == 1
        assert picture.record((), "large") == picture.record((), "large") is not None
        assert len(said) == 3  # never remembered, and nothing was forgotten for it
        picture.record((), "m0")
        assert len(said) == 3
        said.clear()
        for number in range(20):
            assert json.loads(picture.record((), f"m{number}").text)["name"] == f"m{number}"
        assert len(said) == 19
        assert picture.record((), "m0") == picture.record((), "m0")
        assert len(said) == 20


def test_totals_count_blobs_once_and_gone_models_as_gone(root, reader):
    shared = root.blob(b"shared")
    root.add("a", weights=(shared, root.blob(b"older", current=False)))
    root.add("fork", weights=(shared,))
    root.add("waiting", None)
    root.add("paused", None, status="paused")
    root.add("away", gone_at=AWAY)
    root.publish()
    totals = reader.read(Snapshot.totals)
    assert totals.statuses == {"ready": 3, "paused": 1}
    assert totals.gone == 1
    assert (totals.files, totals.bytes) == (3, len(b"shared" + b"older" + b"weights"))
    assert (totals.cached_models, totals.ready_not_cached) == (3, 1)


def test_lists_are_read_in_order_without_sorting_documents(root):
    for number in range(50):
        root.add(f"{number}", None)
    root.publish()
    statements = []
    connection = sqlite3.connect(root.layout.index)
    connection.set_trace_callback(statements.append)
    for selection in (Selection(), Selection("ready"), Selection(model_type="classification"), Selection("a", "b")):
        list(Snapshot(connection).models(selection, "onnx"))
    queries = [statement for statement in statements if "FROM models m" in statement]
    assert len(queries) == 4
    connection.set_trace_callback(None)
    for query in queries:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        assert not [detail for _, parent, _, detail in plan if parent == 0 and "TEMP B-TREE" in detail], plan
    connection.close()


def test_documents_of_one_name_come_with_the_one_that_it_means_first_and_all_others_newest_first(root, reader):
    for model_id, status in (("a", "ready"), ("b", "training"), ("c", "ready"), ("d", "failed")):
        root.add("twins", None, model_id=model_id, status=status, created=f"2026-01-0{ord(model_id) - 96}")
    root.publish()

    def ids(selection, limit=10):
        found = reader.read(lambda snapshot: snapshot.documents(selection, limit, 0))
        return "".join(json.loads(document)["id"] for document, _, _ in found)

    assert ids(Selection(name="twins")) == "cadb"
    assert ids(Selection(name="twins"), limit=1) == "c"
    assert ids(Selection()) == "dcba"


def test_limit_and_offset_page_through_the_list(root, reader):
    for number in range(5):
        root.add(f"{number}", None, created=f"2026-01-0{number + 1}")
    root.publish()
    page = reader.read(lambda picture: [row.name for row in picture.models(Selection(), "onnx", 2, 1)])
    assert page == ["3", "2"]


def test_no_index_says_where_and_what_to_do(root, reader):
    with pytest.raises(NoIndexError, match=r"no index in .*root.*`mirror sync` has not run here yet") as caught:
        reader.read(Snapshot.meta)
    assert caught.value.exit_code == 2
    assert not root.layout.index.exists()
    with pytest.raises(NoIndexError, match="no index in"):
        IndexReader(root.path / "file" / "index.sqlite").read(Snapshot.meta)


def test_a_newer_index_says_so_and_what_to_install(root, reader):
    root.add()
    root.publish()
    change(root, "PRAGMA user_version = 2")
    with pytest.raises(NoIndexError, match="format 2, and this version reads 1; upgrade registry-mirror"):
        reader.read(Snapshot.meta)
    change(root, "PRAGMA user_version = 0")
    with pytest.raises(NoIndexError, match=r"old format 0.*run `mirror sync`"):
        reader.read(Snapshot.meta)


@pytest.mark.parametrize("content", [b"", b"<html>" * 2000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_what_is_no_index_is_refused_by_name(root, reader, content):
    root.layout.index.write_bytes(content)
    with pytest.raises(NoIndexError, match=r"index\.sqlite"):
        reader.read(Snapshot.meta)
    with pytest.raises(NoIndexError, match=r"index\.sqlite"):
        names(reader)


def test_another_program_s_database_is_refused(root, reader):
    change(root, "CREATE TABLE models (id)")
    with pytest.raises(NoIndexError, match="not an index of registry-mirror"):
        reader.read(Snapshot.meta)


def test_a_wrong_query_looks_like_a_bug_and_not_like_a_bad_file(root, reader):
    root.add()
    root.publish()
    with pytest.raises(sqlite3.ProgrammingError):
        reader.read(lambda picture: picture._connection.execute("SELECT ?"))


def test_a_picture_in_use_stays_whole_and_the_next_read_sees_the_new_one(root, reader):
    for number in range(2000):
        root.add(f"old {number}", None, description="x" * 300)
    root.publish()
    rows = reader.stream(Selection(), "onnx")
    first = next(rows).name
    for entry in list(root.entries.values()):
        root.alter(entry, name="new")
    root.publish()
    assert set(names(reader)) == {"new"}
    assert reader.read(lambda picture: picture.names("", 9)) == ["new"]
    rest = {row.name for row in rows}
    assert rest | {first} == {f"old {number}" for number in range(2000)}


def test_an_index_copied_over_in_place_is_noticed(root, reader):
    root.add("first")
    root.publish()
    assert names(reader) == ["first"]
    root.add("second", created="2027-01-01")
    os.link(root.layout.index, root.path / "kept")
    root.publish()
    new = root.layout.index.read_bytes()
    os.replace(root.path / "kept", root.layout.index)
    assert names(reader) == ["first"]
    root.layout.index.write_bytes(new)  # the same inode, as `cp` or `rsync --inplace` leave it
    assert names(reader) == ["second", "first"]


def test_a_truncated_index_is_an_error_until_it_is_replaced(root, reader):
    for number in range(300):
        root.add(f"{number}", None, description="x" * 500)
    root.publish()
    whole = root.layout.index.read_bytes()
    assert reader.read(lambda picture: picture.by_name("7", "onnx"))
    os.truncate(root.layout.index, len(whole) // 3)
    with pytest.raises(NoIndexError, match="cannot be read"):
        names(reader)
    (root.path / "new").write_bytes(whole)
    os.replace(root.path / "new", root.layout.index)
    assert len(names(reader)) == 300


@needs_proc
@pytest.mark.parametrize("error", [NotFoundError("no such model"), ValueError("a bad query")])
def test_an_answer_that_is_no_leaves_the_file_open_for_the_next_question(root, reader, error):
    root.add("a")
    root.publish()

    def refuse(_snapshot):
        raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            reader.read(refuse)
    assert break_open_files(root.layout.index) == 1
    assert reader.read(lambda snapshot: snapshot.by_name("a", "onnx"))


def test_pins_are_the_same_asked_one_by_one_and_all_at_once(root, reader):
    for number in range(30):
        root.add(f"model-{number:02d}")
    root.publish()
    pins = {each.id for each in list(root.entries.values())[::3]}
    connection = sqlite3.connect(root.layout.index)
    connection.executemany("INSERT INTO pins VALUES (?, 0)", [(each,) for each in pins])
    connection.commit()
    connection.close()
    assert {
        row.id for row in reader.read(lambda snapshot: list(snapshot.models(Selection(), "onnx"))) if row.pinned
    } == pins


def test_a_lookup_reads_no_pins_but_its_own(root, reader):
    root.add("a")
    root.publish()

    def loaded(snapshot: Snapshot) -> bool:
        assert not snapshot.by_name("a", "onnx")[0].pinned
        return snapshot._pinned is not None

    assert not reader.read(loaded)


def test_a_stale_handle_is_replaced_without_a_word(root, reader):
    for number in range(2000):
        root.add(f"{number}", None, description="x" * 500)
    root.publish()
    assert reader.read(lambda picture: picture.by_name("0", "onnx"))
    assert break_open_files(root.layout.index) == 1
    assert reader.read(lambda picture: picture.by_name("1999", "onnx"))
    assert reader.read(lambda picture: picture.by_name("1000", "onnx"))


@needs_proc
def test_a_list_goes_on_after_a_stale_handle_with_nothing_twice(root, reader):
    for number in range(3000):
        root.add(f"{number}", None, description="x" * 800)
    root.publish()
    rows = reader.stream(Selection(), "onnx")
    seen = [next(rows).name for _ in range(100)]
    assert break_open_files(root.layout.index) == 1
    seen += [row.name for row in rows]
    assert sorted(seen) == sorted(str(number) for number in range(3000))


def test_a_list_that_is_given_up_keeps_no_file_open(root, reader):
    root.add("a")
    root.add("b")
    root.publish()
    rows = reader.stream(Selection(), "onnx")
    next(rows)
    rows.close()
    reader.close()
    assert break_open_files(root.layout.index) == 0


def test_a_closed_reader_says_so(root, reader):
    root.add()
    root.publish()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(Snapshot.meta)


def test_threads_read_whole_pictures_while_fifty_are_published(root, reader):
    entries = [root.add(f"model {number}", None, status="0") for number in range(40)]
    root.publish(round="0")
    pictures, errors, done = [], [], threading.Event()

    def look(picture: Snapshot) -> tuple[str, set[str]]:
        return picture.meta()["round"], {row.status for row in picture.models(Selection(), "onnx")}

    def watch():
        mine = []
        try:
            while not done.is_set() or not mine:
                mine.append(reader.read(look))
            mine.append(reader.read(look))
        except BaseException as error:
            errors.append(error)
        pictures.append(mine)

    threads = [threading.Thread(target=watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 51):
        for entry in entries:
            root.alter(entry, status=str(number))
        assert root.publish(round=str(number))
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    for mine in pictures:
        assert all(statuses == {turn} for turn, statuses in mine)
        assert mine[-1][0] == "50"
        turns = [int(turn) for turn, _ in mine]
        assert turns == sorted(turns)
