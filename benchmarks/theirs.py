"""What the Python peers do, in their own environment: each task in a fresh interpreter, one line of JSON printed.

Run as a file by `benchmarks.tools.theirs`; imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def download(model: str, output: str, durable: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - from JSON
    """One file by the official SDK; with `durable`, until it is on the disk."""
    from pictograph import Client  # type: ignore[import-not-found]

    client = Client()
    began = time.perf_counter()
    client.models.download(model, output_path=output)
    if durable:
        descriptor = os.open(output, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return {"seconds": time.perf_counter() - began, "size": Path(output).stat().st_size}


def loop(folder: str) -> dict[str, Any]:
    """Every model's file, one after the other, by the official SDK."""
    from pictograph import Client

    models, size = Client().models, 0
    for model in models.iter(page_size=100):
        size += models.download(model.id, output_path=Path(folder, f"{model.id}.onnx")).stat().st_size
    return {"size": size}


def lookup(cache: str, count: int) -> dict[str, Any]:
    """Seconds that huggingface_hub takes to find one file in its cache, which holds just that one."""
    from huggingface_hub import try_to_load_from_cache  # type: ignore[import-not-found]

    _make_cache(Path(cache))
    names = ("bench/model", "model.onnx")
    assert isinstance(try_to_load_from_cache(*names, cache_dir=cache), str)
    began = time.perf_counter()
    for _ in range(count):
        try_to_load_from_cache(*names, cache_dir=cache)
    return {"seconds": (time.perf_counter() - began) / count}


def _make_cache(cache: Path) -> None:
    home, commit = cache / "models--bench--model", "0" * 40
    snapshot = home / "snapshots" / commit
    for folder in (home / "refs", home / "blobs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(commit)
    (home / "blobs" / "weights").write_bytes(b"\x08\x08")
    if not (snapshot / "model.onnx").is_symlink():
        (snapshot / "model.onnx").symlink_to("../../blobs/weights")


TASKS: dict[str, Callable[..., dict[str, Any]]] = {task.__name__: task for task in (download, loop, lookup)}


if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
