"""Roots made without a sync: one large file, and as many models in the index as are wanted."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from registry_mirror.catalog import Catalog, WeightsRecord, migrate
from registry_mirror.index.publish import publish
from registry_mirror.model import micros, parse_time
from registry_mirror.store.layout import Layout

from .upstream import document, model_id, model_name, write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .setting import Setting

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BIG = 0
"""The number of the model with the large file."""


@dataclass(frozen=True)
class Root:
    """A published root. `blob` is the large file's path in it, `size` its bytes."""

    folder: Path
    blob: Path
    size: int

    @property
    def name(self) -> str:
        """The large model's."""
        return model_name(BIG)


def big_root(setting: Setting) -> Root:
    """A root with the large file, and a tenth of the library's models; shared by figures."""
    return setting.shared("big root", lambda: _kept(setting, setting.sizes.big, max(1, setting.sizes.models // 10)))


@contextlib.contextmanager
def _kept(setting: Setting, size: int, models: int) -> Iterator[Root]:
    setting.need(2 * size)
    with setting.scratch() as folder:
        yield make_root(folder / "root", size, models)


def make_root(folder: Path, size: int, models: int) -> Root:
    """Every model has the same weights: one blob of that many bytes."""
    layout = Layout(folder)
    folder.mkdir(parents=True)
    grown = folder / "grown"
    md5 = write_bytes(grown, BIG, size)
    blob = layout.blob(md5, "onnx")
    blob.parent.mkdir(parents=True)
    grown.rename(blob)
    catalog = folder / "made from"
    migrate(catalog)
    with Catalog(catalog) as writing:
        writing.set_facts({"organization_id": "0" * 8})
        writing.models.record([_row(number) for number in range(models)], NOW)
        writing.weights.record([_weights(number, md5, size) for number in range(models)])
        meta = {key: value for key, value in writing.facts().items() if key != "published_index"}
    publish(layout.index, layout.incoming, catalog, meta=meta)
    catalog.unlink()
    return Root(folder, blob, size)


def _row(number: int) -> dict[str, Any]:
    listed = document(number)
    return {
        "id": model_id(number),
        "name": model_name(number),
        **{key: listed[key] for key in ("status", "model_type", "architecture")},
        **{key: micros(parse_time(listed[key])) for key in ("created_at", "updated_at")},
        "document": json.dumps(listed),
        "fingerprint": "",
        "stamp": "",
    }


def _weights(number: int, md5: str, size: int) -> WeightsRecord:
    return WeightsRecord(model_id(number), "onnx", "1.0.0", md5, "0" * 64, size, "", declared_md5=False, fetched_at=NOW)
