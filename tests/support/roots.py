"""Roots on a real disk: blobs under their names, and an index published over them."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from registry_mirror.index.entries import FailureEntry, ModelEntry, WeightsEntry
from registry_mirror.index.publish import publish
from registry_mirror.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEEN = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
FETCHED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
GONE = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
CATALOG = "catalog-1"


class Root:
    """A root to fill. `publish` brings the index up to what was added and changed since the last time."""

    def __init__(self, path: Path) -> None:
        self.layout = Layout(path)
        self.revision = 0
        self.entries: dict[str, ModelEntry] = {}
        self.changed: dict[str, int] = {}
        path.mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path:
        return self.layout.root

    def blob(
        self, content: bytes, weights_format: str = "onnx", *, version: str | None = "1", current: bool = True
    ) -> WeightsEntry:
        """Writes a blob as the store does, and says what the index records of it."""
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        file = self.layout.blob(md5, weights_format)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_bytes(content)
            file.chmod(0o444)
        sha256 = hashlib.sha256(content).hexdigest()
        return WeightsEntry(weights_format, version, md5, sha256, len(content), FETCHED, current)

    def add(
        self,
        name: str = "forklifts",
        content: bytes | None = b"weights",
        *,
        model_id: str | None = None,
        status: str = "ready",
        created: str | None = "2026-02-01T00:00:00Z",
        updated: str | None = "2026-02-02T00:00:00Z",
        model_type: str | None = "object_detection",
        gone_at: datetime | None = None,
        weights: tuple[WeightsEntry, ...] | None = None,
        failures: tuple[FailureEntry, ...] = (),
        **fields: Any,
    ) -> ModelEntry:
        """A model, cached with `content` (or with `weights`); None caches nothing."""
        model_id = str(uuid.uuid4()) if model_id is None else model_id
        document = {"id": model_id, "name": name, "status": status, "model_type": model_type}
        document |= {"created_at": created, "updated_at": updated, **fields}
        if weights is None:
            weights = () if content is None else (self.blob(content),)
        return self.put(
            ModelEntry(
                document=json.dumps(document, ensure_ascii=False),
                id=model_id,
                name=name,
                status=status,
                model_type=model_type,
                architecture=fields.get("architecture"),
                created_at=created,
                updated_at=updated,
                first_seen=SEEN,
                gone_at=gone_at,
                weights=weights,
                failures=failures,
            )
        )

    def put(self, entry: ModelEntry) -> ModelEntry:
        """Adds an entry, or puts it in the place of the one with its id."""
        self.revision += 1
        self.entries[entry.id] = entry
        self.changed[entry.id] = self.revision
        return entry

    def alter(self, entry: ModelEntry, **changes: Any) -> ModelEntry:
        """An entry with other values, the document's included."""
        document = {**json.loads(entry.document), **{key: changes[key] for key in changes if key in ("name", "status")}}
        return self.put(replace(entry, **{"document": json.dumps(document), **changes}))

    def since(self, revision: int | None) -> Iterator[ModelEntry]:
        """What the catalog would hand to the index."""
        return (one for one in self.entries.values() if revision is None or self.changed[one.id] > revision)

    def publish(self, **meta: str) -> bool:
        """Publishes the index."""
        return publish(
            self.layout.index,
            self.layout.incoming,
            catalog_id=CATALOG,
            revision=self.revision,
            entries_since=self.since,
            meta=meta,
        )

    def path_of(self, weights: WeightsEntry) -> Path:
        """Where these weights lie."""
        return self.layout.blob(weights.md5, weights.format)

    def footprint(self) -> dict[str, tuple[int, ...]]:
        """Everything in the root with what any change would change."""
        found: dict[str, tuple[int, ...]] = {}
        for folder, _, files in os.walk(self.path):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                stat = os.lstat(path)
                found[path] = (stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        return found


def failure(error: str = "storage answered 503", attempts: int = 3, weights_format: str = "onnx") -> FailureEntry:
    """An open failure."""
    return FailureEntry(weights_format, error, attempts, SEEN, FETCHED)
