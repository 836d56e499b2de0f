"""Every generation of the official SDK works against `mirror serve`, with the upstream gone.

The suite takes three versions; `make test-sdk-matrix` takes twelve, one on each side of every change of the envelope,
the addressing of names and the record's schema.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from support import sdk
from support.documents import make_document, make_model, many_models, weights_bytes
from support.mirrors import ServedMirror
from support.syncing import mirror, run_sync
from support.upstream import DemoUpstream

from registry_mirror.demo import DemoModel, DemoWeights, demo_models

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]

SUITE = (sdk.OLDEST, "1.30.0", sdk.NEWEST)
MATRIX = (
    sdk.OLDEST,
    "1.1.0",  # names a format in downloads
    "1.8.0",  # finds names with a filter, and takes the first row unchecked
    "1.16.0",  # has an async client
    "1.30.0",
    "1.60.0",  # the last to read `models`
    "1.61.0",  # the first to read `data`, and `/by-name/`
    "1.67.6",  # refuses a precision that is null
    "1.67.17",  # knows keypoints
    "1.69.43",  # the last with `/by-name/`
    "1.69.44",  # the first with names in the place of ids
    sdk.NEWEST,
)
VERSIONS = MATRIX if os.environ.get("SDK_MATRIX") == "all" else SUITE


def number(version):
    """A version to compare with others."""
    return tuple(map(int, version.split(".")))


ODD_NAMES = (
    "a/b",
    "a%2Fb",
    "two words",
    "100%",
    "what?",
    "x#1",
    "c++",
    "gr\xf6\xdfe \N{SAUROPOD}",
    "MODEL-00002",
)
NOBODY = "00000000-0000-4000-8000-00000000dead"

ANY_VERSION = """
import json, sys
from pathlib import Path
from pictograph import Client
from pictograph.exceptions import ApiError

asked = json.loads(sys.argv[1])
out = Path(asked["folder"])
models = Client().models
seen = {}

def outcome(call):
    try:
        return call()
    except ApiError as error:
        return [type(error).__name__, error.status_code, str(error)]

def fetched(**which):
    moved = []
    def progress(done, total):
        moved.append([done, total])
    path = models.download(output_path=out / "w.onnx", progress=progress, **which)
    found = path.read_bytes()
    path.unlink()
    return [found.hex(), moved[-1] == [len(found)] * 2, [each.name for each in out.iterdir()]]

def ids(rows):
    return [row.id for row in rows]

seen["list"] = ids(models.list())
seen["whole list"] = ids(models.list(limit=1000))
seen["part"] = ids(models.list(limit=3, offset=2))
seen["over the cap"] = outcome(lambda: models.list(limit=1001))
seen["by dataset"] = outcome(lambda: models.list(dataset_name="boxes"))
for status in ("ready", "training", "failed", "archived"):
    seen[status] = ids(models.list(status=status, limit=1000))
for model_type in ("classification", "keypoint_detection"):
    seen[model_type] = ids(models.list(model_type=model_type))
seen["pages"] = ids(models.iter(page_size=4))
seen["at most"] = ids(models.iter(page_size=4, max_total=6))
seen["boundary"] = ids(models.iter(page_size=4, model_type="instance_segmentation"))
seen["get"] = models.get(model_id=asked["ready"]).model_dump(mode="json")
seen["weights"] = {each: fetched(model_id=each) for each in asked["weights"]}
seen["other spellings"] = [models.get(model_id=each).id for each in asked["spellings"]]
seen["gone"] = models.get(model_id=asked["gone"]).name
seen["unknown"] = outcome(lambda: models.get(model_id=asked["nobody"]))
seen["unknown weights"] = outcome(lambda: fetched(model_id=asked["nobody"]))
seen["no weights"] = outcome(lambda: fetched(model_id=asked["training"]))
seen["write"] = outcome(lambda: models.delete(model_id=asked["ready"]))
seen["wrong key"] = outcome(lambda: Client(api_key="wrong").models.list())
print(json.dumps(seen))
"""

BY_NAME = """
import inspect, json, sys
from pathlib import Path
from pictograph import Client
from pictograph.exceptions import ApiError

