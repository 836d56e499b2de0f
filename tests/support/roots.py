"""Roots on a real disk: blobs under their names, and an index published over them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sqlite3
import tempfile
import uuid
import weakref
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry_mirror.catalog import migrate
from registry_mirror.files import PRIVATE, Modes
from registry_mirror.index.publish import publish
from registry_mirror.index.schema import storable
from registry_mirror.index.values import FailureEntry, WeightsEntry
from registry_mirror.model import BlobCheck, micros, parse_time
from registry_mirror.store.layout import Layout

SEEN = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
FETCHED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
GONE = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
CATALOG = "catalog-1"


@dataclass(frozen=True)
class ModelEntry:
    """One model with all that a reader may ask about it. `created_at` and `updated_at` are the upstream's texts."""

    document: str
    id: str
    name: str
    status: str
    model_type: str | None = None
    architecture: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    first_seen: datetime = SEEN
    gone_at: datetime | None = None
    weights: tuple[WeightsEntry, ...] = ()
    failures: tuple[FailureEntry, ...] = ()
    pinned_at: datetime | None = None


@functools.cache
def empty_catalog() -> bytes:
    """A new catalog's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.sqlite"
        migrate(path)
        return path.read_bytes()


class Root:
    """A root to fill. `publish` brings the index up to what was added and changed since the last time.

    Its catalog lies elsewhere, as that of a copy that readers have.
    """

    def __init__(self, path: Path) -> None:
        self.layout = Layout(path)
        self.revision = 0
        self.entries: dict[str, ModelEntry] = {}
        path.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=".sqlite")
        os.write(descriptor, empty_catalog())
        os.close(descriptor)
        self.catalog = Path(name)
        self._changes: list[tuple[Any, int]] = []
        weakref.finalize(self, self.catalog.unlink, missing_ok=True)

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
        self._changes.append((entry, self.revision))
        return entry

    def check(self, weights: WeightsEntry, found: BlobCheck) -> None:
        """Records what a check of a blob found."""
        self.revision += 1
        self._changes.append(((weights, found), self.revision))

    def write(self) -> None:
        """Writes what has changed to the catalog."""
        with contextlib.closing(sqlite3.connect(self.catalog)) as database, database:
            database.execute("PRAGMA synchronous = OFF")
            for change, revision in self._changes:
                if isinstance(change, ModelEntry):
                    _put_model(database, change, revision)
                else:
                    weights, found = change
                    _put_check(database, weights, found, revision)
            for key, value in (("catalog_id", CATALOG), ("revision", str(self.revision))):
                _insert(database, "facts", {"key": key, "value": value})
        self._changes.clear()

    def alter(self, entry: ModelEntry, **changes: Any) -> ModelEntry:
        """An entry with other values, the document's included."""
        document = {**json.loads(entry.document), **{key: changes[key] for key in changes if key in ("name", "status")}}
        return self.put(replace(entry, **{"document": json.dumps(document), **changes}))

    def publish(
        self, *, catalog_id: str = CATALOG, revision: int | None = None, modes: Modes = PRIVATE, **meta: str
    ) -> bool:
        """Publishes the index."""
        self.write()
        asked = self.revision if revision is None else revision
        return publish(
            self.layout.index,
            self.layout.incoming,
            self.catalog,
            meta={"catalog_id": catalog_id, "revision": str(asked), **meta},
            modes=modes,
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


def _put_model(database: sqlite3.Connection, entry: ModelEntry, revision: int) -> None:
    model_id = storable(entry.id)
    for table in ("weights", "failures", "pins"):
        database.execute(f"DELETE FROM {table} WHERE model_id = ?", (model_id,))  # noqa: S608
    model = {
        "id": model_id,
        "name": storable(entry.name),
        "status": storable(entry.status),
        "model_type": entry.model_type and storable(entry.model_type),
        "architecture": entry.architecture and storable(entry.architecture),
        "created_at": micros(parse_time(entry.created_at)),
        "updated_at": micros(parse_time(entry.updated_at)),
        "document": storable(entry.document),
        "fingerprint": "",
        "stamp": "",
        "first_seen": micros(entry.first_seen),
        "gone_at": micros(entry.gone_at),
        "revision": revision,
    }
    _insert(database, "models", model)
    for one in entry.weights:
        _insert(
            database,
            "weights",
            {
                "model_id": model_id,
                "format": one.format,
                "version": one.version,
                "md5": one.md5,
                "sha256": one.sha256,
                "size": one.size,
                "fetched_at": micros(one.fetched_at),
                "current": int(one.current),
                "stamp": "",
                "declared_md5": 0,
            },
        )
    if entry.pinned_at is not None:
        _insert(database, "pins", {"model_id": model_id, "pinned_at": micros(entry.pinned_at)})
    for each in entry.failures:
        _insert(
            database,
            "failures",
            {
                "model_id": model_id,
                "format": each.format,
                "error": storable(each.error),
                "attempts": each.attempts,
                "first_failed_at": micros(each.first_failed_at),
                "last_failed_at": micros(each.last_failed_at),
            },
        )


def _put_check(database: sqlite3.Connection, weights: WeightsEntry, found: BlobCheck, revision: int) -> None:
    _insert(
        database,
        "checks",
        {
            "md5": weights.md5,
            "format": weights.format,
            "checked_at": micros(found.checked_at),
            "size": found.size,
            "mtime_ns": found.mtime_ns,
            "lost_at": micros(found.lost_at),
            "revision": revision,
        },
    )


def _insert(database: sqlite3.Connection, table: str, values: dict[str, Any]) -> None:
    columns, names = ", ".join(values), ", ".join(f":{each}" for each in values)
    database.execute(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({names})", values)  # noqa: S608
