"""What the machine itself can do. No target: they tell what a figure beside them can be at best."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import tools
from ..lines import Line, Series
from ..setting import Contender
from .big_file import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..setting import Setting

MACHINE = "this machine"


def limits(setting: Setting) -> list[Line]:
    """Gigabytes (10^9 bytes) a second: the digests alone, a copy, a durable copy, and the wire without a file."""
    file = plain(setting)
    stored = file.upstream.storage / file.blob.md5
    size = file.blob.size
    work: dict[str, Callable[[], float]] = {
        "MD5 alone, one core": lambda: _hashed(["md5"], size),
        "SHA-256 alone, one core": lambda: _hashed(["sha256"], size),
        "MD5 and SHA-256, a thread each": lambda: _hashed(["md5", "sha256"], size),
        "raw copy (cp)": lambda: _copied(setting, stored),
        "raw copy, then sync": lambda: _copied(setting, stored, durable=True),
        "loopback, curl to /dev/null": lambda: tools.timed(
            lambda: tools.run(["curl", "-sS", "--fail", "-o", os.devnull, file.url])
        ),
    }
    # In turn as well: they are no rivals, but a busy minute should not hit one of them alone.
    contenders = [Contender(what, run, "curl" if "curl" in what else None) for what, run in work.items()]
    series = setting.alternate(contenders)
    return [_per_second(what, series[what], size) for what in work if what in series]


def _per_second(what: str, seconds: Series, size: int) -> Line:
    return Line(what, Series(MACHINE, tuple(size / each / 1e9 for each in seconds.values), "GB/s"))


def _hashed(algorithms: list[str], size: int) -> float:
    return float(tools.inside("digest", algorithms=algorithms, size=size)["seconds"])


def _copied(setting: Setting, source: Path, *, durable: bool = False) -> float:
    command = 'cp "$1" "$2" && sync "$2"' if durable else 'cp "$1" "$2"'
    with setting.scratch() as folder:
        return tools.timed(lambda: tools.run(["bash", "-c", command, "bash", source, folder / "copy"]))
