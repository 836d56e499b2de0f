"""Checks of blobs in the catalog: one row a blob, lost ones out of the index until they come again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from support.catalogs import checks_since, models_since
from test_catalog import NOW, first_schema, row, weights

from registry_mirror.catalog import Catalog, Holder, Verified, migrate
from registry_mirror.model import BlobCheck

LATER = datetime(2026, 11, 24, 12, tzinfo=UTC)
A, C = "a" * 32, "c" * 32


@pytest.fixture
def catalog(tmp_path):
    """Two models of one blob, and a third with one of its own."""
    migrate(tmp_path / "catalog.sqlite")
    with Catalog(tmp_path / "catalog.sqlite") as opened:
        opened.models.record([row("m1"), row("m2"), row("m3")], NOW)
        opened.weights.record([weights("m1", A), weights("m2", A), weights("m3", C)])
        yield opened


def weights_of(catalog, revision=None):
    """Model id and MD5 of the weights that the index would take."""
    found = {each.model.id: {one.md5 for one in each.weights} for each in models_since(catalog, revision)}
    return {model_id: "".join(sorted(md5[0] for md5 in md5s)) for model_id, md5s in found.items()}


def test_a_catalog_of_the_second_schema_has_checked_nothing(tmp_path):
    first_schema(tmp_path / "catalog.sqlite")
    migrate(tmp_path / "catalog.sqlite", target="0002")
    migrate(tmp_path / "catalog.sqlite")
    with Catalog(tmp_path / "catalog.sqlite") as catalog:
        assert [blob.check for blob in catalog.checks.blobs()] == [BlobCheck()] * 3


def test_a_blob_that_two_models_share_is_one_blob(catalog):
    assert sorted((blob.md5[0], blob.size, blob.sha256) for blob in catalog.checks.blobs()) == [
        ("a", 5, ("b" * 64,)),
        ("c", 5, ("b" * 64,)),
    ]
    assert [blob.md5 for blob in catalog.checks.blobs({"m2"})] == [A]
    assert catalog.checks.holders(A, "onnx") == [Holder("m1", "name of m1", True), Holder("m2", "name of m2", True)]
    assert catalog.checks.holders(A, "pytorch") == []


def test_records_that_disagree_about_a_blob_are_both_told(catalog):
    catalog.weights.record([weights("m2", A, sha256="e" * 64)])
    assert {blob.md5[0]: blob.sha256 for blob in catalog.checks.blobs()}["a"] == ("b" * 64, "e" * 64)


def test_a_check_is_recorded_and_reaches_the_index_without_its_models(catalog):
    before = catalog.revision()
    catalog.checks.record([Verified(A, "onnx", 5, 77)], NOW)
    check = BlobCheck(NOW, 5, 77)
    assert {blob.md5[0]: blob.check for blob in catalog.checks.blobs()} == {"a": check, "c": BlobCheck()}
    assert checks_since(catalog, before) == [(A, check)]
    assert weights_of(catalog, before) == {}
    after = catalog.revision()
    assert list(checks_since(catalog, after)) == []
    catalog.checks.record([Verified(A, "onnx", 5, 78)], LATER)
    assert [check.mtime_ns for _, check in checks_since(catalog, after)] == [78]


def test_a_doubt_forgets_when_a_blob_was_checked_and_nothing_else(catalog):
    catalog.checks.record([Verified(A, "onnx", 5, 77)], NOW)
    before = catalog.revision()
    catalog.checks.record_doubts([(A, "onnx")])
    assert [check for _, check in checks_since(catalog, before)] == [BlobCheck(None, 5, 77)]


def test_a_lost_blob_leaves_the_index_for_every_model_that_has_it(catalog):
    before = catalog.revision()
    catalog.checks.record_lost(A, "onnx", "its bytes are wrong", NOW)
    assert weights_of(catalog, before) == {"m1": "", "m2": ""}
    assert weights_of(catalog) == {"m1": "", "m2": "", "m3": "c"}
    known = catalog.models.known()
    assert [known[each].weights[0].lost for each in ("m1", "m2", "m3")] == [True, True, False]
    assert catalog.weights.with_md5(A) is None
    assert catalog.weights.with_md5(C) is not None
    (lost,) = [blob.check for blob in catalog.checks.blobs() if blob.md5 == A]
    assert lost.lost_at == NOW


@pytest.mark.parametrize("how", ["fetched again for one of its models", "found to be right after all"])
def test_a_blob_that_comes_again_is_back_in_the_index_for_every_model(catalog, how):
    catalog.checks.record([Verified(A, "onnx", 5, 77)], NOW)
    catalog.checks.record_lost(A, "onnx", "its bytes are wrong", NOW)
    before = catalog.revision()
    if how.startswith("fetched"):
        catalog.weights.record([weights("m2", A)])
        expected = BlobCheck()  # other bytes than those that were checked
    else:
        catalog.checks.record([Verified(A, "onnx", 5, 99)], LATER)
        expected = BlobCheck(LATER, 5, 99)
    assert weights_of(catalog, before) == {"m1": "a", "m2": "a"}
    assert checks_since(catalog, before) == [(A, expected)]
    assert not any(each.weights[0].lost for each in catalog.models.known().values())
    assert catalog.weights.with_md5(A) is not None


def test_a_name_means_all_its_models_and_an_id_one(catalog):
    catalog.models.record([row("m4", name="name of m1"), row("m5", name="m1")], NOW)
    assert catalog.models.ids_of("name of m1") == ["m1", "m4"]
    assert catalog.models.ids_of("m1") == ["m1"]
    assert catalog.models.ids_of("nobody") == []


def test_more_blobs_than_one_statement_takes(catalog):
    names = [(f"{number:032x}", "onnx") for number in range(1200)]
    catalog.weights.record([weights("m1", md5) for md5, _ in names])
    catalog.checks.record([Verified(md5, weights_format, 5, 1) for md5, weights_format in names], NOW)
    assert len(list(checks_since(catalog, None))) == 1200
    for md5, weights_format in names[:3]:
        catalog.checks.record_lost(md5, weights_format, "gone", NOW)
    catalog.checks.record([Verified(md5, weights_format, 5, 1) for md5, weights_format in names], NOW)
    assert not any(check.lost_at for _, check in checks_since(catalog, None))
