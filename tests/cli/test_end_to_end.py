"""The main job as its users meet it: synced, looked up by name, run in onnxruntime, with the upstream shut down."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
from support.syncing import environment, mirror, run_sync

from registry_mirror import Client, Mirror
from registry_mirror.demo import DemoUpstream, demo_models
from registry_mirror.transfer.retry import RetryPolicy


@pytest.fixture
def mirrored(root):
    with DemoUpstream(demo_models()) as upstream:
        assert run_sync(upstream, root).exit_code == 0
    return Mirror(root)


@pytest.mark.parametrize("name", ["Forklift Finder", "Pallet Outline", "Box Condition"])
def test_a_model_looked_up_by_name_runs_in_onnxruntime(mirrored, name):
    session = onnxruntime.InferenceSession(mirrored.models.path(name), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in given.shape]
    picture = np.random.default_rng(7).random(shape, dtype=np.float32)
    first = session.run(None, {given.name: picture})
    other = session.run(None, {given.name: 1 - picture})
    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_code_moves_from_online_to_offline_by_changing_one_line(root, tmp_path):
    def use(registry, folder):
        folder.mkdir()
        listed = sorted(model.name for model in registry.models.list(limit=20, status="ready"))
        paged = sorted(model.id for model in registry.models.iter(page_size=2))
        model = registry.models.get("Box Condition")
        by_id = registry.models.get(model.id)
        path = registry.models.download("Box Condition", output_path=folder / "box.onnx")
        facts = (model.architecture, model.status, model.model_type, model.metrics, model.classes, by_id.document)
        return listed, paged, facts, path.read_bytes()

    with DemoUpstream(demo_models()) as upstream:
        run_sync(upstream, root)
        with Client(upstream.api_key, upstream.base_url, retry=RetryPolicy(budget=0)) as client:
            online = use(client, tmp_path / "online")
            online_errors = errors_of(client, tmp_path)
    with Mirror(root) as offline:
        assert use(offline, tmp_path / "offline") == online
        assert errors_of(offline, tmp_path) == online_errors


def errors_of(registry, tmp_path):
    """The class and status of what goes wrong, which are the same online and offline."""
    found = []
    for act in (
        lambda: registry.models.get("nobody"),
        lambda: registry.models.download("nobody", tmp_path / "x"),
        lambda: registry.models.download("Dock Door Watch", tmp_path / "x"),
        lambda: registry.models.list(limit=501),
    ):
        with pytest.raises(Exception) as caught:
            act()
        found.append((type(caught.value), caught.value.exit_code))
    return found


def test_the_story_on_the_shell(root, tmp_path):
    with DemoUpstream(demo_models()) as upstream:
        env = environment(upstream, root)
        assert mirror("sync", env=env).returncode == 0
    listed = mirror("list", env=env)
    assert "Forklift Finder" in listed.stdout
    assert "Forklift Finder 2025" not in listed.stdout
    assert "Forklift Finder 2025" in mirror("list", "--all", env=env).stdout
    path = mirror("path", "Forklift Finder", env=env)
    assert path.stdout.endswith(".onnx\n")
    assert path.stderr == ""
    document = json.loads(mirror("get", "Forklift Finder", "--json", env=env).stdout)
    assert document["mirror"]["path"] == path.stdout.strip()
    unknown = mirror("path", "Forklift Findr", env=env)
    assert unknown.returncode == 8
    assert "Forklift Finder" in unknown.stderr
    training = mirror("path", "Dock Door Watch", env=env)
    assert training.returncode == 9
    assert "training" in training.stderr
