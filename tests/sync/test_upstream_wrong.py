"""An upstream that changes under our hands: names that move, words nobody knew, rows that shift while they are read."""

from __future__ import annotations

import pytest
from support.documents import make_document, make_model, many_models
from support.syncing import run_sync
from support.upstream import Answer, Do, FaultyUpstream, Truncate, empty

from registry_mirror import Mirror
from registry_mirror.catalog import Catalog

IDS = [make_document(number)["id"] for number in range(12)]
SMALL_PAGES = {"upstream.page_size": 3}


def path_of(root, name):
    with Mirror(root) as mirror:
        return mirror.models.path(name)


def test_a_model_with_another_name_is_found_under_that_and_keeps_its_weights(upstream, root):
    run_sync(upstream, root)
    before = path_of(root, "model-00001")
    upstream.update(IDS[1], name="pallets")
    tally = run_sync(upstream, root).record.tally
    assert (tally.changed, tally.fetched.bytes) == (1, 0)
    assert path_of(root, "pallets") == before
    with Mirror(root) as mirror:
        assert "model-00001" not in [model.name for model in mirror.models.iter()]


def test_two_models_that_swap_their_names_keep_their_own_weights(upstream, root):
    run_sync(upstream, root)
    first, second = path_of(root, "model-00000"), path_of(root, "model-00001")
    upstream.update(IDS[0], name="model-00001")
    upstream.update(IDS[1], name="model-00000")
    assert run_sync(upstream, root).record.tally.fetched.bytes == 0
    assert (path_of(root, "model-00000"), path_of(root, "model-00001")) == (second, first)
    assert path_of(root, IDS[0]) == first


def test_a_status_and_a_type_that_nobody_knew_are_kept_word_for_word(upstream, root):
    run_sync(upstream, root)
    weights = path_of(root, "model-00001")
    upstream.update(IDS[1], status="distilling", model_type="mind_reading")
    upstream.add(make_model(7, status="hatching"))
    assert run_sync(upstream, root).exit_code == 0
    with Mirror(root) as mirror:
        found = mirror.models.get(IDS[1])
        assert (found.status, found.model_type) == ("distilling", "mind_reading")
        assert found.mirror.path == weights
        assert mirror.models.get("model-00007").status == "hatching"


@pytest.mark.parametrize("page", [0, 1, 2, 3])
def test_rows_that_shift_while_they_are_listed_lose_no_model(root, page):
    """A model comes to the front, so that a row is on two pages, and one goes, so that a row is on none."""
    with FaultyUpstream(many_models(12), page_cap=3) as upstream:
        run_sync(upstream, root, SMALL_PAGES)

        def shift():
            upstream.remove(IDS[1])
            upstream.remove(IDS[2])
            upstream.add(make_model(50, created_at="2027-01-01T00:00:00Z"))

        for _ in range(page):
            upstream.inject(Do(lambda: None), kind="list")
        upstream.inject(Do(shift), kind="list")
        assert run_sync(upstream, root, SMALL_PAGES).exit_code == 0
        with Catalog(root / "catalog.sqlite") as catalog:
            gone = {model_id for model_id, each in catalog.models.known().items() if each.gone}
        assert gone <= {IDS[1], IDS[2]}
        upstream.heal()
        assert run_sync(upstream, root, SMALL_PAGES).exit_code == 0
    with Mirror(root) as mirror:
        live = {model.id for model in mirror.models.iter()}
        assert live == {*IDS, make_document(50)["id"]} - {IDS[1], IDS[2]}
        for number in range(12):  # weights of what is gone stay
            assert mirror.models.path(IDS[number], verify=True).exists()


@pytest.mark.parametrize(
    "fault",
    [Truncate(300), Truncate(1), empty(), Answer(200, b"[]"), Answer(200, b'{"data": 7}'), Answer(200, b"\xff\xfe{")],
    ids=["cut", "one byte", "empty", "a list", "no rows", "no text"],
)
def test_a_listing_that_is_no_listing_marks_nothing_and_ends_with_1(upstream, root, fault):
    run_sync(upstream, root)
    upstream.inject(fault, kind="list", times=None)
    finished = run_sync(upstream, root)
    assert finished.exit_code == 1
    assert finished.record.error
    with Mirror(root) as mirror:
        assert all(model.mirror.gone_at is None and model.mirror.cached for model in mirror.models.iter())
