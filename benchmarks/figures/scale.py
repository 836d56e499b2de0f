"""A sync with nothing new, or little: what it costs for a hundred thousand models, and how that grows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .. import tools
from ..library import library
from ..lines import Kind, Line, NotMeasuredError, Series, Target, fitted_exponent
from ..memory import NotMeasuredError as PeakNotMeasuredError
from ..memory import peak_of
from ..setting import MIB, OURS, Contender, against

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..library import Library
    from ..setting import Setting

LOOP, BARE = "loop that fetches and parses the pages", "the same with msgspec"
EXPONENT = Target(Kind.VALUE, 1.05)
CHANGES = 100
TAIL = 10_000


def unchanged(setting: Setting) -> list[Line]:
    """A whole `mirror sync` that finds nothing new, its peak memory, and the requests that storage saw."""
    held = library(setting, setting.sizes.models)
    what = f"sync of {held.count:,} unchanged models"
    peaks: list[float] = []
    requests: list[float] = []

    def sync() -> float:
        peak, seconds, run = _measured_sync(setting, held)
        peaks.append(peak / MIB)
        requests.append(run["requests"]["storage"])
        return seconds

    contenders = [
        Contender(OURS, sync),
        Contender(LOOP, lambda: _loop(held, "json"), sys.executable),
        Contender(BARE, lambda: _loop(held, "msgspec"), sys.executable),
    ]
    series = setting.alternate(contenders)
    return [
        *against(what, series, {LOOP: Target(Kind.TIME, 1.5), BARE: Target(Kind.TIME)}),
        Line(f"{what}: peak memory", Series(OURS, (max(peaks),), "MiB"), target=Target(Kind.VALUE, 200)),
        Line(f"{what}: storage", Series(OURS, (max(requests),), "requests"), target=Target(Kind.VALUE, 0)),
    ]


def _measured_sync(setting: Setting, held: Library) -> tuple[int, float, dict[str, Any]]:
    import json

    with setting.scratch() as folder:
        output = folder / "record.json"
        try:
            peak, seconds = peak_of(tools.mirror("sync", "--json"), held.env, output)
        except PeakNotMeasuredError as error:
            raise NotMeasuredError(str(error)) from error
        run: dict[str, Any] = json.loads(output.read_text())["run"]
    if run["unchanged"] != held.count:
        raise NotMeasuredError(f"{run['unchanged']} of {held.count} models were unchanged")
    return peak, seconds, run


def _loop(held: Library, decoder: str) -> float:
    return tools.timed(lambda: tools.inside("pages", base_url=held.upstream.base_url, decoder=decoder))


def curves(setting: Setting) -> list[Line]:
    """Syncs in process over growing counts, nothing changed and one model in a hundred; the publication by itself."""
    points = [line for count in setting.sizes.scale for line in _point(setting, library(setting, count))]
    return [*points, *_exponents(points), *_publication_targets(points)]


def _point(setting: Setting, held: Library) -> list[Line]:
    """No round is thrown away: making the library has synced it twice, and every run has a fresh interpreter."""
    changes = min(CHANGES, held.count)
    same = [_sync(held, changed=0) for _ in range(setting.runs)]
    changed = [_sync(held, changed=held.change()) for _ in range(setting.runs)]
    published = [_publish(held, changes) for _ in range(setting.runs)]
    runs = {
        "unchanged": same,
        "1 % changed": changed,
        f"publish after {changes} changes": [each["seconds"] for each in published],
        "publish after none": [each["none_seconds"] for each in published],
    }
    return [Line(what, Series(OURS, tuple(seconds)), models=held.count) for what, seconds in runs.items()]


def _sync(held: Library, *, changed: int) -> float:
    said = tools.inside("sync", base_url=held.upstream.base_url, root=str(held.root))
    run = said["run"]
    if (run["changed"], run["fetched"]["files"], len(run["failed"])) != (changed, changed, 0):
        raise NotMeasuredError(f"{changed} of {held.count} models had changed, and the sync says {run['changed']}")
    return float(said["seconds"])


def _publish(held: Library, changes: int) -> dict[str, Any]:
    said = tools.inside("publish", base_url=held.upstream.base_url, root=str(held.root), changes=changes)
    if not said["published"] or not said["none"]:
        raise NotMeasuredError(f"the index was not published once for {changes} changes and left alone for none")
    return said


def _exponents(points: Sequence[Line]) -> list[Line]:
    """Over all counts, and over the large ones alone, where what every run costs no longer hides the growth."""
    lines = []
    for what in ("unchanged", "1 % changed"):
        curve = [(line.models or 0, line.ours.median) for line in points if line.what == what]
        large = [point for point in curve if point[0] >= TAIL]
        for part, named in ((curve, "all counts"), (large, f"{TAIL:,} up")):
            if len(part) > 1:
                exponent = fitted_exponent([count for count, _ in part], [seconds for _, seconds in part])
                lines.append(Line(f"{what}: exponent, {named}", Series(OURS, (exponent,), ""), target=EXPONENT))
    return lines


def _publication_targets(points: Sequence[Line]) -> list[Line]:
    largest = max(line.models or 0 for line in points)
    published = [line for line in points if line.models == largest and line.what.startswith("publish")]
    return [Line(f"{line.what} in {largest:,}", line.ours, target=_publication_target(line.what)) for line in published]


def _publication_target(what: str) -> Target:
    """Seconds. "After none nothing" says that no file is written, which is checked; finding out takes a moment."""
    return Target(Kind.VALUE, 1.0 if "changes" in what else 0.1)
