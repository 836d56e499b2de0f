"""Where and with what a figure is measured: folder, sizes, runs; and the runs themselves, in turn."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import tools
from .lines import Line, NotMeasuredError, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

    from .lines import Target

T = TypeVar("T")
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
OURS = "mirror"
MEMORY, DISK = "memory", "disk"
"""The places."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. All but the counts are bytes; `seconds` is the length of one run of small answers."""

    big: int = GIB
    many: int = 200
    small: int = 2 * MIB
    slow: int = 256 * MIB
    slow_many: int = 64
    models: int = 100_000
    scale: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000)
    lookups: int = 5_000
    checked: int = 32
    checked_size: int = 256 * MIB
    seconds: int = 3


SIZES = {
    "full": Sizes(),
    "quick": Sizes(
        big=64 * MIB,
        many=24,
        small=256 * KIB,
        slow=16 * MIB,
        slow_many=16,
        models=2_000,
        scale=(500, 2_000),
        lookups=1_000,
        checked=4,
        checked_size=16 * MIB,
        seconds=1,
    ),
    "tiny": Sizes(
        big=256 * KIB,
        many=4,
        small=8 * KIB,
        slow=64 * KIB,
        slow_many=8,
        models=150,
        scale=(100, 150),
        lookups=20,
        checked=2,
        checked_size=64 * KIB,
        seconds=1,
    ),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the job. `run` does it once and gives back seconds, or whatever the unit is.

    `tool` is the command that it needs; None for ours, which nothing may keep from being measured.
    """

    who: str
    run: Callable[[], float]
    tool: str | None = None


@dataclass
class Setting:
    """One place, and what figures share in it.

    Attributes:
        place: `MEMORY` or `DISK`.
        missing: what could not be measured, and why; figures add to it.
    """

    folder: Path
    place: str
    sizes: Sizes
    runs: int
    missing: list[str] = field(default_factory=list)
    _made: dict[str, Any] = field(default_factory=dict)
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def shared(self, name: str, make: Callable[[], contextlib.AbstractContextManager[T]]) -> T:
        """Something that several figures use; made at its first use, and closed with the setting."""
        if name not in self._made:
            self._made[name] = self._running.enter_context(make())
        made: T = self._made[name]
        return made

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder, removed afterwards. What was left unwritten before must not slow the fsync of what comes."""
        if self.place == DISK:
            os.sync()
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    def need(self, size: int) -> None:
        """Says before anything runs that the folder has no room.

        Raises:
            NotMeasuredError: there are fewer than `size` bytes free.
        """
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise NotMeasuredError(f"the folder has {named(free)} free, and {named(size)} are needed")

    def alternate(self, contenders: Sequence[Contender], unit: str = "s") -> dict[str, Series]:
        """All in turn, several times, after one round that does not count; a busy machine is busy for each.

        A peer that is not installed or fails is left out and noted; ours must work.

        Raises:
            NotMeasuredError: ours failed.
        """
        able = [each for each in contenders if self._warmed_up(each)]
        rounds = [[each.run() for each in able] for _ in range(self.runs)]
        return {each.who: Series(each.who, tuple(row[at] for row in rounds), unit) for at, each in enumerate(able)}

    def _warmed_up(self, contender: Contender) -> bool:
        try:
            if contender.tool is not None:
                tools.require(contender.tool)
            contender.run()
        except NotMeasuredError as error:
            if contender.tool is None:
                raise
            self.missing.append(f"{contender.who}: {error}")
            return False
        return True


def against(what: str, series: Mapping[str, Series], targets: Mapping[str, Target]) -> list[Line]:
    """Ours against each peer that was measured. `targets` has all of them by name."""
    ours = series[OURS]
    return [Line(what, ours, series[who], target) for who, target in targets.items() if who in series]


def named(size: int) -> str:
    """`1 GiB`: bytes as people write them, in the largest unit that gives one at least."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} B"
