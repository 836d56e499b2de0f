"""Models that need no look: who they are, how their rows are recognised, and that nothing slips by with them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.documents import make_document
from support.syncing import run_sync
from support.upstream import FaultyUpstream, many_models
from support.verifying import blob_of

from registry_mirror.catalog import Known, KnownWeights
from registry_mirror.demo import DemoModel
from registry_mirror.digests import text_digest
from registry_mirror.sources.api import decode
from registry_mirror.sources.api.decode import decode_page, decode_row
from registry_mirror.sources.source import ListedModel
from registry_mirror.store.layout import Layout, blob_name
from registry_mirror.store.root import inventory
from registry_mirror.sync.plan import Change, Policy, plan_model
from registry_mirror.sync.unchanged import HeldStamps, find_unchanged, stamps_here

if TYPE_CHECKING:
    from pathlib import Path

MD5 = "0123456789abcdef0123456789abcdef"
FORMATS = ("onnx", "pytorch")
PAGES = {"upstream.page_size": 10}


def row_of(text: str) -> ListedModel:
    row = decode_row(text.encode())
    assert isinstance(row, ListedModel)
    return row


# -- which -------------------------------------------------------------------------------------------------------------

weights = st.builds(
    KnownWeights,
    st.sampled_from(FORMATS),
    md5=st.just(MD5),
    sha256=st.just("0" * 64),
    size=st.sampled_from([1, 2]),
    stamp=st.sampled_from(["same", "older"]),
    lost=st.booleans(),
)
pairs = st.frozensets(st.tuples(st.sampled_from(FORMATS), st.sampled_from(["same", "older"])), max_size=2)


@given(
    status=st.sampled_from(["ready", "training", "archived", "unheard of"]),
    held=st.lists(weights, max_size=2, unique_by=lambda each: each.format),
    absent=pairs,
    evicted=pairs,
    whole=st.booleans(),
    formats=st.sampled_from([("onnx",), FORMATS]),
    sizes=st.dictionaries(st.sampled_from([blob_name(MD5, each) for each in FORMATS]), st.sampled_from([1, 2])),
)
def test_a_model_needs_no_look_exactly_when_its_plan_would_do_nothing(
    status, held, absent, evicted, whole, formats, sizes
):
    row = row_of(json.dumps(make_document(1, status=status)))
    stamps = {"same": row.stamp, "older": "older"}
    held = tuple(
        KnownWeights(each.format, each.md5, each.sha256, each.size, stamps[each.stamp], each.lost) for each in held
    )
    absent, evicted = (frozenset((name, stamps[stamp]) for name, stamp in each) for each in (absent, evicted))
    fingerprint = row.fingerprint if whole else ""
    known = Known(row.name, row.status, fingerprint, row.stamp, False, held, absent, evicted)
    done = [
        HeldStamps(
            stamps_here([(row.id, one.md5, one.size, one.stamp) for one in held if one.format == each and not one.lost],
                 each, sizes),
            {(row.id, stamp) for name, stamp in absent | evicted if name == each},
        )
        for each in formats
    ]  # fmt: skip
    found = find_unchanged([(row.id, row.status, row.stamp, fingerprint, row.text_digest)], done)
    step = plan_model(row, known, Policy(formats), sizes)
    assert found.present == (row.id,)
    assert bool(found.texts) is (step.change is Change.UNCHANGED and not step.fetches)


def test_a_model_with_an_open_failure_is_looked_at():
    row = row_of(json.dumps(make_document(1, status="training")))
    recorded = (row.id, row.status, row.stamp, row.fingerprint, row.text_digest)
    assert find_unchanged([recorded], []).texts == {text_digest(row.document.encode()): row.id}
    assert find_unchanged([(*recorded[:4], None)], []).texts == {}
    assert find_unchanged([recorded], [], {row.id}).texts == {}


# -- recognised --------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)  # fmt: skip


@given(extra=st.dictionaries(st.text(st.characters(codec="utf-8")), values), order=st.randoms())
def test_another_spelling_is_not_recognised_and_has_the_same_fingerprint(extra, order):
    document = extra | {"id": "m1", "name": "Gabelstapler ß", "status": "ready"}
    text = json.dumps(document)
    keys = list(document)
    order.shuffle(keys)
    other = json.dumps({key: document[key] for key in keys}, indent=1, ensure_ascii=False)
    texts = {text_digest(text.encode()): "m1"}
    assert decode_page(f'{{"data": [ {text} ]}}'.encode(), texts).same == ("m1",)
    again = decode_page(f'{{"data": [ {other} ]}}'.encode(), texts)
    assert again.same == ()
    (row,) = again.rows
    assert (row.fingerprint, row.stamp) == (row_of(text).fingerprint, row_of(text).stamp)


@pytest.mark.parametrize(
    "changed",
    ['"ready"', '"status": "Ready"', '"updated_at": null', '"name": "model-00002"', '"id": "other"', '"more": 1'],
)
def test_whatever_differs_is_news(changed):
    document = make_document(1)
    other = document | json.loads(f"{{{changed}}}" if ":" in changed else f'{{"status": {changed}, "x": 0}}')
    texts = {text_digest(json.dumps(document).encode()): document["id"]}
    (row,) = decode_page(json.dumps({"data": [other]}).encode(), texts).rows
    assert row.fingerprint != row_of(json.dumps(document)).fingerprint


def test_rows_are_recognised_on_a_page_that_only_the_lenient_reader_takes():
    texts = {text_digest(b'{"id": "a", "name": "n"}'): "a"}
    page = decode_page(b'{"data": [{"id": "a", "name": "n"}, {"id": "b", "name": "n", "x": NaN}]}', texts)
    assert page.same == ("a",)
    assert [row.id for row in page.rows] == ["b"]
    assert (page.count, page.ids) == (2, {"a", "b"})


# -- in a sync of several pages ----------------------------------------------------------------------------------------


def written(root: Path) -> tuple[object, ...]:
    """The index by its identity, and all that the catalog holds but the records of runs."""
    found = (root / "index.sqlite").stat()
    with contextlib.closing(sqlite3.connect(root / "catalog.sqlite")) as catalog:
        lines = [line for line in catalog.iterdump() if not line.startswith('INSERT INTO "runs"')]
    return found.st_ino, found.st_mtime_ns, lines


@pytest.fixture
def sixty(root):
    """Sixty models, synced, on pages of ten."""
    with FaultyUpstream(many_models(60)) as upstream:
        assert run_sync(upstream, root, PAGES).record.tally.added == 60
        yield upstream


def test_a_run_with_nothing_new_decodes_the_first_rows_only_and_writes_nothing(sixty, root, monkeypatch):
    decoded = []

    def counted(raw, row=decode_row):
        decoded.append(raw)
        return row(raw)

    before = written(root)
    monkeypatch.setattr(decode, "decode_row", counted)
    tally = run_sync(sixty, root, PAGES).record.tally
    assert (tally.listed, tally.unchanged) == (60, 60)
    assert 10 <= len(decoded) <= 20  # the first page, and a second that was fetched while it was looked at
    assert written(root) == before


def test_other_spellings_of_everything_write_nothing_and_ask_nothing(sixty, root):
    before = written(root)
    for model in sixty.models:
        sixty.add(DemoModel(dict(reversed(model.document.items())), model.weights))
    record = run_sync(sixty, root, PAGES).record
    assert (record.tally.listed, record.tally.unchanged, record.storage_requests) == (60, 60, 0)
    assert written(root) == before


@pytest.mark.parametrize("number", [0, 30, 59])
def test_one_that_changed_is_noticed_on_any_page(sixty, root, number):
    sixty.update(sixty.models[number].id, description="new")
    tally = run_sync(sixty, root, PAGES).record.tally
    assert (tally.listed, tally.changed, tally.unchanged) == (60, 1, 59)


@pytest.mark.parametrize("number", [0, 30, 59])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_blob_that_is_gone_or_cut_is_fetched_again_although_no_row_has_changed(sixty, root, number, damage):
    blob = blob_of(root, number)
    blob.unlink()
    if damage == "cut":
        blob.write_bytes(b"cut")
    tally = run_sync(sixty, root, PAGES).record.tally
    assert (tally.unchanged, tally.fetched.files) == (60, 1)
    assert blob.stat().st_size == 256


@pytest.mark.parametrize("number", [0, 30, 59])
def test_one_that_was_gone_and_is_listed_again_in_the_very_same_words_is_back(sixty, root, number):
    model = sixty.models[number]
    sixty.remove(model.id)
    assert run_sync(sixty, root, PAGES).record.tally.gone == 1
    sixty.add(model)
    tally = run_sync(sixty, root, PAGES).record.tally
    assert (tally.changed, tally.unchanged) == (1, 59)
    assert run_sync(sixty, root, PAGES).record.tally.unchanged == 60


def test_models_that_are_new_in_a_run_do_not_count_as_known_before_it(sixty, root):
    for model in sixty.models:
        sixty.remove(model.id)
    for model in many_models(60, start=1000):
        sixty.add(model)
    finished = run_sync(sixty, root, PAGES)
    assert "60 of 60 known models are missing" in str(finished.error)


def test_the_inventory_has_files_only_and_no_folder_is_an_empty_one(tmp_path):
    layout = Layout(tmp_path)
    assert inventory(layout) == {}
    folder = layout.blobs / "ab"
    folder.mkdir(parents=True)
    (folder / "whole.onnx").write_bytes(b"12345")
    (folder / "folder.onnx").mkdir()
    (folder / "nowhere.onnx").symlink_to("nothing")
    (layout.blobs / "a file").write_bytes(b"")
    assert inventory(layout) == {"ab/whole.onnx": 5}
