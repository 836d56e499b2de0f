"""The demo's models: one of every status, three of them with weights that onnxruntime loads and runs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from .weights import DemoWeights

if TYPE_CHECKING:
    from collections.abc import Mapping

ORGANIZATION_ID = "0b7d2f60-9c1e-4a3b-8f55-3f2f6b1d9e10"
SUFFIXES = {"onnx": ".onnx", "pytorch": ".pth", "safetensors": ".safetensors", "pte": ".pte", "engine": ".engine"}
# With `list_rows="bare"`, a listing leaves these out, and only the answer for a single model has them.
DETAILS = ("metrics", "class_mapping")


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo upstream: its JSON document, and its weights by format."""

    document: Mapping[str, Any]
    weights: Mapping[str, DemoWeights] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The document's id."""
        return str(self.document["id"])

    @property
    def name(self) -> str:
        """The document's name."""
        return str(self.document["name"])

    @property
    def status(self) -> str:
        """The document's status."""
        return str(self.document["status"])

    def filename(self, wire_format: str) -> str:
        """The file name that the platform would use: the simplified name with the suffix of the format."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "model"
        return plain + SUFFIXES.get(wire_format, ".bin")

    @cached_property
    def json(self) -> str:
        """The document as JSON. It is encoded only once, so that a listing of a thousand rows is fast."""
        return json.dumps(self.document, ensure_ascii=False)

    @cached_property
    def bare_json(self) -> str:
        """The document as JSON, without `DETAILS`."""
        return json.dumps({key: value for key, value in self.document.items() if key not in DETAILS})


def demo_models(organization_id: str = ORGANIZATION_ID) -> tuple[DemoModel, ...]:
    """Makes three models that are ready, one in training, one that failed and one that is archived."""
    rows = (_DETECTOR, _SEGMENTER, _CLASSIFIER, _TRAINING, _FAILED, _ARCHIVED)
    common = {"organization_id": organization_id, "visibility": "private", "precision": "fp32"}
    return tuple(DemoModel({**_BLANK, **row, **common}, _shipped(_FILES.get(str(row["id"])))) for row in rows)


def _shipped(filename: str | None) -> dict[str, DemoWeights]:
    if filename is None:
        return {}
    return {"onnx": DemoWeights(files(__package__).joinpath("models", filename).read_bytes())}


_BLANK: dict[str, Any] = {"description": None, "parent_model_id": None, "forked_from_model_id": None}

_DETECTOR = {
    "id": "5f0c9d3e-6a41-4b7e-9a52-0d8f3f1c2b77",
    "name": "Forklift Finder",
    "description": "Forklifts and people in the aisles.",
    "model_type": "object_detection",
    "architecture": "yolox-s",
    "status": "ready",
    "version": "2.0.0",
    "metrics": {"mAP": 0.61, "precision": 0.72, "recall": 0.58},
    "class_mapping": {"classes": ["forklift", "person"]},
    "training_config": {"image_height": 64, "image_width": 64, "model_size": "s", "epochs": 80},
    "created_at": "2026-03-01T08:00:00.250000+00:00",
    "updated_at": "2026-03-02T09:30:00.125000+00:00",
}
_SEGMENTER = {
    "id": "9b3a1c52-77e0-4f0d-8d1e-52c6a4e7b913",
    "name": "Pallet Outline",
    "description": "Where a pallet ends and the floor begins.",
    "model_type": "semantic_segmentation",
    "architecture": "unet",
    "status": "ready",
    "version": "1.0.0",
    "metrics": {"mIoU": 0.83, "dice": 0.9},
    "class_mapping": {"classes": ["pallet"]},
    "training_config": {"image_height": 64, "image_width": 64, "encoder": "resnet18", "epochs": 40},
    "created_at": "2026-03-18T13:05:41.900000+00:00",
    "updated_at": "2026-03-18T16:44:02.031000+00:00",
}
_CLASSIFIER = {
    "id": "c2d84f6b-1e9a-4c35-b0f7-8a6e3d5f2190",
    "name": "Box Condition",
    "description": "Is this box fit to ship?",
    "model_type": "classification",
    "architecture": "resnet18",
    "status": "ready",
    "version": "1.2.0",
    "metrics": {"accuracy": 0.94, "precision": 0.93, "recall": 0.92},
    "class_mapping": {"classes": ["intact", "dented", "torn"]},
    "training_config": {"image_height": 64, "image_width": 64, "backbone": "resnet18", "epochs": 25},
    "created_at": "2026-04-07T07:20:11.004000+00:00",
    "updated_at": "2026-05-12T11:02:56.780000+00:00",
}
_TRAINING = {
    "id": "71e6b0d4-3c58-4a92-a6f3-e04b9d7c8a25",
    "name": "Dock Door Watch",
    "model_type": "instance_segmentation",
    "architecture": "rfdetr-seg-nano",
    "status": "training",
    "version": "1.0.0",
    "metrics": None,
    "class_mapping": {"classes": ["door", "truck", "gap"]},
    "training_config": {"image_height": 384, "image_width": 384, "epochs": 60},
    "created_at": "2026-06-02T06:15:30.500000+00:00",
    "updated_at": "2026-06-02T06:15:30.500000+00:00",
}
_FAILED = {
    "id": "e8f5279a-b46d-4d13-9c70-16a2c3f4d58b",
    "name": "Label Reader",
    "description": "Stopped at epoch 3: the dataset has no annotated labels.",
    "model_type": "object_detection",
    "architecture": "yolox-m",
    "status": "failed",
    "version": "1.0.0",
    "metrics": None,
    "class_mapping": None,
    "training_config": {"image_height": 640, "image_width": 640, "model_size": "m", "epochs": 100},
    "created_at": "2026-05-20T10:00:00.000000+00:00",
    "updated_at": "2026-05-20T10:41:09.330000+00:00",
}
_ARCHIVED = {
    "id": "2d7f4e81-5b90-4c6a-8e33-f9b1a07c6d42",
    "name": "Forklift Finder 2025",
    "description": "Replaced by Forklift Finder.",
    "model_type": "object_detection",
    "architecture": "yolox-nano",
    "status": "archived",
    "version": "1.4.0",
    "metrics": {"mAP": 0.44, "precision": 0.6, "recall": 0.41},
    "class_mapping": {"classes": ["forklift"]},
    "training_config": {"image_height": 416, "image_width": 416, "model_size": "nano", "epochs": 50},
    "created_at": "2025-09-14T12:30:00.000000+00:00",
    "updated_at": "2026-03-02T09:35:17.600000+00:00",
}
_FILES = {
    str(_DETECTOR["id"]): "forklift-finder.onnx",
    str(_SEGMENTER["id"]): "pallet-outline.onnx",
    str(_CLASSIFIER["id"]): "box-condition.onnx",
}
