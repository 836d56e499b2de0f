"""Looking for models in the index: by a few letters, and by how they are."""

from __future__ import annotations

import pytest
from support.roots import GONE, Root, failure

from registry_mirror.index.reader import IndexReader
from registry_mirror.index.search import Search, State


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.add("Forklift Finder", model_id="id-1", architecture="yolox-s")
    root.add("100%_sure\\", model_id="id-2", model_type="semantic_segmentation", architecture=None)
    root.add("Ärger", None, model_id="id-3", model_type=None)
    root.add("Dock", None, model_id="id-4", status="training")
    root.add("Label", None, model_id="id-5", status="failed")
    root.add("Old", model_id="id-6", status="archived")
    root.add("Away", model_id="id-7", status="archived", gone_at=GONE)
    root.add("New thing", None, model_id="id-8", status="evaluating")
    root.publish()
    return root


@pytest.fixture
def found(root):
    reader = IndexReader(root.layout.index)

    def find(text="", state=State.LIVE):
        rows = reader.read(lambda snapshot: list(snapshot.models(Search(text, state), "onnx")))
        tally = reader.read(lambda snapshot: snapshot.tally(text))
        assert state is None or tally[state] == len(rows)
        return {row.id for row in rows}

    yield find
    reader.close()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("forklift", {"id-1"}), ("FINDER", {"id-1"}), ("YOLOX", {"id-1"}), ("id-1", {"id-1"}),
        ("%", {"id-2"}), ("_", {"id-2", "id-1", "id-4", "id-5", "id-8"}), ("%_s", {"id-2"}), ("\\", {"id-2"}),
        ("0%s", set()), ("o_l", set()), ("semantic seg", {"id-2"}), ("semantic_seg", {"id-2"}),
        ("ärger", {"id-3"}), ("ÄRGER", {"id-3"}), ("Ärg", {"id-3"}),
        ("'; DROP TABLE models; --", set()), ('"', set()), ("\ud800", set()), ("nothing", set()),
    ],
)  # fmt: skip
def test_a_search_takes_what_was_typed_as_it_is_in_any_case(found, text, ids):
    assert found(text) == ids


@pytest.mark.parametrize(
    ("state", "ids"),
    [
        (State.LIVE, {"id-1", "id-2", "id-3", "id-4", "id-5", "id-8"}), (State.READY, {"id-1", "id-2", "id-3"}),
        (State.MISSING, {"id-3"}), (State.TRAINING, {"id-4"}), (State.FAILED, {"id-5"}), (State.OTHER, {"id-8"}),
        (State.ARCHIVED, {"id-6"}), (State.GONE, {"id-7"}), (None, {f"id-{number}" for number in range(1, 9)}),
    ],
)  # fmt: skip
def test_each_model_is_in_the_states_that_it_is_in(found, state, ids):
    assert found(state=state) == ids


def test_a_search_keeps_to_its_state(found):
    assert found("i", State.GONE) == {"id-7"}
    assert found("forklift", State.TRAINING) == set()


def test_superseded_weights_do_not_count_as_here(root):
    root.add("Was here", model_id="id-9", weights=(root.blob(b"old", current=False),))
    root.publish()
    reader = IndexReader(root.layout.index)
    assert reader.read(lambda snapshot: snapshot.tally("id-9"))[State.MISSING] == 1
    reader.close()


def test_failures_are_counted_and_the_latest_ones_given(root):
    for number in range(5):
        root.add(f"failing-{number}", None, failures=(failure(), failure(weights_format="json")))
    root.publish()
    reader = IndexReader(root.layout.index)
    assert reader.read(lambda snapshot: snapshot.count_failures()) == 10
    assert len(reader.read(lambda snapshot: snapshot.open_failures(3))) == 3
    assert len(reader.read(lambda snapshot: snapshot.open_failures())) == 10
    reader.close()