asked = json.loads(sys.argv[1])
models = Client().models
takes_names = "name" in inspect.signature(models.get).parameters

def outcome(call):
    try:
        return call()
    except ApiError as error:
        return [type(error).__name__, error.status_code]

def weights(name):
    path = Path(asked["folder"], "named.onnx")
    return models.download(name, output_path=path).read_bytes().hex()

if hasattr(models, "get_by_name"):
    found = {
        "ids": {name: models.get_by_name(name).id for name in asked["names"]},
        "id": models.get_by_name(asked["ready"]).id,
        "filter": {name: [row.id for row in models.list(name=name)] for name in asked["names"]},
    }
else:
    found = {"ids": {"model-00001": models.get("model-00001").id}}
find = getattr(models, "get_by_name", models.get)
found["kept"] = [find(name).id for name in asked["kept"]] if hasattr(models, "get_by_name") else []
found["near misses"] = [outcome(lambda: find(name).id) for name in ("model-0000", "MODEL-00001")]
found["weights"] = {name: weights(name) for name in (asked["names"] if takes_names else ["model-00001"])}
print(json.dumps(found))
"""

ASYNC = """
import asyncio, json, sys
from pathlib import Path
from pictograph.aio import AsyncClient
from pictograph.exceptions import ApiError

asked = json.loads(sys.argv[1])

async def outcome(call):
    try:
        return str(await call)
    except ApiError as error:
        return [type(error).__name__, error.status_code]

async def main():
    out = Path(asked["folder"], "async.onnx")
    async with AsyncClient() as client:
        models = client.models
        print(json.dumps({
            "list": [row.id for row in await models.list(limit=3)],
            "pages": [row.id async for row in models.iter(page_size=4)],
            "get": (await models.get(model_id=asked["ready"])).id,
            "weights": (await models.download(model_id=asked["ready"], output_path=out)).read_bytes().hex(),
            "unknown": await outcome(models.get(model_id=asked["nobody"])),
            "no weights": await outcome(models.download(model_id=asked["training"], output_path=out)),
        }))

asyncio.run(main())
"""

FILES = """
import json, sys
from pathlib import Path
from pictograph import Client

asked = json.loads(sys.argv[1])
models, out = Client().models, Path(asked["folder"], "file.onnx")
manifest, listed = models.files("Box Condition"), models.versions("Box Condition")
def file(**which):
    return models.download_file(file_name="box-condition.onnx", output_path=out, **which).read_bytes().hex()
print(json.dumps({
    "versions": [[v.version_id, v.version_label, v.is_latest, v.is_current] for v in listed.versions],
    "current": [listed.current_version_id, listed.latest_version_id, listed.pinned_version_id],
    "files": [[f.version_id, f.name, f.kind, f.format, f.size_bytes] for f in manifest.files],
    "by name": file(name="Box Condition"),
    "by id": file(model_id=asked["ready"]),
    "by label": file(name="Box Condition", version=listed.versions[0].version_label),
    "by version": file(name="Box Condition", version=asked["ready"]),
    "of odd models": [
        [len(models.files(model_id=each).files), models.versions(model_id=each).versions[0].version_id]
        for each in asked["weights"]
    ],
}))
"""

INFERENCE = """
import json, sys
from pathlib import Path
import cv2, numpy as np
from pictograph import Client, get_model

folder = Path(json.loads(sys.argv[1])["folder"])
cv2.imwrite(str(folder / "image.png"), np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8))

def top(model):
    found = model.predict(str(folder / "image.png")).top
    return [found.name, found.confidence]

