"""What is measured in process: each task in an interpreter of its own, which prints its figures as one line of JSON.

python -m benchmarks.inside TASK '{"argument": …}'
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .library import touch
from .tools import API_KEY
from .upstream import PAGE, model_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_mirror.config import Settings

_BLOCK = 1 << 20


def fetch(base_url: str, root: str, ca_file: str | None = None) -> dict[str, Any]:
    """Fetches, checks and publishes the weights of the first model listed."""
    from registry_mirror.secret import Secret
    from registry_mirror.sources.source import ListedModel
    from registry_mirror.sync.fetch import Fetcher, job_for
    from registry_mirror.sync.opening import open_sync
    from registry_mirror.sync.reporter import Reporter

    settings = _settings(base_url, root, ca_file)
    with open_sync(settings, Secret(API_KEY), time.sleep, locked=True) as (writer, source, blobs):
        row = next(iter(source.pages())).rows[0]
        assert isinstance(row, ListedModel)
        began = time.perf_counter()
        stored = Fetcher(source, writer.catalog, blobs, Reporter()).fetch(job_for(row, "onnx", None), lambda: None)
        seconds = time.perf_counter() - began
    assert stored is not None
    return {"seconds": seconds, "size": stored.size, "published": stored.published}


def sync(base_url: str, root: str) -> dict[str, Any]:
    """One whole sync, from the call to the record on disk. Imports and a new root's catalog are made before."""
    from registry_mirror.secret import Secret
    from registry_mirror.sync.opening import open_sync
    from registry_mirror.sync.reporter import Reporter
    from registry_mirror.sync.run import SyncOptions
    from registry_mirror.sync.run import sync as run_sync
    from registry_mirror.sync.stop import Stop

    settings = _settings(base_url, root, None)
    with open_sync(settings, Secret(API_KEY), time.sleep, locked=True):
        pass
    began = time.perf_counter()
    finished = run_sync(settings, Secret(API_KEY), SyncOptions(), Reporter(), Stop())
    return {"seconds": time.perf_counter() - began, "run": finished.record.as_json()}


def _settings(base_url: str, root: str, ca_file: str | None) -> Settings:
    from registry_mirror.config import load_settings

    overrides = {"upstream.base_url": base_url, **({"upstream.ca_file": ca_file} if ca_file else {})}
    return load_settings(root=Path(root), env={}, overrides=overrides).settings


def publish(base_url: str, root: str, changes: int) -> dict[str, Any]:
    """Publishes the index after so many changes in the catalog, and once more after none."""
    from registry_mirror.secret import Secret
    from registry_mirror.store.layout import Layout
    from registry_mirror.sync.opening import open_sync

    layout = Layout(Path(root))
    with closing(sqlite3.connect(layout.catalog)) as catalog, catalog:
        chosen = catalog.execute("SELECT id FROM models ORDER BY random() LIMIT ?", (changes,)).fetchall()
        touch(catalog, chosen)
    with open_sync(_settings(base_url, root, None), Secret(API_KEY), time.sleep, locked=True) as (writer, _, _):
        began = time.perf_counter()
        published = writer.publish_index()
        seconds, before = time.perf_counter() - began, layout.index.stat()
        began = time.perf_counter()
        again = writer.publish_index()
        nothing, after = time.perf_counter() - began, layout.index.stat()
    untouched = (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    return {"seconds": seconds, "published": published, "none_seconds": nothing, "none": untouched and not again}


def pages(base_url: str, decoder: str) -> dict[str, Any]:
    """Fetches and parses every page that a sync lists, and does nothing else."""
    import httpx
    import msgspec

    parse: Callable[[bytes], Any] = json.loads if decoder == "json" else msgspec.json.decode
    count = 0
    with httpx.Client(headers={"X-API-Key": API_KEY}) as client:
        for status in ({}, {"status": "archived"}):
            offset, more = 0, True
            while more:
                params: dict[str, str | int] = {"limit": PAGE, "offset": offset, **status}
                page = parse(client.get(f"{base_url}/api/v1/developer/models/", params=params).content)
                offset, more = offset + len(page["data"]), page["pagination"]["has_more"]
            count += offset
    return {"models": count}


def lookup(root: str, count: int, models: int) -> dict[str, Any]:
    """Seconds that one `path` by name takes, over names in no order, the second time that each is asked for."""
    from registry_mirror import Mirror

    names = [model_name(number) for number in random.Random(1).sample(range(models), min(count, models))]
    with Mirror(root) as mirror:
        for name in names:
            mirror.models.path(name)
        began = time.perf_counter()
        for name in names:
            mirror.models.path(name)
        return {"seconds": (time.perf_counter() - began) / len(names)}


def download(root: str, name: str, output: str, link: str | None = None, times: int = 1) -> dict[str, Any]:
    """Delivers cached weights to a file; the seconds of one delivery."""
    from registry_mirror import Mirror

    with Mirror(root) as mirror:
        mirror.models.path(name)
        began = time.perf_counter()
        for _ in range(times):
            mirror.models.download(name, output, link=link)  # type: ignore[arg-type]
        return {"seconds": (time.perf_counter() - began) / times}


def digest(algorithms: list[str], size: int) -> dict[str, Any]:
    """Hashes `size` bytes of one buffer, each algorithm on a thread of its own."""
    block = bytes(min(_BLOCK, size))

    def work(name: str) -> None:
        hasher = hashlib.new(name, usedforsecurity=False)
        for _ in range(size // len(block)):
            hasher.update(block)

    threads = [threading.Thread(target=work, args=(name,)) for name in algorithms]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": time.perf_counter() - began}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    task.__name__: task for task in (fetch, sync, publish, pages, lookup, download, digest)
}


if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
