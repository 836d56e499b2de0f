"""One sync against a real upstream: what it lists, fetches, keeps and records."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.syncing import environment, files_under, run_sync, start_mirror, wait_for
from support.upstream import Edit, FaultyUpstream, Gate, Headers, Hold, error, html, no_digest

from registry_mirror import ConfigurationError, ConflictError, Mirror, NotFoundError
from registry_mirror.catalog import Catalog
from registry_mirror.demo import DemoModel, DemoWeights
from registry_mirror.store.layout import Layout
from registry_mirror.sync.record import RunOutcome


def record(finished):
    return finished.record.as_json()


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_first_sync_catalogs_every_model_and_fetches_the_weights_of_ready_ones(upstream, root):
    upstream.add(make_model(7, status="training"))
    run = record(run_sync(upstream, root))
    assert run["outcome"] == "ok"
    assert (run["listed"], run["added"], run["changed"], run["unchanged"]) == (4, 4, 0, 0)
    assert run["fetched"] == {"files": 3, "bytes": 3 * 256}
    for number in range(3):
        path = Mirror(root).models.path(f"model-{number:05d}")
        assert path.read_bytes() == weights_bytes(number)
        assert path.name == f"{md5(weights_bytes(number))}.onnx"


def test_a_second_sync_with_nothing_new_asks_for_the_list_pages_only(upstream, root):
    run_sync(upstream, root)
    upstream.requests.clear()
    run = record(run_sync(upstream, root))
    assert run["unchanged"] == 3
    assert run["fetched"] == run["reused"] == {"files": 0, "bytes": 0}
    assert run["requests"] == {"api": 2, "storage": 0}
    assert [path for _, _, path in upstream.requests.log] == ["/api/v1/developer/models/"] * 2


def test_250_models_over_a_page_cap_of_100_are_all_catalogued_and_the_second_sync_downloads_nothing(root):
    with FaultyUpstream(many_models(250), page_cap=100) as upstream:
        first = record(run_sync(upstream, root))
        second = record(run_sync(upstream, root))
    assert (first["listed"], first["added"], first["fetched"]["files"]) == (250, 250, 250)
    assert second["unchanged"] == 250
    assert second["fetched"]["bytes"] == 0
    assert second["requests"]["storage"] == 0


def test_the_record_has_the_keys_of_the_contract(upstream, root):
    run = record(run_sync(upstream, root))
    assert set(run) == {
        "outcome", "started_at", "finished_at", "listed", "added", "changed", "unchanged", "archived", "gone",
        "fetched", "reused", "requests", "failed",
    }  # fmt: skip
    assert set(run["fetched"]) == set(run["reused"]) == {"files", "bytes"}
    assert set(run["requests"]) == {"api", "storage"}


@pytest.mark.parametrize("envelope", ["models", "data", "both"])
@pytest.mark.parametrize("pagination", [True, False])
def test_every_envelope_with_and_without_pagination_is_listed_whole(root, envelope, pagination):
    with FaultyUpstream(many_models(25), envelope=envelope, pagination=pagination) as upstream:
        run = record(run_sync(upstream, root, {"upstream.page_size": 10}))
    assert (run["listed"], run["fetched"]["files"]) == (25, 25)


def test_a_page_size_that_the_upstream_refuses_falls_back_to_smaller_pages(root):
    with FaultyUpstream(many_models(60), page_cap=25) as upstream:
        assert record(run_sync(upstream, root, {"upstream.page_size": 400}))["listed"] == 60


def test_documents_are_kept_word_for_word_with_fields_that_nobody_knows(root):
    odd = {"brand_new": {"ß": [1.5, None, {"deep": True}]}, "status": "distilling", "model_type": "keypoint_detection"}
    with FaultyUpstream([make_model(1, **odd)]) as upstream:
        run_sync(upstream, root)
    model = Mirror(root).models.get("model-00001")
    assert model.document["brand_new"] == odd["brand_new"]
    assert (model.status, model.model_type) == ("distilling", "keypoint_detection")


def test_md5_sha256_and_size_are_recorded(upstream, root):
    run_sync(upstream, root)
    info = Mirror(root).models.get("model-00001").mirror
    data = weights_bytes(1)
    assert (info.md5, info.sha256, info.size) == (md5(data), hashlib.sha256(data).hexdigest(), len(data))


def test_new_weights_under_one_id_are_fetched_and_the_old_ones_stay_reachable(upstream, root):
    run_sync(upstream, root)
    before = Mirror(root).models.path("model-00001")
    upstream.replace_weights(make_document(1)["id"], b"retrained", version="2.0.0")
    run = record(run_sync(upstream, root))
    assert (run["changed"], run["fetched"]) == (1, {"files": 1, "bytes": 9})
    mirror = Mirror(root)
    assert mirror.models.path("model-00001").read_bytes() == b"retrained"
    assert mirror.models.path("model-00001", md5=md5(weights_bytes(1))) == before
    assert mirror.models.path("model-00001", version="1.0.0") == before


def test_weights_whose_md5_is_here_are_recognised_from_the_headers_and_their_body_is_abandoned(root):
    data = weights_bytes(1, size=4 << 20)
    with FaultyUpstream([make_model(1, data=data)]) as upstream:
        run_sync(upstream, root)
        upstream.update(make_document(1)["id"], description="only the words changed")
        upstream.add(make_model(2, data=data))  # a fork shares its source's bytes
        run = record(run_sync(upstream, root))
    assert run["fetched"] == {"files": 0, "bytes": 0}
    assert run["reused"] == {"files": 2, "bytes": 2 * len(data)}
    assert Mirror(root).models.path("model-00002") == Mirror(root).models.path("model-00001")


def test_without_any_digest_unchanged_weights_are_recognised_by_the_storages_etag(upstream, root):
    # The demo's own ETag is an MD5, so it is replaced by one that says nothing.
    opaque = Headers({"ETag": '"generation-7"', "Content-MD5": None, "x-goog-hash": None})
    upstream.inject(opaque, kind="weights", times=None)
    first = record(run_sync(upstream, root))
    for number in range(3):
        upstream.update(make_document(number)["id"], description="words")
    second = record(run_sync(upstream, root))
    assert first["fetched"]["files"] == 3
    assert (second["fetched"]["files"], second["reused"]["files"]) == (0, 3)


def test_a_blob_that_a_killed_run_left_without_a_row_is_adopted_after_hashing(upstream, root):
    run_sync(upstream, root)
    for name in ("catalog.sqlite", "index.sqlite"):
        (root / name).unlink()
    run = record(run_sync(upstream, root))
    assert (run["fetched"]["files"], run["reused"]["files"]) == (0, 3)


def test_a_damaged_blob_without_a_row_is_quarantined_and_fetched_again(upstream, root):
    run_sync(upstream, root)
    blob = Mirror(root).models.path("model-00001")
    blob.chmod(0o644)
    blob.write_bytes(b"x" * 256)
    for name in ("catalog.sqlite", "index.sqlite"):
        (root / name).unlink()
    run = record(run_sync(upstream, root))
    assert (run["fetched"]["files"], run["reused"]["files"]) == (1, 2)
    assert blob.read_bytes() == weights_bytes(1)
    assert [path.read_bytes() for path in (root / "quarantine").iterdir()] == [b"x" * 256]


def test_a_blob_that_went_missing_is_fetched_again_though_its_model_is_unchanged(upstream, root):
    run_sync(upstream, root)
    Mirror(root).models.path("model-00002").unlink()
    run = record(run_sync(upstream, root))
    assert (run["unchanged"], run["fetched"]["files"]) == (3, 1)
    assert Mirror(root).models.path("model-00002").read_bytes() == weights_bytes(2)


def test_statuses_follow_the_lifecycle_and_weights_once_here_are_never_dropped(root):
    model_id = make_document(1)["id"]
    with FaultyUpstream([make_model(1, status="training")]) as upstream:
        assert record(run_sync(upstream, root))["fetched"]["files"] == 0
        with pytest.raises(ConflictError, match="training"):
            Mirror(root).models.path("model-00001")
        upstream.replace_weights(model_id, weights_bytes(1), status="ready")
        assert record(run_sync(upstream, root))["fetched"]["files"] == 1
        for status in ("training", "failed", "archived"):
            upstream.set_status(model_id, status)
            run = record(run_sync(upstream, root))
            assert (run["changed"], run["gone"], run["fetched"]["files"]) == (1, 0, 0)
            assert run["archived"] == (status == "archived")
            model = Mirror(root).models.get("model-00001")
            assert (model.status, model.mirror.cached) == (status, True)
        upstream.set_status(model_id, "ready")
        again = record(run_sync(upstream, root))
    assert (again["fetched"]["files"], again["reused"]["files"]) == (0, 1)


def test_an_archived_model_is_listed_only_when_asked_for(upstream, root):
    upstream.archive(make_document(1)["id"])
    run_sync(upstream, root)
    models = Mirror(root).models
    assert [model.name for model in models.iter(status="archived")] == ["model-00001"]
    assert "model-00001" not in [model.name for model in models.iter()]


def test_a_model_missing_from_the_list_is_gone_only_after_a_404_of_its_own(root):
    with FaultyUpstream(many_models(12)) as upstream:
        run_sync(upstream, root)
        upstream.remove(make_document(3)["id"])
        hidden = make_document(4)["id"]
        upstream.inject(hide(hidden), kind="list", times=None)
        upstream.requests.clear()
        run = record(run_sync(upstream, root))
        asked = {path.rpartition("/")[2] for _, _, path in upstream.requests.log} - {""}
    assert asked == {make_document(3)["id"], hidden}
    assert (run["gone"], run["outcome"]) == (1, "ok")
    models = Mirror(root).models
    assert models.get("model-00003").mirror.gone_at is not None
    assert models.get("model-00004").mirror.gone_at is None
    assert models.path("model-00003").exists()


def test_a_model_back_from_the_dead_is_present_again(root):
    with FaultyUpstream(many_models(12)) as upstream:
        run_sync(upstream, root)
        upstream.remove(make_document(3)["id"])
        run_sync(upstream, root)
        upstream.add(make_model(3))
        run = record(run_sync(upstream, root))
    assert (run["changed"], run["fetched"]["files"]) == (1, 0)
    assert Mirror(root).models.get("model-00003").mirror.gone_at is None


def hide(*ids):
    """Leaves models out of a listing of one page, and out of the total that it gives."""

    def without(body):
        for key in ("data", "models"):
            if key in body:
                body[key] = [row for row in body[key] if row["id"] not in ids]
                body["pagination"]["total"] = len(body[key])
        return body

    return Edit(without)


@pytest.mark.parametrize("missing", ["all", "many"])
def test_a_shrunken_listing_marks_nothing_gone_asks_for_nothing_and_ends_with_1(root, missing):
    with FaultyUpstream(many_models(20)) as upstream:
        run_sync(upstream, root)
        ids = [make_document(number)["id"] for number in range(20 if missing == "all" else 6)]
        injection = upstream.inject(hide(*ids), kind="list", times=None)
        upstream.requests.clear()
        finished = run_sync(upstream, root)
        assert injection.hits == upstream.requests.api == 2
        assert (finished.exit_code, finished.record.outcome) == (1, RunOutcome.FAILED)
        assert "accept-shrink" in str(finished.error)
        assert all(model.mirror.gone_at is None for model in Mirror(root).models.iter(include_gone=True))
        for number in range(6):
            upstream.remove(make_document(number)["id"])
        believed = record(run_sync(upstream, root, accept_shrink=True))
    assert (believed["outcome"], believed["gone"]) == ("ok", 6)


@pytest.mark.parametrize(
    ("fault", "exit_code"),
    [
        (html(), 1),
        (error(404), 1),
        (error(422), 1),
        (error(401), 5),
        (error(403), 5),
        (error(402), 5),
        (error(503), 5),
        (error(500), 5),
    ],
)
def test_a_listing_that_cannot_be_had_marks_nothing_and_says_why(upstream, root, fault, exit_code):
    run_sync(upstream, root)
    upstream.inject(fault, kind="list", times=None)
    finished = run_sync(upstream, root)
    assert finished.exit_code == exit_code
    assert record(finished)["error"]
    assert len(list(Mirror(root).models.iter())) == 3
    written = json.loads((root / "run.json").read_text())
    assert written["run"]["outcome"] == "failed"
    assert written["last_synced_at"] is not None


def test_an_upstream_that_is_down_is_tried_again_and_ends_the_run_with_5(upstream, root):
    run_sync(upstream, root)
    upstream.stop()
    finished = run_sync(upstream, root)
    assert finished.exit_code == 5
    assert finished.record.api_requests == 4
    assert "127.0.0.1" in str(finished.error)


def test_a_short_outage_of_the_list_is_bridged(upstream, root):
    upstream.inject(error(503), kind="list", times=3)
    assert record(run_sync(upstream, root))["outcome"] == "ok"


def test_one_failing_model_is_recorded_and_the_others_go_on(upstream, root):
    upstream.inject(error(404), kind="weights", path=make_document(1)["id"], times=None)
    finished = run_sync(upstream, root)
    run = record(finished)
    assert (finished.exit_code, run["outcome"], run["fetched"]["files"]) == (3, "partial", 2)
    assert [failed["name"] for failed in run["failed"]] == ["model-00001"]
    with pytest.raises(ConflictError, match="404"):
        Mirror(root).models.path("model-00001")
    upstream.heal()
    healed = record(run_sync(upstream, root))
    assert (healed["outcome"], healed["fetched"]["files"]) == ("ok", 1)
    assert Mirror(root).status().as_json()["failures"] == []


def test_all_models_failing_is_still_partial(upstream, root):
    upstream.inject(error(404), kind="weights", times=None)
    finished = run_sync(upstream, root)
    assert (finished.exit_code, record(finished)["outcome"]) == (3, "partial")


def test_one_bad_row_fails_one_model(upstream, root):
    def spoil(body):
        for key in ("data", "models"):
            for row in body[key]:
                if row["id"] == make_document(1)["id"]:
                    row["name"] = 7
        return body

    upstream.inject(Edit(spoil), kind="list", times=None)
    finished = run_sync(upstream, root)
    run = record(finished)
    assert (finished.exit_code, run["listed"], run["fetched"]["files"]) == (3, 2, 2)
    assert run["failed"][0]["id"] == make_document(1)["id"]


def test_a_long_retry_after_ends_the_run_as_partial_with_what_it_has_and_the_next_goes_on(root):
    with FaultyUpstream(many_models(8)) as upstream:
        upstream.inject(error(429, retry_after=3000), kind="download", path=make_document(7)["id"], times=None)
        for number in range(6, 3, -1):
            upstream.inject(error(429, retry_after=3000), kind="download", path=make_document(number)["id"])
        finished = run_sync(upstream, root, {"sync.workers": 1})
        run = record(finished)
        assert (finished.exit_code, run["outcome"]) == (3, "partial")
        assert "left for the next run" in run["error"]
        assert run["failed"] == []
        upstream.heal()
        healed = record(run_sync(upstream, root))
    assert run["fetched"]["files"] + healed["fetched"]["files"] == 8


def test_a_short_retry_after_is_obeyed(upstream, root):
    upstream.inject(error(429, retry_after=0), kind="download", times=2)
    assert record(run_sync(upstream, root))["outcome"] == "ok"


def test_a_rate_limit_on_the_listing_ends_the_run_as_partial(upstream, root):
    upstream.inject(error(429, retry_after=3000), kind="list")
    finished = run_sync(upstream, root)
    assert (finished.exit_code, record(finished)["outcome"]) == (3, "partial")


def test_rows_without_metrics_are_completed_by_one_get_for_each_new_or_changed_model(root):
    with FaultyUpstream(many_models(3), list_rows="bare") as upstream:
        run_sync(upstream, root)
        assert Mirror(root).models.get("model-00001").metrics == {"mAP": 0.51}
        upstream.requests.clear()
        run_sync(upstream, root)
        assert upstream.requests.api == 2
        upstream.update(make_document(1)["id"], metrics={"mAP": 0.9})
        upstream.requests.clear()
        run_sync(upstream, root)
        gets = [path for _, _, path in upstream.requests.log if path.endswith(make_document(1)["id"])]
    assert len(gets) == 1
    assert Mirror(root).models.get("model-00001").metrics == {"mAP": 0.9}


def test_a_rate_limit_on_the_details_ends_the_run_as_partial_and_the_next_one_goes_on(root):
    with FaultyUpstream(many_models(40), list_rows="bare", page_cap=10) as upstream:
        upstream.inject(error(429, retry_after=3000), kind="get", path=make_document(25)["id"], times=None)
        finished = run_sync(upstream, root)
        assert (finished.exit_code, record(finished)["failed"]) == (3, [])
        upstream.heal()
        assert record(run_sync(upstream, root))["outcome"] == "ok"
    assert len([model for model in Mirror(root).models.iter() if model.metrics]) == 40


def test_a_detail_that_fails_is_one_models_failure_and_asked_for_again(root):
    with FaultyUpstream(many_models(3), list_rows="bare") as upstream:
        upstream.inject(error(500), kind="get", path=make_document(1)["id"], times=None)
        run = record(run_sync(upstream, root))
        assert [failed["name"] for failed in run["failed"]] == ["model-00001"]
        assert run["fetched"]["files"] == 3
        upstream.heal()
        assert record(run_sync(upstream, root))["changed"] == 1
    assert Mirror(root).models.get("model-00001").metrics


def test_a_key_of_another_organisation_is_refused_before_anything_is_recorded(upstream, root):
    run_sync(upstream, root)
    before = (root / "index.sqlite").read_bytes()
    with FaultyUpstream([make_model(9, organization_id="other")]) as other:
        finished = run_sync(other, root)
    assert finished.exit_code == 2
    assert isinstance(finished.error, ConfigurationError)
    assert (root / "index.sqlite").read_bytes() == before


def test_filters_decide_what_is_fetched_and_the_first_match_wins(root):
    rules = [
        {"action": "include", "names": ["model-00001"]},
        {"action": "exclude", "names": ["model-*"], "types": ["object_detection"]},
    ]
    with FaultyUpstream([*many_models(3), make_model(5, model_type="classification")]) as upstream:
        run = record(run_sync(upstream, root, {"sync.rules": rules}))
    assert (run["listed"], run["fetched"]["files"]) == (4, 2)
    mirror = Mirror(root)
    assert {model.name for model in mirror.models.iter() if model.mirror.cached} == {"model-00001", "model-00005"}


def test_named_models_alone_are_fetched(upstream, root):
    run = record(run_sync(upstream, root, named=frozenset({"model-00001", make_document(2)["id"]})))
    assert (run["listed"], run["fetched"]["files"]) == (3, 2)
    assert record(run_sync(upstream, root))["fetched"]["files"] == 1


@pytest.mark.parametrize("named", [{"modle-00001"}, {"model-00001", "modle-00001"}])
def test_a_name_that_nobody_has_is_no_run_and_fetches_nothing(upstream, root, named):
    with pytest.raises(NotFoundError, match="lists no model 'modle-00001'") as caught:
        run_sync(upstream, root, named=frozenset(named))
    assert caught.value.exit_code == 8
    assert upstream.requests.storage == 0
    assert not (root / "run.json").exists()
    with Catalog(root / "catalog.sqlite") as catalog:
        assert catalog.runs.last() is None


def test_a_name_that_nobody_has_leaves_the_record_of_the_run_before(upstream, root):
    run_sync(upstream, root)
    before = (root / "run.json").read_bytes()
    with pytest.raises(NotFoundError):
        run_sync(upstream, root, named=frozenset({"nobody"}))
    assert (root / "run.json").read_bytes() == before


def test_further_formats_are_fetched_and_one_that_was_never_exported_is_no_failure_and_asked_for_once(root):
    both = DemoModel(
        make_document(1), {"onnx": DemoWeights(b"o" * 99), "pytorch": DemoWeights(b"PK\x03\x04" + b"p" * 99)}
    )
    with FaultyUpstream([both, make_model(2)]) as upstream:
        run = record(run_sync(upstream, root, {"sync.formats": ["onnx", "pytorch"]}))
        upstream.requests.clear()
        run_sync(upstream, root, {"sync.formats": ["onnx", "pytorch"]})
        assert upstream.requests.api == 2
    assert (run["outcome"], run["fetched"]["files"]) == ("ok", 3)
    assert Mirror(root).models.path("model-00001", format="pytorch").suffix == ".pth"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "a/b",
        "n" * 300,
        "🦩 model",
        "100%",
        "%2e%2e",
        "",
        "..",
        " ",
        "new\nline",
        "\u202etxt",
        "'; --",
    ],
)
def test_any_name_is_catalogued_found_and_delivered(root, tmp_path, name):
    with FaultyUpstream([make_model(1, name=name)]) as upstream:
        assert record(run_sync(upstream, root))["outcome"] == "ok"
    models = Mirror(root).models
    assert models.get(name).name == name
    assert models.path(name).is_relative_to(root / "blobs")
    assert models.download(name, tmp_path / "out.onnx").read_bytes() == weights_bytes(1)
    assert not [path for path in files_under(tmp_path) if "passwd" in path]


@pytest.mark.parametrize("model_id", ["../../../x", "a/b", "..", "i" * 300, "🦩", "%2e", "x?y#z"])
def test_any_id_is_catalogued_and_asked_for_as_one_segment(root, model_id):
    with FaultyUpstream([make_model(1, id=model_id), make_model(2)]) as upstream:
        run_sync(upstream, root)
    assert Mirror(root).models.get(model_id).id == model_id


def test_the_index_is_published_while_the_run_goes_on(root):
    gate = Gate()
    with FaultyUpstream(many_models(3)) as upstream:
        upstream.inject(Hold(gate, after=10), kind="weights", path=make_document(2)["id"])
        running = start_mirror("sync", env=environment(upstream, root, MIRROR_SYNC_PUBLISH_EVERY="0s"))
        gate.wait_reached()
        wait_for(lambda: cached_in_index(root) == 2)
        assert len(list(Mirror(root).models.iter())) == 3
        gate.release.set()
        running.communicate(timeout=30)
        assert running.returncode == 0
    assert cached_in_index(root) == 3


def cached_in_index(root):
    """How many weights the index on disk names."""
    index = Layout(root).index
    if not index.exists():
        return 0
    with sqlite3.connect(f"file:{index}?mode=ro&immutable=1", uri=True) as database:
        found = database.execute("SELECT count(*) FROM weights").fetchone()[0]
    database.close()
    return found


def test_a_run_leaves_nothing_on_its_way_in(upstream, root):
    upstream.inject(no_digest(), kind="weights")
    run_sync(upstream, root)
    assert list((root / "incoming").iterdir()) == []
    assert not (root / "run.holder.json").exists()


def test_blobs_are_read_only_and_the_rest_is_ordinary(upstream, root):
    run_sync(upstream, root)
    assert {path.stat().st_mode & 0o777 for path in (root / "blobs").glob("*/*")} == {0o444}
    assert (root / "index.sqlite").stat().st_mode & 0o777 == 0o644
    assert (root / "catalog.sqlite").stat().st_mode & 0o777 == 0o644
    assert (root / "blobs").stat().st_mode & 0o777 == 0o755


def test_a_root_shared_with_a_group_is_writable_by_it_under_any_umask(upstream, root):
    before = os.umask(0o077)
    try:
        run_sync(upstream, root, {"store.shared": "group"})
    finally:
        os.umask(before)
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        assert folder.stat().st_mode & 0o7777 == 0o2775, folder
    assert {path.stat().st_mode & 0o777 for path in (root / "blobs").glob("*/*")} == {0o444}
    for name in ("index.sqlite", "catalog.sqlite", "run.json", "run.lock", "publish.lock"):
        assert (root / name).stat().st_mode & 0o777 == 0o664, name


def test_a_folder_in_use_for_something_else_is_refused(upstream, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match=r"thesis\.txt"):
        run_sync(upstream, tmp_path)
    assert files_under(tmp_path) == ["thesis.txt"]


def test_a_root_of_a_newer_layout_is_refused(upstream, root):
    run_sync(upstream, root)
    (root / "FORMAT").write_text("99\n")
    with pytest.raises(ConfigurationError, match="upgrade"):
        run_sync(upstream, root)


def test_a_blob_of_another_size_than_recorded_is_put_aside_and_fetched_again(upstream, root):
    run_sync(upstream, root)
    blob = Mirror(root).models.path("model-00001")
    blob.chmod(0o644)
    blob.write_bytes(b"cut")
    run = record(run_sync(upstream, root))
    assert (run["unchanged"], run["fetched"]["files"]) == (3, 1)
    assert Mirror(root).models.path("model-00001").read_bytes() == weights_bytes(1)
    assert [path.read_bytes() for path in (root / "quarantine").iterdir()] == [b"cut"]


@pytest.mark.parametrize("ours_first", [True, False])
def test_public_models_of_other_organisations_in_the_listing_do_not_change_whose_root_it_is(root, ours_first):
    public = [make_model(number, organization_id=f"other-{number}", visibility="public") for number in range(100, 115)]
    own = many_models(12)
    with FaultyUpstream([*own, *public] if ours_first else [*public, *own]) as upstream:
        for _ in range(2):
            finished = run_sync(upstream, root, {"upstream.page_size": 10})
            assert (finished.exit_code, finished.record.tally.listed) == (0, 27)
    with FaultyUpstream(public) as foreign:
        assert run_sync(foreign, root).exit_code == 2


def test_a_root_may_be_mirrored_from_another_address_of_the_same_organisation_only(upstream, root):
    run_sync(upstream, root)
    with FaultyUpstream(many_models(3)) as moved:
        assert run_sync(moved, root).exit_code == 0
    nameless = [make_model(number, organization_id=None) for number in range(3)]
    with FaultyUpstream(nameless) as unknown:
        finished = run_sync(unknown, root)
    assert finished.exit_code == 2
    assert "another root" in str(finished.error)


def test_weights_in_a_format_that_is_not_configured_name_the_setting(upstream, root):
    run_sync(upstream, root)
    with pytest.raises(ConflictError, match=r"sync\.formats"):
        Mirror(root).models.path("model-00001", format="pytorch")


def test_a_model_that_the_list_hides_costs_one_request_and_no_new_index(root):
    with FaultyUpstream(many_models(12)) as upstream:
        run_sync(upstream, root)
        upstream.inject(hide(make_document(4)["id"]), kind="list", times=None)
        run_sync(upstream, root)
        before = (root / "index.sqlite").stat().st_ino
        upstream.requests.clear()
        run_sync(upstream, root)
        assert upstream.requests.api == 3
    assert (root / "index.sqlite").stat().st_ino == before


def test_an_unchanged_registry_leaves_the_index_untouched_and_still_writes_the_runs_record(upstream, root):
    def index():
        found = (root / "index.sqlite").stat()  # not its time of access: to read it is no change
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    run_sync(upstream, root)
    before, written = index(), (root / "run.json").stat().st_ino
    run_sync(upstream, root)
    assert index() == before
    assert (root / "run.json").stat().st_ino != written


def test_md5_is_used_as_a_name_so_that_a_fips_host_allows_it(upstream, root, monkeypatch):
    real = hashlib.md5

    def strict(data=b"", *, usedforsecurity=True):
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return real(data, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "md5", strict)
    assert record(run_sync(upstream, root))["outcome"] == "ok"
    assert Mirror(root).models.path("model-00001", verify=True).exists()