options = {"task": "classification", "confidence": 0.0, "device": "cpu", "cache_dir": folder / "cache"}
print(json.dumps([
    top(get_model("Box Condition", **options)),
    top(get_model("Box Condition", **options)),
    top(Client().models.load("Box Condition", **options)),
]))
"""


class Unchanged(DemoUpstream):
    """An upstream whose documents lack what it was not given."""

    def add(self, model):
        self._state.put(model)
        return model


def without(number, *keys, **overrides):
    """A ready model whose document lacks some keys."""
    document = {key: value for key, value in make_document(number, **overrides).items() if key not in keys}
    return DemoModel(document, {"onnx": DemoWeights(weights_bytes(number))})


READABLE = [
    make_model(100, name="null precision", precision=None),
    make_model(101, name="odd precision", precision="int8"),
    make_model(102, name="null version", version=None),
    make_model(103, name="version of a number", version=2),
    make_model(104, name="listed metrics", metrics=[1, 2], class_mapping=["a"], training_config="small"),
    make_model(105, name="odd texts", description=7, architecture=["yolox"], parent_model_id=1),
    make_model(106, name="no metrics at all", metrics={"mAP": float("nan"), "nested": [{"k": None}]}, more={"a": [1]}),
    make_model(107, name="odd times", created_at="2026-W05-1", updated_at="20260101T000000"),
    make_model(108, name="null times", created_at=None, updated_at=None, visibility="organization"),
    without(109, "organization_id", name="nobody's"),
    without(110, "created_at", "visibility", "version", "precision", name="no creation"),
    without(111, "metrics", "class_mapping", "training_config", "description", "architecture", name="bare"),
]
KEYPOINTS = make_model(120, name="keypoints", model_type="keypoint_detection")
UNREADABLE = [
    make_model(121, name="odd status", status="paused"),
    make_model(122, name="odd type", model_type="depth_estimation"),
    make_model(123, name="no type", model_type=None),
]
ARCHIVED, GONE = make_model(130, name="archived later"), make_model(131, name="gone later")
TWINS = [
    make_model(132, name="twins"),
    make_model(133, name="twins", status="training"),
    make_model(134, name="twins", status="failed"),
]
SEGMENTERS = many_models(7, start=140, model_type="instance_segmentation", status="training")
NAMED = [make_model(200 + place, name=name) for place, name in enumerate(ODD_NAMES)]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A root with everything odd in it, its upstream shut down; and the models that the upstream had."""
    root = tmp_path_factory.mktemp("sdk") / "root"
    few = many_models(25)
    models = [*demo_models(), *few, *READABLE, KEYPOINTS, *UNREADABLE, ARCHIVED, GONE, *TWINS, *SEGMENTERS, *NAMED]
    with Unchanged(models) as upstream:
        assert run_sync(upstream, root).record.tally.failed == []
        upstream.archive(ARCHIVED.id)
        upstream.remove(GONE.id)
        assert run_sync(upstream, root).exit_code == 0
        yielded = {model.id: model for model in upstream.models}
    return root, yielded


@pytest.fixture(scope="module")
def served(held):
    """That root behind a server that asks for keys."""
    root, _ = held
    made = mirror("keys", "add", "box", "--json", env={**os.environ, "MIRROR_ROOT": str(root)})
    with ServedMirror(root, api_key=json.loads(made.stdout)["key"]) as running:
        yield running


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def run(version, served, tmp_path):
    """Runs a program with that version of the SDK."""
    (tmp_path / "out").mkdir()
    env = sdk.settings(served.base_url, served.api_key, tmp_path)
    asked = {
        "folder": str(tmp_path / "out"),
        "names": ODD_NAMES,
        "nobody": NOBODY,
        "ready": CLASSIFIER.id,
        "training": TRAINING.id,
        "gone": GONE.id,
        "kept": [ARCHIVED.name, GONE.name, TWINS[0].name],
        "spellings": [CLASSIFIER.id.upper(), CLASSIFIER.id.replace("-", "")],
        "weights": [each.id for each in WITH_WEIGHTS],
    }
    return lambda program: sdk.run(sdk.environment(version), program, env, json.dumps(asked))


_, _, CLASSIFIER, TRAINING, _, _ = demo_models()
WITH_WEIGHTS = [CLASSIFIER, ARCHIVED, GONE, *READABLE]


