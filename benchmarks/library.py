"""A library of many small models: an upstream that lists them, and a root that has them all.

A first sync of 100,000 models would take minutes of requests that nobody measures. So the documents come by a real
sync that fetches no weights, and the weights are then put beside them as a sync would have left them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry_mirror.store.layout import Layout

from . import tools
from .lines import NotMeasuredError
from .upstream import Blob, Entry, Upstream, document, model_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .setting import Setting

CHANGED_ONE_IN = 100
NO_WEIGHTS = '[[sync.rules]]\naction = "exclude"\n'


@dataclass
class Library:
    """`count` models upstream and in `root`. `generation` counts how often one in a hundred has changed."""

    upstream: Upstream
    root: Path
    count: int
    generation: int = 0

    @property
    def env(self) -> dict[str, str]:
        """Of a `mirror` process on the root."""
        return tools.mirror_environment(self.upstream.base_url, self.root)

    def sync(self) -> dict[str, Any]:
        """Brings the root up to the upstream; the run's record."""
        return sync_record(self.env)

    def change(self) -> int:
        """Gives one model in a hundred a new version with weights of its own; how many that is.

        Changes are spread over all pages: nothing promises that an upstream lists changed models together.
        """
        self.generation += 1
        self.upstream.list(self.count, self._entry)
        return -(-self.count // CHANGED_ONE_IN)

    def _entry(self, number: int) -> Entry:
        if self.generation == 0 or number % CHANGED_ONE_IN:
            return Entry(document(number), None)
        data = content(number, self.generation)
        blob = Blob(hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data))
        (self.upstream.storage / blob.md5).write_bytes(data)
        return Entry(document(number, self.generation), blob)


def library(setting: Setting, count: int) -> Library:
    """The library of that size, made at its first use and shared by figures."""
    return setting.shared(f"library-{count}", lambda: _made(setting.folder / f"library-{count}", count))


@contextlib.contextmanager
def _made(folder: Path, count: int) -> Iterator[Library]:
    made = Library(Upstream(folder / "upstream"), folder / "root", count)
    made.upstream.list(count, made._entry)  # noqa: SLF001 - its own factory
    with made.upstream.running():
        sync_documents(made.env, made.root)
        _put_weights(made.root, count)
        settled = made.sync()
        if settled["unchanged"] != count or settled["requests"]["storage"]:
            raise NotMeasuredError(f"a root of {count} models did not settle: {json.dumps(settled)[:300]}")
        yield made


def _put_weights(root: Path, count: int) -> None:
    """Blobs and rows as a sync leaves them, each model with bytes of its own."""
    layout, rows = Layout(root), []
    for number in range(count):
        data = content(number, 0)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        blob = layout.blob(md5, "onnx")
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        rows.append((md5, hashlib.sha256(data).hexdigest(), len(data), model_id(number)))
    with contextlib.closing(sqlite3.connect(layout.catalog)) as catalog, catalog:
        catalog.executemany(
            "INSERT INTO weights (model_id, format, md5, version, sha256, size, fetched_at, stamp, current,"
            " declared_md5) SELECT id, 'onnx', ?, document ->> 'version', ?, ?, first_seen, stamp, 1, 1"
            " FROM models WHERE id = ?",
            rows,
        )
        touch(catalog, [(model_id(number),) for number in range(count)])


def touch(catalog: sqlite3.Connection, ids: Sequence[tuple[str]]) -> None:
    """Marks models as changed, as every change of the catalog does."""
    catalog.execute("UPDATE facts SET value = CAST(value AS INTEGER) + 1 WHERE key = 'revision'")
    catalog.executemany(
        "UPDATE models SET revision = (SELECT CAST(value AS INTEGER) FROM facts WHERE key = 'revision') WHERE id = ?",
        ids,
    )


def content(number: int, generation: int) -> bytes:
    """256 bytes that no other model and no other generation has."""
    return f"\x08\x08 {number} {generation} ".encode().ljust(256, b"\0")


def sync_documents(env: dict[str, str], root: Path) -> None:
    """A first sync that fetches no weights.

    Raises:
        NotMeasuredError: it was not ok.
    """
    root.mkdir()
    config = root / "config.toml"
    config.write_text(NO_WEIGHTS)
    sync_record(env)
    config.unlink()


def sync_record(env: dict[str, str]) -> dict[str, Any]:
    """One `mirror sync` as a process, and its record.

    Raises:
        NotMeasuredError: it was not ok.
    """
    record: dict[str, Any] = json.loads(tools.run(tools.mirror("sync", "--json"), env))["run"]
    return record
