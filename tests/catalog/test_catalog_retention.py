"""Letting go of many rows: few statements, in transactions that let other writers in."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from support.catalogs import models_since

from registry_mirror.catalog import Catalog, Note, WeightsRecord, migrate
from registry_mirror.catalog import database as catalog_rows
from registry_mirror.model import micros, parse_time
from registry_mirror.store.layout import blob_name

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "catalog.sqlite")
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(path):
    with Catalog(path) as opened:
        yield opened


def md5_of(number):
    return f"{number:032x}"


def fill(catalog, count, first=0):
    """Models with one file each; the holdings in their order."""
    ids = [f"m{number:05}" for number in range(first, first + count)]
    nothing = dict.fromkeys(("model_type", "architecture", "version", "created_at", "updated_at"))
    same = {**nothing, "status": "ready", "document": "{}", "fingerprint": "f", "stamp": "s"}
    catalog.models.record([{**same, "id": each, "name": each} for each in ids], NOW)
    catalog.weights.record([weights_of(each, md5_of(first + n)) for n, each in enumerate(ids)])
    return catalog.retention.holdings()[-count:]


def weights_of(model_id, md5, weights_format="onnx"):
    return WeightsRecord(model_id, weights_format, None, md5, "b" * 64, 5, "s", declared_md5=True, fetched_at=NOW)


def name_of(held):
    return blob_name(held.md5, held.format)


def statements_of(catalog, act):
    """How many statements and how many transactions something takes."""
    counts = {"before_cursor_execute": 0, "commit": 0}
    listeners = [(name, lambda *_, of=name: counts.update({of: counts[of] + 1})) for name in counts]
    for name, listener in listeners:
        event.listen(catalog._engine, name, listener)
    act()
    for name, listener in listeners:
        event.remove(catalog._engine, name, listener)
    return tuple(counts.values())


def test_ten_times_the_rows_take_no_more_statements_and_one_transaction(catalog):
    def act(held):
        return lambda: catalog.retention.let_go(dict.fromkeys(held, "old"), name_of, evicted_at=NOW)

    few, many = fill(catalog, 40), fill(catalog, 400, first=40)
    assert statements_of(catalog, act(few)) == statements_of(catalog, act(many))
    assert catalog.retention.holdings() == []
    noted = [lambda held=held: catalog.retention.note_unnamed(list(map(name_of, held)), NOW) for held in (few, many)]
    assert statements_of(catalog, noted[0]) == statements_of(catalog, noted[1]) == (2, 1)
    assert set(catalog.retention.notes().values()) == {Note("old", NOW)}


def test_what_was_let_go_is_evicted_noted_and_found_by_the_next_index(catalog):
    first, second, third = fill(catalog, 3)
    before = catalog.revision()
    reasons = {third: "c", first: "a"}
    assert catalog.retention.let_go(reasons, name_of, evicted_at=LATER) == [third, first]
    assert catalog.retention.holdings() == [second]
    assert catalog.retention.notes() == {name_of(first): Note("a", None), name_of(third): Note("c", None)}
    assert [each.model.id for each in models_since(catalog, before)] == [first.model_id, third.model_id]
    evicted = {each.model.id: each.evictions for each in models_since(catalog, None)}
    assert evicted[second.model_id] == ()
    (row,) = evicted[third.model_id]
    assert (row.format, row.stamp, row.md5, row.size, row.evicted_at) == (
        "onnx", "s", third.md5, 5, micros(parse_time("2026-11-24T12:00:00Z"))
    )  # fmt: skip


def test_an_eviction_takes_the_place_of_an_older_one(catalog):
    (held,) = fill(catalog, 1)
    catalog.retention.let_go({held: "a"}, name_of, evicted_at=NOW)
    (found,) = models_since(catalog, None)
    assert found.evictions[0].evicted_at == micros(parse_time("2026-11-23T12:00:00Z"))
    catalog.weights.record([weights_of(held.model_id, held.md5)])
    assert next(models_since(catalog, None)).evictions == ()
    (again,) = catalog.retention.holdings()
    catalog.retention.let_go({again: "a"}, name_of, evicted_at=LATER)
    assert [each.evicted_at for each in next(models_since(catalog, None)).evictions] == [
        micros(parse_time("2026-11-24T12:00:00Z"))
    ]


def test_a_note_gets_a_new_reason_and_no_new_date_without_one(catalog):
    (held,) = fill(catalog, 1)
    name = name_of(held)
    catalog.retention.note_unnamed([name], NOW)
    catalog.retention.note_unnamed([name], LATER)
    assert catalog.retention.notes() == {name: Note(None, NOW)}
    catalog.retention.let_go({held: "superseded"}, name_of)
    assert catalog.retention.notes() == {name: Note("superseded", None)}
    catalog.retention.note_unnamed([name], LATER)
    assert catalog.retention.notes() == {name: Note("superseded", LATER)}


def test_between_two_transactions_others_write_and_what_they_change_is_left_alone(path, catalog, monkeypatch):
    monkeypatch.setattr(catalog_rows, "_TURN", 2)
    held = fill(catalog, 5)
    pauses = []

    def pin(seconds):  # with the lock still held, it would wait for half a minute and fail
        pauses.append(seconds)
        with Catalog(path) as other:
            other.pins.add([held[3].model_id], NOW)

    done = catalog.retention.let_go(dict.fromkeys(held, "old"), name_of, pause=pin)
    assert done == [*held[:3], held[4]]
    assert [each.model_id for each in catalog.retention.holdings()] == [held[3].model_id]
    assert name_of(held[3]) not in catalog.retention.notes()
    # SQLite asks for a lock every 0.1 s at most; nothing is left to wait for after the last one.
    assert [seconds > 0.1 for seconds in pauses] == [True, True]


def test_a_pin_that_waits_does_not_wait_for_all_of_them(path, catalog, monkeypatch):
    monkeypatch.setattr(catalog_rows, "_TURN", 1)
    held, begins, pinned = fill(catalog, 3), threading.Event(), threading.Event()
    seen = []

    def pin():
        with Catalog(path) as other:
            event.listen(other._engine, "before_cursor_execute", lambda *_: begins.set())
            other.pins.add([held[2].model_id], NOW)
        pinned.set()

    waiting = threading.Thread(target=pin)

    def name_under_lock(each):
        if each == held[0]:
            waiting.start()
            assert begins.wait(20)
        seen.append(pinned.is_set())
        return name_of(each)

    done = catalog.retention.let_go(dict.fromkeys(held, "old"), name_under_lock)
    waiting.join()
    assert (seen, done) == ([False, True], held[:2])


def test_what_ends_it_between_two_transactions_leaves_whole_ones_and_the_next_goes_on(catalog, monkeypatch):
    monkeypatch.setattr(catalog_rows, "_TURN", 2)
    held = fill(catalog, 5)
    before = catalog.revision()

    def killed(_seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.retention.let_go(dict.fromkeys(held, "old"), name_of, pause=killed)
    assert catalog.retention.holdings() == held[2:]
    assert list(catalog.retention.notes()) == [name_of(each) for each in held[:2]]
    assert [each.model.id for each in models_since(catalog, before)] == [each.model_id for each in held[:2]]
    assert catalog.retention.let_go(dict.fromkeys(held, "old"), name_of, pause=lambda _: None) == held[2:]
    with pytest.raises(KeyboardInterrupt):
        catalog.retention.note_unnamed([name_of(each) for each in held], NOW, killed)
    assert [note.since for note in catalog.retention.notes().values()] == [NOW, NOW, None, None, None]


def test_rows_end_the_grace_of_their_own_blobs_and_find_them_without_reading_every_note(catalog):
    (held,) = fill(catalog, 1)
    own, other = "ab" * 16, "ab" * 15 + "ac"
    names = [blob_name(own, "onnx"), blob_name(own, "of tomorrow"), blob_name(other, "onnx")]
    catalog.retention.note_unnamed(names, NOW)
    plans = []

    def explain(_connection, cursor, statement, parameters, _context, many):
        if "unnamed" in statement:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters)
            plans.extend(row[3] for row in cursor.fetchall())

    event.listen(catalog._engine, "before_cursor_execute", explain)
    catalog.weights.record([weights_of(held.model_id, own)])
    assert list(catalog.retention.notes()) == [names[2]]
    assert plans
    assert [plan for plan in plans if not plan.startswith("SEARCH unnamed USING")] == ["SCAN unnamed"]  # `notes` itself


def test_the_pause_between_two_transactions_is_real(catalog, monkeypatch):
    monkeypatch.setattr(catalog_rows, "_TURN", 1)
    monkeypatch.setattr(catalog_rows, "_LET_IN", 0.03)
    began = time.monotonic()
    catalog.retention.note_unnamed(["x", "y"], NOW)
    assert time.monotonic() - began >= 0.03