def expected(held, version, **fields):
    """The ids that a list of that version shows, in the mirror's order, for documents with these values."""
    _, models = held
    hidden = {model.id for model in UNREADABLE}
    hidden |= set() if number(version) >= (1, 67, 17) else {KEYPOINTS.id}
    found = [model for model in models.values() if model.id not in hidden]
    if "status" not in fields:
        found = [model for model in found if model.status != "archived"]
    return {each.id for each in found if all(each.document[key] == value for key, value in fields.items())}


def sources(models):
    return {model.id: model.weights["onnx"].source.hex() for model in models}


def test_any_version_lists_pages_gets_downloads_and_meets_the_errors_that_it_knows(run, version, held, served):
    mark = served.marked()
    saw = run(ANY_VERSION)
    whole = saw["whole list"]

    assert set(whole) == expected(held, version)
    assert len(whole) == len(set(whole)) > 50
    assert saw["list"] == whole[:50]
    assert saw["part"] == whole[2:5]
    assert saw["pages"] == whole
    assert saw["at most"] == whole[:6]
    for status in ("ready", "training", "failed", "archived"):
        assert set(saw[status]) == expected(held, version, status=status), status
    for model_type in ("classification", "keypoint_detection"):
        assert set(saw[model_type]) == expected(held, version, model_type=model_type), model_type
    assert ARCHIVED.id in saw["archived"]
    assert set(saw["boundary"]) == expected(held, version, model_type="instance_segmentation")
    assert len(saw["boundary"]) == 8

    document = CLASSIFIER.document
    for key in ("id", "name", "status", "metrics", "class_mapping", "training_config", "organization_id"):
        assert saw["get"].get(key, document[key]) == document[key]
    assert saw["get"]["updated_at"][:26] == document["updated_at"][:26]
    assert saw["weights"] == {each: [source, True, []] for each, source in sources(WITH_WEIGHTS).items()}
    assert saw["other spellings"] == [CLASSIFIER.id] * 2
    assert saw["gone"] == "gone later"

    for case in ("unknown", "unknown weights"):
        kind, status, message = saw[case]
        assert (kind, status) == ("NotFoundError", 404)
        assert f"no model '{NOBODY}' in this mirror" in message
    kind, status, message = saw["no weights"]
    assert (kind, status) == ("ConflictError", 409)
    assert "Dock Door Watch" in message
    assert "training" in message
    assert saw["wrong key"][:2] == ["AuthError", 401]
    assert "does not know the client key" in saw["wrong key"][2]
    assert saw["write"][:2] == ["ServerError", 501]
    assert "read-only" in saw["write"][2]
    assert saw["over the cap"][:2] == saw["by dataset"][:2] == ["ValidationError", 422]

    # One request each: a 501 is not retried, and nothing is asked for twice.
    asked = served.requests_since(mark)
    assert [status for method, _, status in asked if method == "DELETE"] == [501]
    assert {status for _, _, status in asked} == {200, 401, 404, 409, 422, 501}


def test_every_generation_finds_models_by_names_that_hold_anything(run, version, held):
    saw = run(BY_NAME)
    ids = {model.name: model.id for model in NAMED}
    plain = {"model-00001": make_document(1)["id"]}
    era = number(version)

    if era < (1, 8, 0):
        assert saw["ids"] == plain
    else:
        assert saw["ids"] == ids
        assert saw["id"] == CLASSIFIER.id
        assert saw["kept"] == [ARCHIVED.id, GONE.id, TWINS[0].id]
        assert saw["filter"] == {name: [model_id] for name, model_id in ids.items()}
    assert saw["near misses"] == [["NotFoundError", 404]] * 2
    wanted = {model.name: model.weights["onnx"].source.hex() for model in NAMED}
    assert saw["weights"] == (wanted if era >= (1, 61, 0) else {"model-00001": weights_bytes(1).hex()})


@pytest.mark.parametrize("version", [each for each in VERSIONS if number(each) >= (1, 16, 0)], indirect=True)
def test_the_async_client_does_the_same(run, version, held):
    saw = run(ASYNC)

    assert set(saw["pages"]) == expected(held, version)
    assert len(saw["pages"]) == len(set(saw["pages"]))
    assert saw["list"] == saw["pages"][:3]
    assert saw["get"] == CLASSIFIER.id
    assert bytes.fromhex(saw["weights"]) == CLASSIFIER.weights["onnx"].source
    assert saw["unknown"] == ["NotFoundError", 404]
    assert saw["no weights"] == ["ConflictError", 409]


