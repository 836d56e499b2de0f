"""A mirror is an upstream like any other: what syncs from it holds what it holds, and no circle forms."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3

import pytest
from support.documents import make_document, make_model, many_models, weights_bytes
from support.mirrors import ServedMirror
from support.syncing import environment, mirror, run_sync
from support.upstream import DemoUpstream

from registry_mirror.demo import DemoModel, DemoWeights, demo_models

MODELS = (
    "SELECT id, name, status, model_type, architecture, created, updated, rank, gone_at IS NULL, document FROM models"
)
WEIGHTS = "SELECT model_id, format, version, md5, sha256, size, current FROM weights"
RULES = """
[[sync.rules]]
action = "exclude"
names = ["*"]
"""


def picture(root):
    """What a root holds: every row but for when this very mirror saw it, and every blob."""
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as index:
        rows = [sorted(index.execute(query).fetchall(), key=repr) for query in (MODELS, WEIGHTS)]
        failed = index.execute("SELECT model_id, format FROM failures ORDER BY 1, 2").fetchall()
        (organization,) = index.execute("SELECT value FROM meta WHERE key = 'organization_id'").fetchone()
    blobs = {path.name: path.read_bytes() for path in (root / "blobs").rglob("*") if path.is_file()}
    return {"models": rows[0], "weights": rows[1], "failed": failed, "organization": organization, "blobs": blobs}


def documents(root):
    """The documents of a root by id."""
    return {row[0]: row[-1] for row in picture(root)["models"]}


class Sent(DemoModel):
    """A model whose JSON is spelled in a way of its own."""

    @property
    def json(self):
        return json.dumps(self.document, separators=(" ,", ":  ")).replace(":  640", ":  6.4e2")


@pytest.fixture
def upstream():
    """Models of every status and with every oddity that a row may have."""
    bare = {key: value for key, value in make_document(20, name="bare").items() if key in ("id", "name", "status")}
    odd = [
        make_model(10, name="a/b 100% \N{SAUROPOD}?#+"),
        make_model(11, precision=None, version=None, created_at="soon", organization_id=None),
        make_model(12, model_type="keypoint_detection", more={"deep": [{"er": 1.50}], "big": 2**70}),
        make_model(13, model_type="depth_estimation"),
        make_model(14, status="paused"),
        make_model(15, model_type=None, metrics=[1], visibility="public", organization_id="somebody else"),
        Sent(make_document(16, name="half a pair: \ud83e"), {"onnx": DemoWeights(weights_bytes(16))}),
        make_model(17, name="twins"),
        make_model(18, name="twins", created_at="2026-05-01T00:00:00Z"),
        make_model(19, data=weights_bytes(18)),
        DemoModel(bare, {"onnx": DemoWeights(weights_bytes(20))}),
    ]
    with DemoUpstream([*demo_models(), *many_models(3), *odd]) as running:
        yield running


@pytest.fixture
def roots(tmp_path):
    return [tmp_path / f"root-{place}" for place in range(4)]


def synced(upstream, root, **options):
    """One sync that ends well; its record."""
    finished = run_sync(upstream, root, **options)
    assert finished.exit_code == 0, finished.record.as_json()
    return finished.record.as_json()


def test_a_mirror_of_a_mirror_holds_the_same_to_the_letter_and_so_does_a_third(upstream, roots):
    first, second, third, _ = roots
    synced(upstream, first)
    with ServedMirror(first) as near:
        run = synced(near, second, overrides={"sync.workers": 1})  # two share their bytes, and must not come at once
        with ServedMirror(second) as far:
            synced(far, third)
            again = synced(far, third)
        before = near.marked()
        idle = synced(near, second)
        asked = near.requests_since(before)

    assert picture(second) == picture(first)
    assert picture(third) == picture(first)
    assert len(picture(first)["models"]) == 20
    assert run["fetched"] == {"files": 15, "bytes": sum(map(len, picture(first)["blobs"].values()))}
    for each in (again, idle):
        assert each["fetched"] == each["reused"] == {"files": 0, "bytes": 0}
        assert each["requests"] == {"api": 2, "storage": 0}
    assert asked == [("GET", "/api/v1/developer/models/", 200)] * 2


def test_whatever_happens_upstream_follows_through_the_chain(upstream, roots):
    first, second, third, _ = roots
    ids = [make_document(number)["id"] for number in range(20)]
    synced(upstream, first)
    with ServedMirror(first) as near, ServedMirror(second) as far:
        synced(near, second)
        synced(far, third)

        upstream.archive(ids[0])
        upstream.remove(ids[1])
        upstream.update(ids[2], name="renamed")
        upstream.replace_weights(ids[10], weights_bytes(99), version="2.0.0")
        upstream.set_status(ids[17], "training")
        upstream.add(make_model(40, name="new"))
        for source, root in ((upstream, first), (near, second), (far, third)):
            run = synced(source, root)
            assert (run["added"], run["archived"], run["gone"]) == (1, 1, 1)
            assert run["fetched"]["files"] == 2
        assert picture(second) == picture(first)
        assert picture(third) == picture(first)
        held = {row[0]: row for row in picture(third)["models"]}
        assert held[ids[0]][2] == "archived"
        assert not held[ids[1]][8]
        assert held[ids[2]][1] == "renamed"
        versions = [(row[2], row[6]) for row in picture(third)["weights"] if row[0] == ids[10]]
        assert sorted(versions) == [("1.0.0", 0), ("2.0.0", 1)]

        upstream.add(make_model(1))
        for source, root in ((upstream, first), (near, second), (far, third)):
            synced(source, root)
        assert picture(third) == picture(first)
        assert {row[0]: row for row in picture(third)["models"]}[ids[1]][8]


def test_rows_that_the_upstream_lists_without_details_are_the_same_in_both(roots):
    first, second, *_ = roots
    with DemoUpstream([*demo_models(), *many_models(3)], list_rows="bare") as upstream:
        synced(upstream, first)
    with ServedMirror(first) as near:
        synced(near, second)
    assert picture(second) == picture(first)
    assert all('"metrics"' in text for text in documents(second).values())


def test_what_is_no_number_of_json_arrives_as_null_and_every_other_document_to_the_letter(roots):
    first, second, *_ = roots
    others = [Sent(make_document(number), {"onnx": DemoWeights(weights_bytes(number))}) for number in range(3)]
    odd = make_model(5, metrics={"mAP": float("nan"), "loss": float("inf")})
    with DemoUpstream([*others, odd]) as upstream:
        synced(upstream, first)
    assert documents(first) == {model.id: model.json for model in [*others, odd]}  # what was recorded stays as it came
    with ServedMirror(first) as near:
        synced(near, second)
        assert synced(near, second)["changed"] == 0
    here, there = picture(second), picture(first)
    served = {row[0]: row[-1] for row in here.pop("models")}
    assert json.loads(served.pop(odd.id), parse_constant=pytest.fail)["metrics"] == {"mAP": None, "loss": None}
    assert served == {model.id: model.json for model in others}
    assert here == {key: there[key] for key in here}


def test_2500_models_over_many_pages_arrive_at_both_ends(roots):
    first, second, *_ = roots
    models = [*many_models(2470, status="training"), *many_models(30, start=2470)]
    with DemoUpstream(models) as upstream:
        synced(upstream, first)
    with ServedMirror(first) as near:
        run = synced(near, second)
        again = synced(near, second)
    assert (run["listed"], run["fetched"]["files"]) == (2500, 30)
    assert run["requests"]["api"] == 25 + 1 + 30
    assert again["requests"] == {"api": 26, "storage": 0}
    assert picture(second) == picture(first)


def test_a_chain_works_with_client_keys_and_behind_a_path(upstream, roots):
    first, second, *_ = roots
    synced(upstream, first)
    made = mirror("keys", "add", "branch", "--json", env={**os.environ, "MIRROR_ROOT": str(first)})
    with ServedMirror(first, env={"MIRROR_SERVE_PATH_PREFIX": "/lab/models"}) as near:
        assert near.base_url.endswith("/lab/models")
        refused = run_sync(near, second, key="pk_live_demo")
        near.api_key = json.loads(made.stdout)["key"]
        synced(near, second)
        log = near.log
    assert refused.exit_code == 5
    assert picture(second) == picture(first)
    assert near.api_key not in log


def test_weights_that_the_first_mirror_fetches_when_asked_reach_the_second(roots):
    first, second, *_ = roots
    first.mkdir()
    (first / "config.toml").write_text(RULES)
    with DemoUpstream(demo_models()) as upstream:
        assert synced(upstream, first)["fetched"]["files"] == 0
        env = {**environment(upstream, first), "MIRROR_SERVE_FETCH": "true"}
        with ServedMirror(first, env=env) as near:
            assert synced(near, second)["fetched"]["files"] == 3
    assert len(picture(second)["blobs"]) == 3
    assert picture(second) == picture(first)


def frozen(root):
    """What a refused sync must leave as it was."""
    return (root / "index.sqlite").read_bytes(), picture(root)


def test_a_mirror_of_itself_is_refused_and_nothing_changes(upstream, roots):
    first, *_ = roots
    synced(upstream, first)
    before = frozen(first)
    with ServedMirror(first) as near:
        done = mirror("sync", env=environment(near, first))
    assert done.returncode == 2
    assert "a mirror of this very mirror" in done.stderr
    assert frozen(first) == before
    assert synced(upstream, first)["unchanged"] == 20


def test_a_circle_of_mirrors_is_refused_and_nothing_changes(upstream, roots):
    first, second, third, _ = roots
    synced(upstream, first)
    with ServedMirror(first) as near:
        synced(near, second)
        with ServedMirror(second) as far:
            synced(far, third)
            upstream.update(upstream.models[0].id, name="news that the circle never hears of")
            before = [frozen(root) for root in (first, second, third)]
            through_one = run_sync(far, first)
            with ServedMirror(third) as farthest:
                through_two = run_sync(farthest, first)
                between = run_sync(farthest, second)
    for refused in (through_one, through_two, between):
        assert refused.exit_code == 2
        assert "a mirror of this very mirror" in str(refused.error)
    assert [frozen(root) for root in (first, second, third)] == before
    assert synced(upstream, first)["changed"] == 1


def test_a_circle_that_holds_nothing_yet_is_refused_as_well(roots):
    first, second, *_ = roots
    with DemoUpstream([]) as upstream:
        synced(upstream, first)
    with ServedMirror(first) as near:
        synced(near, second)
        with ServedMirror(second) as far:
            assert run_sync(far, first).exit_code == 2


def test_a_single_model_is_not_fetched_round_a_circle(roots):
    first, second, *_ = roots
    first.mkdir()
    (first / "config.toml").write_text(RULES)
    with DemoUpstream(many_models(1)) as upstream:
        synced(upstream, first)
    with ServedMirror(first) as near:
        run_sync(near, second)
        with ServedMirror(second) as far:
            done = mirror("download", "model-00000", "--fetch", "-o", "x.onnx", env=environment(far, first))
    assert done.returncode == 2, done.stderr
    assert "a mirror of this very mirror" in done.stderr
