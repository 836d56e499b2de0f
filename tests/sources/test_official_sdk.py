"""The platform's official SDK, oldest and newest, takes the demo upstream for the real thing."""

from __future__ import annotations

import pytest
from support.sdk import NEWEST, OLDEST, environment, settings
from support.sdk import run as sdk_run
from support.upstream import DemoUpstream, many_models

from registry_mirror.demo import demo_models

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]

BOTH = """
import json, sys
from pathlib import Path
from pictograph import Client
from pictograph.exceptions import ApiError, NotFoundError

def outcome(call):
    try:
        return call()
    except ApiError as error:
        return [type(error).__name__, error.status_code]

out, ready, training = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
models = Client().models
print(json.dumps({
    "list": [[m.id, m.name, m.status, m.model_type] for m in models.list(limit=3)],
    "archived": [m.id for m in models.list(status="archived")],
    "classifiers": [m.name for m in models.list(model_type="classification")],
    "iter": [m.id for m in models.iter(page_size=4)],
    "get": models.get(ready).model_dump(mode="json"),
    "download": models.download(ready, output_path=out).read_bytes().hex(),
    "leftovers": [p.name for p in out.parent.iterdir() if p != out],
    "unknown get": outcome(lambda: models.get("00000000-0000-4000-8000-00000000dead").id),
    "unknown download": outcome(lambda: str(models.download("nobody", output_path=out.with_name("x")))),
    "not ready": outcome(lambda: str(models.download(training, output_path=out.with_name("x")))),
    "over the cap": outcome(lambda: len(models.list(limit=101))),
    "wrong key": outcome(lambda: len(Client(api_key="wrong").models.list())),
    "deleted": outcome(lambda: models.delete(models.get(sys.argv[4]).id)),
}))
"""

ONLY_NEWEST = """
import json, sys
from pathlib import Path
import cv2, numpy as np
from pictograph import Client, get_model

folder = Path(sys.argv[1])
models = Client().models
image = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
cv2.imwrite(str(folder / "image.png"), image)

def run(name, task, confidence):
    model = get_model(name, task=task, confidence=confidence, device="cpu", cache_dir=folder / "cache")
    return model.predict(str(folder / "image.png"))

box = run("Box Condition", "classification", 0.0)
again = run("Box Condition", "classification", 0.0)
print(json.dumps({
    "by name": [models.get("Box Condition").id, models.get_by_name("Forklift Finder").id],
    "odd name": models.get("a/b 100% \\N{SAUROPOD}?").name,
    "top": [box.top.name, box.top.confidence],
    "again": [again.top.name, again.top.confidence],
    "boxes": len(run("Forklift Finder", "object_detection", 0.2).predictions),
    "outlines": len(run("Pallet Outline", "semantic_segmentation", 0.3).predictions),
    "cached": sorted(p.name for p in (folder / "cache").iterdir()),
    "versions": [v.version_id for v in models.versions("Box Condition").versions],
    "files": [[f.name, f.format, f.size_bytes] for f in models.files("Box Condition").files],
    "file": models.download_file(
        "Box Condition", file_name="box-condition.onnx", output_path=folder / "by-file.onnx"
    ).read_bytes().hex(),
}))
"""


@pytest.fixture(scope="session", params=[OLDEST, NEWEST])
def sdk(request):
    return environment(request.param)


@pytest.fixture(scope="session")
def newest():
    return environment(NEWEST)


@pytest.fixture
def upstream():
    with DemoUpstream([*demo_models(), *many_models(6)]) as running:
        yield running


def run(python, program, upstream, home, *arguments):
    return sdk_run(python, program, settings(upstream.base_url, upstream.api_key, home), *arguments)


def test_the_sdk_lists_gets_downloads_and_meets_the_errors_it_expects(sdk, upstream, tmp_path):
    (tmp_path / "out").mkdir()
    held = upstream.models
    live = [model for model in held if model.status != "archived"]
    ready, training, deleted = held[2], held[3], held[-1]
    saw = run(sdk, BOTH, upstream, tmp_path, tmp_path / "out" / "box.onnx", ready.id, training.id, deleted.id)

    assert saw["list"] == [[m.id, m.name, m.status, m.document["model_type"]] for m in live[:3]]
    assert saw["archived"] == [model.id for model in held if model.status == "archived"]
    assert saw["classifiers"] == ["Box Condition"]
    assert saw["iter"] == [model.id for model in live]
    assert len(live) > 2 * 4
    got = saw["get"]
    for key in ("id", "name", "status", "metrics", "class_mapping", "training_config", "organization_id"):
        assert got.get(key, ready.document[key]) == ready.document[key]
    assert bytes.fromhex(saw["download"]) == ready.weights["onnx"].source
    assert saw["leftovers"] == []
    assert saw["unknown get"] == ["NotFoundError", 404]
    assert saw["unknown download"] == ["NotFoundError", 404]
    assert saw["not ready"] == ["ValidationError", 400]
    assert saw["over the cap"] == ["ValidationError", 422]
    assert saw["wrong key"] == ["AuthError", 401]
    assert saw["deleted"] is None
    assert upstream.models[-1].status == "archived"
    assert not any("x-api-key" in entry.headers for entry in upstream.requests.entries if entry.origin == "storage")


def test_the_newest_sdk_finds_models_by_name_and_runs_them_on_an_image(newest, upstream, tmp_path):
    upstream.update(upstream.models[-1].id, name="a/b 100% \N{SAUROPOD}?")
    detector, segmenter, classifier = upstream.models[:3]
    saw = run(newest, ONLY_NEWEST, upstream, tmp_path, tmp_path)

    assert saw["by name"] == [classifier.id, detector.id]
    assert saw["odd name"] == "a/b 100% \N{SAUROPOD}?"
    assert saw["top"][0] in {"intact", "dented", "torn"}
    assert 1 / 3 < saw["top"][1] < 1
    assert saw["again"] == saw["top"]
    assert saw["boxes"] > 0
    assert saw["outlines"] > 0
    assert [name[:36] for name in saw["cached"]] == sorted([classifier.id, detector.id, segmenter.id])
    assert saw["versions"] == [classifier.id]
    weights = classifier.weights["onnx"]
    assert saw["files"] == [["box-condition.onnx", "onnx", weights.size]]
    assert bytes.fromhex(saw["file"]) == weights.source
    # Three models and the one file: the second load of the classifier came from the SDK's own cache.
    assert upstream.requests.storage == 4
