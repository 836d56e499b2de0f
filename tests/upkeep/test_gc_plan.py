"""What `gc` decides: tables for each rule, and histories at random that no plan may harm."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_mirror.catalog import Holding, Note
from registry_mirror.config import RetentionSettings, StoreSettings
from registry_mirror.store.layout import blob_name
from registry_mirror.upkeep.gc.plan import BlobFile, IndexView, Leftover, Survey, judge_blob, judge_part, plan
from registry_mirror.upkeep.gc.rules import Act, aged, evict, retain, unevictable

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = 86400.0
GRACE = 7 * DAY
RETENTION = RetentionSettings(superseded=30 * DAY, archived=None, gone=None, quarantine=30 * DAY, grace=GRACE)
STORE = StoreSettings("private")


def ago(days):
    return NOW - timedelta(days=days)


def md5_of(name):
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def blob_of(name):
    return blob_name(md5_of(name), "onnx")


def held(name="w", **changes):
    """Current weights of a live model, fetched a hundred days ago."""
    return replace(
        Holding(
            "m1", "forklifts", "onnx", md5_of(name), 10, True, ago(100), None, "ready", None, None, False, True, False
        ),
        **changes,
    )


def superseded(days, **changes):
    return held(**{"current": False, "superseded_at": None if days is None else ago(days), **changes})


def archived(days, **changes):
    return held(status="archived", archived_at=ago(days), **changes)


@pytest.mark.parametrize(
    ("limit", "since", "act"),
    [
        (None, ago(10**4), Act.KEEP),
        (DAY, ago(0.99), Act.KEEP),
        (DAY, ago(1), Act.DELETE),
        (0.0, NOW, Act.DELETE),
        (DAY, None, Act.DOUBT),
        (0.0, NOW + timedelta(seconds=1), Act.DOUBT),
    ],
)
def test_an_age_decides_only_when_it_is_known(limit, since, act):
    assert aged("rule", Act.DELETE, "old", since, limit, NOW).act is act


@pytest.mark.parametrize(
    ("row", "changes", "act", "rule"),
    [
        (held(), {}, Act.KEEP, "current"),
        (superseded(29), {}, Act.KEEP, "superseded"),
        (superseded(30), {}, Act.LET_GO, "superseded"),
        (superseded(30), {"superseded": None}, Act.KEEP, "superseded"),
        (superseded(None), {}, Act.DOUBT, "superseded"),
        (superseded(-1), {}, Act.DOUBT, "superseded"),
        (superseded(900, pinned=True), {}, Act.KEEP, "pinned"),
        (superseded(900, model_id="its successor is missing"), {}, Act.DOUBT, "superseded"),
        (superseded(30, gone_at=ago(900)), {}, Act.LET_GO, "superseded"),
        (held(gone_at=ago(900)), {}, Act.KEEP, "gone"),
        (held(gone_at=ago(90)), {"gone": 90 * DAY}, Act.LET_GO, "gone"),
        (held(gone_at=ago(89)), {"gone": 90 * DAY}, Act.KEEP, "gone"),
        (held(gone_at=ago(90), pinned=True), {"gone": 0.0}, Act.KEEP, "pinned"),
        (archived(900), {}, Act.KEEP, "archived"),
        (archived(90), {"archived": 90 * DAY}, Act.LET_GO, "archived"),
        (archived(1), {"archived": 90 * DAY}, Act.KEEP, "archived"),
        (held(status="archived"), {"archived": DAY}, Act.DOUBT, "archived"),
        (held(status="failed"), {"archived": 0.0, "gone": 0.0}, Act.KEEP, "current"),
        (held(status="a status of tomorrow"), {"archived": 0.0, "gone": 0.0}, Act.KEEP, "current"),
    ],
)
def test_the_first_rule_with_something_to_say_decides_about_a_row(row, changes, act, rule):
    verdict = retain(row, replace(RETENTION, **changes), {("m1", "onnx")}, NOW)
    assert (verdict.act, verdict.rule) == (act, rule)
    assert verdict.reason


INDEX = IndexView(frozenset(), published_at=ago(1), built_at=ago(50))
SURVEY = Survey(NOW, (), {}, {}, INDEX, {}, (), (), last_ok_run=ago(1), last_run=ago(1), listed_at=ago(1))
FILE = BlobFile(10, ago(60))
LET_GO, STRAY = Note("superseded for 30 d", ago(7)), Note(None, ago(7))


@pytest.mark.parametrize(
    ("note", "found", "changes", "act", "rule"),
    [
        (LET_GO, FILE, {}, Act.DELETE, "unnamed"),
        (STRAY, FILE, {}, Act.DELETE, "unnamed"),
        (None, FILE, {}, Act.WAIT, "grace"),
        (Note("let go", None), FILE, {}, Act.WAIT, "grace"),
        (Note("let go", ago(6.99)), FILE, {}, Act.WAIT, "grace"),
        (Note("let go", ago(-1)), FILE, {}, Act.DOUBT, "grace"),
        (LET_GO, FILE, {"index": replace(INDEX, blobs=frozenset({blob_of("x")}))}, Act.KEEP, "index"),
        (LET_GO, FILE, {"index": None}, Act.DOUBT, "index"),
        (LET_GO, FILE, {"index": replace(INDEX, follows=False)}, Act.DOUBT, "index"),
        (LET_GO, FILE, {"index": replace(INDEX, built_at=None)}, Act.DOUBT, "index"),
        (LET_GO, FILE, {"index": replace(INDEX, built_at=ago(6))}, Act.DOUBT, "index"),
        (LET_GO, FILE, {"index": replace(INDEX, published_at=ago(-1))}, Act.DOUBT, "clock"),
        (LET_GO, FILE, {"last_run": ago(-400)}, Act.DOUBT, "clock"),
        (LET_GO, None, {}, Act.DOUBT, "file"),
        (LET_GO, BlobFile(10, ago(1)), {}, Act.WAIT, "file"),
        (LET_GO, BlobFile(10, ago(-1)), {}, Act.DOUBT, "file"),
        (STRAY, FILE, {"last_ok_run": None}, Act.DOUBT, "stray"),
        (STRAY, FILE, {"last_ok_run": ago(8)}, Act.DOUBT, "stray"),
        (LET_GO, FILE, {"last_ok_run": None}, Act.DELETE, "unnamed"),
    ],
)
def test_any_objection_keeps_a_blob_that_no_row_wants(note, found, changes, act, rule):
    verdict = judge_blob(blob_of("x"), found, note, replace(SURVEY, **changes), GRACE)
    assert (verdict.act, verdict.rule) == (act, rule)
    assert verdict.reason


@pytest.mark.parametrize(
    ("days", "alive", "spent", "act"),
    [
        (0, True, False, Act.KEEP),
        (7, True, False, Act.KEEP),
        (8, True, False, Act.DELETE),  # the number is somebody else's by now
        (1, False, False, Act.KEEP),
        (7, False, False, Act.DELETE),
        (6, None, False, Act.KEEP),
        (8, None, False, Act.DELETE),
        (-6, None, False, Act.KEEP),  # a clock was wrong: it ages once that time is over, or is old already
        (-8, None, False, Act.DELETE),
        (-8, True, False, Act.DELETE),
        (-355_000, None, False, Act.DELETE),
        (0, False, True, Act.DELETE),
        (0, None, True, Act.KEEP),
        (0, True, True, Act.KEEP),
    ],
)
def test_a_part_goes_when_it_is_a_week_old_or_of_no_use_and_its_process_is_gone(days, alive, spent, act):
    assert judge_part(Leftover("incoming/x.part", 5, ago(days), alive, spent), NOW).act is act


@pytest.mark.parametrize(("days", "kept"), [(29, True), (30, False), (-1, True)])
def test_what_is_in_quarantine_goes_by_age(days, kept):
    leftover = Leftover("quarantine/x.bad.host.7.ab", 5, ago(days))
    decided = plan(replace(SURVEY, quarantine=(leftover,)), RETENTION, STORE)
    assert [step.name for step in decided.sweep] == ([] if kept else ["quarantine/x.bad.host.7.ab"])


def test_a_name_that_is_none_of_the_stores_is_told_and_never_touched():
    decided = plan(replace(SURVEY, strangers={"ab/notes.txt": 7}), RETENTION, STORE)
    assert [(step.name, step.size, step.verdict.act) for step in decided.doubts] == [
        ("blobs/ab/notes.txt", 7, Act.DOUBT)
    ]
    assert decided.delete == decided.sweep == ()


# --- the quota -------------------------------------------------------------------------------------------------------

GIVEN = replace(STORE, quota=100, quota_high=90, quota_low=50)


def several(*days, size=20, **changes):
    """Models with a file each, published so many days ago, and the files."""
    rows = [
        held(f"w{number}", model_id=f"m{number}", size=size, fetched_at=ago(age), **changes)
        for number, age in enumerate(days)
    ]
    return rows, {blob_name(row.md5, "onnx"): row.size for row in rows}


@pytest.mark.parametrize(
    "changes",
    [
        {"pinned": True},
        {"gone_at": ago(1)},
        {"status": "archived"},
        {"status": "training"},
        {"current": False, "superseded_at": ago(1)},
        {"fresh": False},
        {"failing": True},
    ],
)
def test_what_the_upstream_cannot_give_again_is_never_evicted_and_neither_is_what_is_pinned(changes):
    rows, blobs = several(1, 2, 3, 4, 5, **changes)
    assert all(unevictable(row) for row in rows)
    found = evict(rows, 100, GIVEN, blobs, None)
    assert not found.chosen
    assert "100 B stay, more than 50 %" in found.remark


def test_the_least_recently_published_go_down_to_the_low_mark():
    rows, blobs = several(3, 5, 1, 4, 2)
    found = evict(rows, 100, GIVEN, blobs, None)
    assert [row.model_id for row in found.chosen] == ["m1", "m3", "m0"]
    assert found.remark is None
    assert {verdict.act for verdict in found.chosen.values()} == {Act.EVICT}


@pytest.mark.parametrize(("used", "evicts"), [(90, False), (91, True)])
def test_nothing_is_evicted_up_to_the_high_mark(used, evicts):
    rows, blobs = several(1, 2)
    assert bool(evict(rows, used, GIVEN, blobs, None).chosen) is evicts
    assert not evict(rows, used, STORE, blobs, None).chosen


@pytest.mark.parametrize(
    ("listed_at", "words"),
    [(None, "did not read the whole listing"), (ago(2.01), "ended 2 d"), (ago(-1), "a clock is wrong")],
)
def test_nothing_is_evicted_unless_the_upstream_has_lately_said_what_it_has(listed_at, words):
    rows, blobs = several(1, 2, 3, 4, 5)
    files = {name: BlobFile(size, ago(60)) for name, size in blobs.items()}
    survey = replace(SURVEY, holdings=tuple(rows), blobs=files)
    assert plan(survey, RETENTION, GIVEN).evict
    decided = plan(replace(survey, listed_at=listed_at), RETENTION, GIVEN)
    assert decided.evict == ()
    assert words in decided.remarks[0]


@pytest.mark.parametrize("changes", [{"last_run": ago(-400)}, {"index": replace(INDEX, published_at=ago(-1))}])
def test_a_clock_that_is_known_to_be_wrong_lets_nothing_go_either(changes):
    rows, blobs = several(1, 2, 3, 4, 5)
    files = {name: BlobFile(size, ago(60)) for name, size in blobs.items()}
    survey = replace(SURVEY, holdings=(*rows, held("now"), superseded(900, model_id="m1")), blobs=files)
    settings = replace(RETENTION, superseded=0.0)
    whole = plan(replace(survey, blobs=files | {blob_of("now"): BlobFile(10, ago(60))}), settings, GIVEN)
    assert whole.evict
    assert whole.let_go
    decided = plan(replace(survey, blobs=files | {blob_of("now"): BlobFile(10, ago(60))}, **changes), settings, GIVEN)
    assert decided.let_go == decided.evict == ()
    assert [row.verdict.rule for row in decided.doubts] == ["clock"]
    assert "the clock is behind" in decided.remarks[0]


def test_a_file_that_several_models_have_goes_with_all_of_them_or_not_at_all():
    rows, blobs = several(9, 8, 2, 3, 1)
    shared = held("w0", model_id="other", size=20, fetched_at=ago(0))
    chosen = evict([*rows, shared], 100, GIVEN, blobs, None).chosen
    assert {row.model_id for row in chosen} == {"m1", "m2", "m3"}
    pinned = replace(shared, pinned=True)
    assert "m0" not in {row.model_id for row in evict([*rows, pinned], 100, GIVEN, blobs, None).chosen}


def test_what_is_on_its_way_out_already_does_not_count_against_the_quota():
    rows, blobs = several(1, 2)
    files = {name: BlobFile(size, ago(60)) for name, size in blobs.items()} | {blob_of("gone"): BlobFile(60, ago(60))}
    survey = replace(SURVEY, holdings=tuple(rows), blobs=files, notes={blob_of("gone"): Note("let go", ago(1))})
    decided = plan(survey, RETENTION, GIVEN)
    assert decided.evict == ()
    assert [step.size for step in decided.wait] == [60]


# --- histories at random ---------------------------------------------------------------------------------------------


@dataclass
class Catalog:
    rows: dict[tuple[str, str], Holding] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    revision: int = 0
    name: int = 0
    runs: list[datetime] = field(default_factory=list)

    def copy(self):
        return replace(
            self, rows=dict(self.rows), notes=dict(self.notes), changed=dict(self.changed), runs=list(self.runs)
        )

    def touch(self, models):
        self.revision += 1
        self.changed |= dict.fromkeys(models, self.revision)

    def names_of(self, model):
        return frozenset(blob_name(row.md5, "onnx") for (owner, _), row in self.rows.items() if owner == model)


@dataclass
class World:
    """A root in memory, carried through a history. `seen` are the indexes with the time at which each was replaced."""

    retention: RetentionSettings = RETENTION
    store: StoreSettings = STORE
    now: datetime = NOW
    catalog: Catalog = field(default_factory=Catalog)
    backup: Catalog = field(default_factory=Catalog)
    disk: dict[str, BlobFile] = field(default_factory=dict)
    index: IndexView | None = None
    index_of: tuple[int, int] = (0, -1)
    in_index: dict[str, frozenset[str]] = field(default_factory=dict)
    seen: list[tuple[frozenset[str], datetime]] = field(default_factory=list)
    catalogs: int = 0
    deleted: int = 0

    def wait(self, days):
        self.now += timedelta(days=days)

    def fetch(self, model, content):
        """Weights come, or are recognised, and are recorded; what was current is superseded."""
        name = blob_of(content)
        self.disk[name] = BlobFile(10, self.now)
        rows = self.catalog.rows
        for key, row in list(rows.items()):
            if key[0] == model and row.current and row.md5 != md5_of(content):
                rows[key] = replace(row, current=False, superseded_at=self.now)
        rows[model, content] = held(content, model_id=model, fetched_at=self.now)
        self.catalog.notes.pop(name, None)
        self.catalog.touch([model])

    def stray(self, content):
        self.disk.setdefault(blob_of(content), BlobFile(10, self.now))

    def gone(self, model):
        self.change(model, gone_at=self.now)

    def archived(self, model):
        self.change(model, status="archived", archived_at=self.now)

    def back(self, model):
        self.change(model, gone_at=None, status="ready", archived_at=None)

    def pin(self, model, pinned):
        self.change(model, pinned=pinned)

    def back_up(self):
        self.backup = self.catalog.copy()

    def restore(self):
        self.catalog = self.backup.copy()

    def lose_catalog(self):
        self.catalogs += 1
        self.catalog = Catalog(name=self.catalogs)

    def lose_index(self):
        if self.index is not None:
            self.seen.append((self.index.blobs, self.now))
            self.index = None

    def change(self, model, **changes):
        for key, row in self.catalog.rows.items():
            if key[0] == model:
                self.catalog.rows[key] = replace(row, **changes)
        self.catalog.touch([model])

    def publish(self):
        """As the index is published: the last one with what changed since, or all of it anew."""
        here, base = (self.catalog.name, self.catalog.revision), self.index_of
        if base == here and self.index is not None:
            return
        extends = self.index is not None and base[0] == here[0] and base[1] <= here[1]
        if self.index is not None:
            self.seen.append((self.index.blobs, self.now))
        models = {model for model, _ in self.catalog.rows} | set(self.catalog.changed)
        fresh = {model for model in models if not extends or self.catalog.changed.get(model, 0) > base[1]}
        self.in_index = (self.in_index if extends else {}) | {each: self.catalog.names_of(each) for each in fresh}
        built = self.index.built_at if extends else self.now
        self.index = IndexView(frozenset().union(*self.in_index.values()), self.now, built)
        self.index_of = here

    def sync_ends(self):
        self.publish()
        self.catalog.runs.append(self.now)

    def survey(self):
        here = (self.catalog.name, self.catalog.revision)
        follows = self.index_of[0] == here[0] and self.index_of[1] <= here[1]
        index = None if self.index is None else replace(self.index, follows=follows)
        run = self.catalog.runs[-1] if self.catalog.runs else None
        rows = tuple(self.catalog.rows.values())
        return Survey(self.now, rows, dict(self.catalog.notes), dict(self.disk), index, {}, (), (), run, run, run)

    def gc(self):
        retention = self.retention
        decided = plan(self.survey(), retention, self.store)
        named_within_grace = set().union(
            self.index.blobs if self.index else (),
            *(names for names, until in self.seen if (self.now - until).total_seconds() < retention.grace),
        )
        doomed = {step.name.removeprefix("blobs/") for step in decided.delete}
        assert not doomed & named_within_grace
        assert not doomed & {blob_name(row.md5, "onnx") for row in self.catalog.rows.values()}
        assert not any(row.held.pinned for row in (*decided.let_go, *decided.evict))
        for name in decided.forget:
            self.catalog.notes.pop(name, None)
        going = [*decided.let_go, *decided.evict]
        for row in going:
            self.catalog.rows = {key: one for key, one in self.catalog.rows.items() if one != row.held}
            self.catalog.notes[row.blob] = Note(row.verdict.reason, None)
        if going:
            self.catalog.touch({row.held.model_id for row in going})
        self.publish()
        wanted = {blob_name(row.md5, "onnx") for row in self.catalog.rows.values()}
        for name in {*decided.begin, *(row.blob for row in going)} - self.index.blobs - wanted:
            note = self.catalog.notes.get(name, Note(None, None))
            self.catalog.notes[name] = replace(note, since=note.since or self.now)
        for name in doomed:
            del self.disk[name]
            self.catalog.notes.pop(name, None)
            self.deleted += 1


MODELS, CONTENTS = st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "3", "4", "5"])
ARGUMENTS = {
    World.wait: (st.sampled_from([0.1, 0.9, 3.1, 6.5, 8.0, 40.0]),),
    World.fetch: (MODELS, CONTENTS),
    World.publish: (),
    World.sync_ends: (),
    World.gc: (),
    World.stray: (CONTENTS,),
    World.gone: (MODELS,),
    World.archived: (MODELS,),
    World.back: (MODELS,),
    World.pin: (MODELS, st.booleans()),
    World.back_up: (),
    World.restore: (),
    World.lose_catalog: (),
    World.lose_index: (),
}
HISTORIES = st.lists(
    st.one_of(*(st.tuples(st.just(verb), *arguments) for verb, arguments in ARGUMENTS.items())), max_size=50
)


@settings(max_examples=400, deadline=None)
@given(
    history=HISTORIES,
    grace=st.sampled_from([0.0, DAY, GRACE]),
    limit=st.sampled_from([0.0, 3 * DAY, None]),
    quota=st.sampled_from([None, 15, 25]),
)
def test_no_history_leads_to_a_plan_that_takes_what_an_index_within_the_grace_period_named(
    history, grace, limit, quota
):
    retention = RetentionSettings(limit, limit, limit, 30 * DAY, grace)
    world = World(retention, replace(STORE, quota=quota))
    for verb, *arguments in history:
        verb(world, *arguments)


def test_a_superseded_file_goes_in_three_steps_and_only_after_its_time_and_the_grace_period():
    world = World()
    world.fetch("a", "1")
    world.sync_ends()
    world.wait(50)
    world.fetch("a", "2")
    world.sync_ends()
    told = []
    for _ in range(60):
        world.wait(1)
        world.gc()
        told.append((blob_of("1") in world.index.blobs, blob_of("1") in world.disk))
    assert told == [(True, True)] * 29 + [(False, True)] * 7 + [(False, False)] * 24
    assert blob_of("2") in world.disk


def world_with_an_old_note():
    """A backup of the catalog that has a blob's grace period over, made before another model came to want the blob."""
    world = World(replace(RETENTION, superseded=0.0))
    world.fetch("a", "1")
    world.publish()
    world.fetch("a", "2")
    world.sync_ends()
    world.wait(8)
    world.gc()
    world.wait(8)
    world.back_up()
    world.fetch("b", "1")
    world.sync_ends()
    world.wait(30)
    return world


def test_a_catalog_that_was_put_back_does_not_take_what_readers_saw_a_moment_ago():
    world = world_with_an_old_note()
    world.restore()
    world.sync_ends()
    assert blob_of("1") not in world.index.blobs
    world.gc()
    assert blob_of("1") in world.disk
    world.wait(8)
    world.gc()
    assert blob_of("1") not in world.disk


def test_an_index_ahead_of_the_catalog_takes_nothing():
    world = world_with_an_old_note()
    world.fetch("b", "2")
    world.publish()
    world.gc()
    assert blob_of("1") not in world.index.blobs
    world.restore()
    world.gc()
    assert blob_of("1") in world.disk
