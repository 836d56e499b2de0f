"""The benchmark: everything, or some of it, beside its peers on loopback.

    python -m benchmarks.run --only big-file,lookup --dir /dev/shm --runs 5

Exits with 0 when everything was measured, also when a target was missed (1 with --strict), and with 2 when something
could not be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import tools
from .lines import NotMeasuredError
from .registry import FIGURES, chosen
from .results import Missing, Results, about
from .setting import DISK, MEMORY, SIZES, Setting
from .table import as_text, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .lines import Line
    from .registry import Figure

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - memory is what is asked for
ON_DISK = tools.TOP / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Place:
    """`memory` or `disk`, and a folder there."""

    name: str
    folder: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, judges."""
    asked = parse(argv)
    if asked.list:
        print("\n".join(f"{figure.name:<20} {figure.about}" for figure in FIGURES.values()))
        return 0
    results = measure(asked.figures, asked.places, asked.sizes, asked.runs)
    read = json.dumps(results.as_json(), indent=1)
    if asked.save is not None:
        asked.save.parent.mkdir(parents=True, exist_ok=True)
        asked.save.write_text(f"{read}\n")
    print(read if asked.json else as_text(results))
    return exit_code(results, strict=asked.strict)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the process with 2 when it is wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="these figures alone")
    parser.add_argument("--list", action="store_true", help="print the names of all figures")
    parser.add_argument("--dir", type=Path, action="append", help="where; default: /dev/shm, then build/bench on disk")
    parser.add_argument("--sizes", choices=sorted(SIZES), default="full", help="how much of everything [%(default)s]")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each [%(default)s]")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the results there as JSON")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, every run")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target was missed")
    asked = parser.parse_args(argv)
    if asked.runs < 1:
        parser.error("--runs begins at 1")
    try:
        names = [name.strip() for name in asked.only.split(",") if name.strip()]
        asked.figures = chosen(names)
    except ValueError as error:
        parser.error(str(error))
    asked.places = [place_of(folder) for folder in asked.dir or default_folders()]
    if not names:  # everything is what can be measured in these places; a figure asked for by name must be told of
        here = {place.name for place in asked.places}
        asked.figures = [figure for figure in asked.figures if here & set(figure.places)]
    return asked


def default_folders() -> list[Path]:
    """Memory first, where the system has a folder in it; then this checkout's disk."""
    ON_DISK.mkdir(parents=True, exist_ok=True)
    return [*([SHARED_MEMORY] if SHARED_MEMORY.is_dir() else []), ON_DISK]


def place_of(folder: Path) -> Place:
    """What a folder is on, by the file system that it belongs to; a disk where that cannot be told."""
    absolute = folder.resolve()
    mounts = Path("/proc/self/mounts")
    table = [line.split() for line in mounts.read_text().splitlines()] if mounts.exists() else []
    above = [(len(where), kind) for _, where, kind, *_ in table if absolute.is_relative_to(where)]
    return Place(MEMORY if above and max(above)[1] in ("tmpfs", "ramfs") else DISK, absolute)


def measure(figures: Sequence[Figure], places: Sequence[Place], sizes: str, runs: int) -> Results:
    """Every figure in every place that it is measured in. One that fails keeps no other from being measured."""
    lines: list[Line] = []
    missing: list[Missing] = []
    for place in places:
        here = [figure for figure in figures if place.name in figure.places]
        with (
            tempfile.TemporaryDirectory(prefix="mirror-bench-", dir=place.folder) as folder,
            Setting(Path(folder), place.name, SIZES[sizes], runs) as setting,
        ):
            for figure in here:
                found, why = one(figure, setting)
                lines += found
                missing += [Missing(figure.name, place.name, each) for each in why]
    measured = {line.figure for line in lines} | {each.figure for each in missing}
    nowhere = [each for each in figures if each.name not in measured]
    missing += [Missing(each.name, places[0].name, f"it is measured {where(each.places[0])} alone") for each in nowhere]
    return Results(about(sizes, runs), tuple(lines), tuple(missing))


def one(figure: Figure, setting: Setting) -> tuple[list[Line], list[str]]:
    """One figure's lines, and what of it could not be measured. Says on standard error what it is at."""
    began = time.monotonic()
    print(f"{figure.name}, {where(setting.place)} … ", end="", file=sys.stderr, flush=True)
    setting.missing.clear()
    try:
        found = figure.measure(setting)
    except (NotMeasuredError, OSError) as error:
        found = []
        setting.missing.append(str(error))
    except Exception as error:  # noqa: BLE001 - a fault in one figure must not cost an hour of others; it is told of
        found = []
        setting.missing.append(f"a fault in the benchmark: {type(error).__name__}: {error}")
    print(f"{time.monotonic() - began:.1f} s", file=sys.stderr)
    judged = setting.place in figure.judged
    marked = [replace(line, figure=figure.name, place=setting.place) for line in found]
    return [line if judged else _unjudged(line) for line in marked], list(setting.missing)


def _unjudged(line: Line) -> Line:
    """The same without a bound: its target was set for another place."""
    return line if line.target is None else replace(line, target=replace(line.target, bound=None))


def exit_code(results: Results, *, strict: bool) -> int:
    """What could not be measured weighs more than what lost."""
    if results.missing:
        return 2
    return 1 if strict and results.missed else 0


if __name__ == "__main__":
    sys.exit(main())
