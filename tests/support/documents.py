"""Models by the thousand, each with an id, a name, times and bytes of its own."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from registry_mirror.demo import ORGANIZATION_ID, DemoModel, DemoWeights

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def make_document(i: int, **overrides: Any) -> dict[str, Any]:
    """The document of the model of that number: schema-clean for every SDK, ready, different in id, name and times."""
    moment = (EPOCH + timedelta(minutes=i)).isoformat(timespec="microseconds")
    return {
        "id": str(uuid.UUID(int=0x4000_8000_0000_0000_0000 + i)),
        "organization_id": ORGANIZATION_ID,
        "name": f"model-{i:05d}",
        "description": None,
        "model_type": "object_detection",
        "architecture": "yolox-s",
        "visibility": "private",
        "status": "ready",
        "metrics": {"mAP": round(0.5 + i % 50 / 100, 2)},
        "class_mapping": {"classes": ["pallet", "forklift"]},
        "training_config": {"image_height": 640, "image_width": 640},
        "version": "1.0.0",
        "parent_model_id": None,
        "forked_from_model_id": None,
        "precision": "fp32",
        "created_at": moment,
        "updated_at": moment,
        **overrides,
    }


def weights_bytes(i: int, size: int = 256) -> bytes:
    """`size` bytes that no other number has; they begin as an ONNX file does."""
    return (b"\x08\x08" + random.Random(i).randbytes(max(size - 2, 0)))[:size]


def make_model(i: int, *, data: bytes | None = None, size: int = 256, **overrides: Any) -> DemoModel:
    """One small model; `overrides` go into its document. Only a ready model has weights, unless `data` gives some."""
    document = make_document(i, **overrides)
    if data is None and document["status"] == "ready":
        data = weights_bytes(i, size)
    return DemoModel(document, {} if data is None else {"onnx": DemoWeights(data)})


def many_models(n: int, *, size: int = 256, start: int = 0, **overrides: Any) -> list[DemoModel]:
    """`n` models numbered from `start`, no two with the same bytes."""
    return [make_model(i, size=size, **overrides) for i in range(start, start + n)]
