"""`mirror verify` of a store that is in the page cache, against md5sum on as many cores."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from registry_mirror.cli import VERBS
from registry_mirror.store.layout import Layout

from .. import tools
from ..library import sync_documents, sync_record
from ..lines import Kind, NotMeasuredError, Target
from ..setting import OURS, Contender, against, named
from ..upstream import Entry, Upstream, document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..lines import Line
    from ..setting import Setting

MD5SUM = "md5sum on all cores"


def verify(setting: Setting) -> list[Line]:
    """SHA-256 where it is recorded, as it is for everything that a sync brought; then both digests."""
    if "verify" not in VERBS:
        raise NotMeasuredError("no such verb: verify")
    count, size = setting.sizes.checked, setting.sizes.checked_size
    what = f"verify of {named(count * size)}"
    with _synced(setting, count, size) as root:
        lines = []
        for wording, options, target in ((what, [], 1.5), (f"{what}, both digests", ["--md5"], 0.65)):
            series = setting.alternate(
                [
                    Contender(OURS, lambda options=options: _verify(root, options)),  # type: ignore[misc]
                    Contender(MD5SUM, lambda: _md5sum(root), "md5sum"),
                ]
            )
            lines += against(wording, series, {MD5SUM: Target(Kind.SPEED, target)})
        return lines


@contextlib.contextmanager
def _synced(setting: Setting, count: int, size: int) -> Iterator[Path]:
    """A root with so many files, taken over by a real sync, so that their SHA-256 is recorded.

    They are links to the upstream's own files: two copies of 8 GiB would not fit into the memory of a small machine.
    """
    setting.need(count * size)
    with setting.scratch() as folder:
        upstream = Upstream(folder / "upstream")
        root = folder / "root"
        blobs = [upstream.add(number, size) for number in range(count)]
        upstream.list(count, lambda number: Entry(document(number), blobs[number]))
        with upstream.running():
            env = tools.mirror_environment(upstream.base_url, root)
            sync_documents(env, root)
            for blob in blobs:
                _link(upstream.storage / blob.md5, Layout(root).blob(blob.md5, "onnx"))
            reused = sync_record(env)["reused"]
        if reused != {"files": count, "bytes": count * size}:
            raise NotMeasuredError(f"{count} files were to be taken over, and the sync says {reused}")
        yield root


def _link(stored: Path, blob: Path) -> None:
    blob.parent.mkdir(parents=True, exist_ok=True)
    stored.chmod(0o444)
    blob.hardlink_to(stored)


def _verify(root: Path, options: list[str]) -> float:
    return tools.timed(lambda: tools.run(tools.mirror("--root", str(root), "verify", *options)))


def _md5sum(root: Path) -> float:
    command = 'find "$1" -type f -print0 | xargs -0 -n1 -P"$2" md5sum'
    cores = str(os.cpu_count() or 1)
    return tools.timed(lambda: tools.run(["bash", "-c", command, "bash", root / "blobs", cores]))
