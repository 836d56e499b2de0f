"""A storage that gives 40 MB/s to one connection: how much of eight connections' sum do we get?"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .. import tools
from ..lines import Kind, NotMeasuredError, Target
from ..setting import OURS, Contender, against, named
from .big_file import fetch, one_file
from .many_files import check_fetched, many_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..lines import Line
    from ..setting import Setting
    from ..upstream import Blob, Upstream

RATE = 40_000_000
CONNECTIONS = 8
EIGHT, ONE = "eight curls at once", "one curl"
# Within 20 % of the sum, and a single connection for comparison.
TARGETS = {EIGHT: Target(Kind.SPEED, 0.8), ONE: Target(Kind.SPEED)}


def one_large(setting: Setting) -> list[Line]:
    """One file, in process; eight curls take an eighth of it each."""
    size = setting.sizes.slow
    with one_file(setting, size, RATE) as file:
        step = -(-size // CONNECTIONS)
        ranges = [f"{start}-{min(start + step, size) - 1}" for start in range(0, size, step)]
        parts = [["-r", each, file.url] for each in ranges]
        contenders = [
            Contender(OURS, lambda: fetch(setting, file)),
            Contender(EIGHT, lambda: _curls(setting, parts), "curl"),
            Contender(ONE, lambda: _curls(setting, [[file.url]]), "curl"),
        ]
        return against(f"{named(size)} at 40 MB/s a connection", setting.alternate(contenders), TARGETS)


def many(setting: Setting) -> list[Line]:
    """As many files as make the same bytes, a whole sync in process; eight curls take an eighth of the files each."""
    count = setting.sizes.slow_many
    size = setting.sizes.slow // count
    with many_files(setting, count, size, RATE) as (upstream, blobs):
        urls = [upstream.url_of(blob) for blob in blobs]
        contenders = [
            Contender(OURS, lambda: _sync(setting, upstream, blobs)),
            Contender(EIGHT, lambda: _curls(setting, [urls[at::CONNECTIONS] for at in range(CONNECTIONS)]), "curl"),
            Contender(ONE, lambda: _curls(setting, [urls]), "curl"),
        ]
        what = f"{count} files of {named(size)} at 40 MB/s a connection"
        return against(what, setting.alternate(contenders), TARGETS)


def _sync(setting: Setting, upstream: Upstream, blobs: Sequence[Blob]) -> float:
    with setting.scratch() as folder:
        said = tools.inside("sync", base_url=upstream.base_url, root=str(folder / "root"))
    check_fetched(said["run"], blobs)
    return float(said["seconds"])


def _curls(setting: Setting, several: Sequence[Sequence[str]]) -> float:
    """Seconds until the last of several curls is done; each has arguments of its own."""
    with setting.scratch() as folder:
        return tools.timed(lambda: _all_done(folder, several))


def _all_done(folder: Path, several: Sequence[Sequence[str]]) -> None:
    running = [
        subprocess.Popen(["curl", "-sS", "--fail", *_outputs(folder / str(number), arguments)], env=tools.environment())
        for number, arguments in enumerate(several)
    ]
    if any([process.wait() for process in running]):  # noqa: C419 - all are to be waited for
        raise NotMeasuredError("a curl failed")


def _outputs(prefix: Path, arguments: Sequence[str]) -> list[str]:
    """Gives each address of a curl a file of its own."""
    return [
        word
        for number, argument in enumerate(arguments)
        for word in (["-o", f"{prefix}-{number}", argument] if argument.startswith("http") else [argument])
    ]