@pytest.mark.parametrize("version", [sdk.NEWEST], indirect=True)
def test_the_newest_sdk_sees_versions_and_files_and_downloads_a_file(run, held):
    saw, weights = run(FILES), CLASSIFIER.weights["onnx"]

    assert saw["versions"] == [[CLASSIFIER.id, "1.2.0", True, True]]
    assert saw["current"] == [CLASSIFIER.id, CLASSIFIER.id, None]
    assert saw["files"] == [[CLASSIFIER.id, "box-condition.onnx", "weights", "onnx", weights.size]]
    for way in ("by name", "by id", "by label", "by version"):
        assert bytes.fromhex(saw[way]) == weights.source, way
    assert saw["of odd models"] == [[1, model.id] for model in WITH_WEIGHTS]


@pytest.mark.parametrize("version", [sdk.NEWEST], indirect=True)
def test_get_model_runs_a_classifier_and_then_needs_one_request(run, served):
    mark = served.marked()
    first, second, third = run(INFERENCE)

    assert first[0] in {"intact", "dented", "torn"}
    assert 1 / 3 < first[1] < 1
    assert first == second == third
    model = "/api/v1/developer/models/Box%20Condition"
    md5 = CLASSIFIER.weights["onnx"].md5.hex()
    asked = served.requests_since(mark)
    assert asked == [
        ("GET", model, 200),
        ("GET", f"/api/v1/developer/models/{CLASSIFIER.id}/download", 200),
        ("GET", f"/blobs/{md5}.onnx", 200),
        ("GET", model, 200),
        ("GET", model, 200),
    ]


@pytest.fixture(scope="module")
def tool(served, tmp_path_factory):
    """Runs several commands of the newest SDK's own command line at once: each takes a second to start."""
    command = sdk.environment(sdk.NEWEST).with_name("pictograph")
    home = tmp_path_factory.mktemp("cli")
    env = {**sdk.settings(served.base_url, served.api_key, home), "PICTOGRAPH_OUTPUT": "json"}

    def run(*commands, **more):
        started = [
            subprocess.Popen([command, "models", *each], cwd=home, env={**env, **more}, text=True, stdout=-1, stderr=-1)
            for each in commands
        ]
        ends = [process.communicate(timeout=60) for process in started]
        return [(process.returncode, *end) for process, end in zip(started, ends, strict=True)]

    return home, run


def test_the_command_line_lists_gets_and_downloads(tool, held):
    home, run = tool
    listed, got, *rest = run(
        ["list", "-n", "500", "--json"],
        ["get", "a/b"],
        ["download", "Box Condition", "-o", "box.onnx"],
        ["versions", "Box Condition", "--json"],
        ["files", "Box Condition", "--json"],
        ["download-file", "Box Condition", "box-condition.onnx", "-o", "file.onnx"],
    )

    assert [code for code, _, _ in (listed, got, *rest)] == [0] * 6, (listed, got, rest)
    rows = json.loads(listed[1])
    assert {row["id"] for row in rows} == expected(held, sdk.NEWEST)
    assert json.loads(got[1])["id"] == NAMED[0].id
    assert (home / "box.onnx").read_bytes() == (home / "file.onnx").read_bytes() == CLASSIFIER.weights["onnx"].source
    assert CLASSIFIER.id in rest[1][1]
    assert "box-condition.onnx" in rest[2][1]


def test_the_command_line_ends_with_the_code_of_the_error(tool):
    _, run = tool
    unknown, not_ready = run(["get", "nobody"], ["download", TRAINING.id, "-o", "none.onnx"])
    (wrong,) = run(["list"], PICTOGRAPH_API_KEY="wrong")

    assert [unknown[0], not_ready[0], wrong[0]] == [4, 5, 2], (unknown, not_ready, wrong)
    assert "no model 'nobody' in this mirror" in unknown[2]
