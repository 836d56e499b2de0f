"""Many models of some MiB each, cold."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .. import tools
from ..library import sync_record
from ..lines import Kind, NotMeasuredError, Target
from ..setting import OURS, Contender, against, named
from ..upstream import Entry, Upstream, document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from ..lines import Line
    from ..setting import Setting
    from ..upstream import Blob

LOOP, ARIA2 = "loop of the official SDK", "aria2c -j16, list of ready URLs"


def cold_sync(setting: Setting) -> list[Line]:
    """`mirror sync` into an empty root, as a whole process."""
    count, size = setting.sizes.many, setting.sizes.small
    with many_files(setting, count, size) as (upstream, blobs):
        contenders = [
            Contender(OURS, lambda: _sync(setting, upstream, blobs)),
            Contender(LOOP, lambda: _loop(setting, upstream, blobs), str(tools.PEERS_PYTHON)),
            Contender(ARIA2, lambda: _aria2(setting, upstream, blobs), "aria2c"),
        ]
        targets = {LOOP: Target(Kind.SPEED, 5.0), ARIA2: Target(Kind.TIME, 1.5)}
        return against(f"{count} models of {named(size)}, cold", setting.alternate(contenders), targets)


@contextlib.contextmanager
def many_files(
    setting: Setting, count: int, size: int, rate: int | None = None
) -> Iterator[tuple[Upstream, list[Blob]]]:
    """An upstream with `count` files, served; removed afterwards."""
    setting.need(3 * count * size)
    with setting.scratch() as folder:
        upstream = Upstream(folder / "upstream", rate=rate)
        blobs = [upstream.add(number, size) for number in range(count)]
        upstream.list(count, lambda number: Entry(document(number), blobs[number]))
        with upstream.running():
            yield upstream, blobs


def check_fetched(run: dict[str, Any], blobs: Sequence[Blob]) -> None:
    """A figure only counts when all of it came.

    Raises:
        NotMeasuredError: something was not fetched.
    """
    wanted = {"files": len(blobs), "bytes": sum(blob.size for blob in blobs)}
    if run["fetched"] != wanted:
        raise NotMeasuredError(f"the sync was to fetch {wanted}, and fetched {run['fetched']}")


def _sync(setting: Setting, upstream: Upstream, blobs: Sequence[Blob]) -> float:
    with setting.scratch() as folder:
        runs: list[dict[str, Any]] = []
        env = tools.mirror_environment(upstream.base_url, folder / "root")
        seconds = tools.timed(lambda: runs.append(sync_record(env)))
    check_fetched(runs[0], blobs)
    return seconds


def _loop(setting: Setting, upstream: Upstream, blobs: Sequence[Blob]) -> float:
    with setting.scratch() as folder:
        env = {**tools.mirror_environment(upstream.base_url, folder), "HOME": str(folder)}
        said: list[dict[str, Any]] = []
        seconds = tools.timed(lambda: said.append(tools.theirs("loop", env, folder=str(folder))))
    if said[0]["size"] != sum(blob.size for blob in blobs):
        raise NotMeasuredError(f"the SDK's loop brought {said[0]['size']} bytes")
    return seconds


def _aria2(setting: Setting, upstream: Upstream, blobs: Sequence[Blob]) -> float:
    with setting.scratch() as folder:
        listed = folder / "list"
        listed.write_text("".join(_item(upstream, blob, folder) for blob in blobs))
        command = ["aria2c", "-q", "-j16", "--file-allocation=none", "-i", str(listed)]
        return tools.timed(lambda: tools.run(command))


def _item(upstream: Upstream, blob: Blob, folder: Path) -> str:
    return f"{upstream.url_of(blob)}\n  dir={folder}\n  out={blob.md5}.onnx\n  checksum=md5={blob.md5}\n"
