"""`sync --dry-run`: plans a run without doing it. The root is not written to, not even created."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import catalog as catalogs
from ..errors import ApiError, CatalogError, ListingError, MirrorError
from ..sources.source import ListedModel, ListingPage, UnreadableRow
from ..store.layout import Layout
from ..store.root import inventory
from .identity import news, owners
from .listing import UnknownNameError, read_listings, unusable
from .opening import open_source
from .plan import Action, FileStep, Policy, Step, absent_models, plan_model, shrinks, unknown_names
from .record import find_gaps, gap_warning, usual_gaps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..catalog import Known
    from ..config import Settings
    from ..secret import Secret
    from ..sources.source import ListingSummary, Source
    from .record import Gap
    from .stop import Stop


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do.

    Attributes:
        absent: the ids of models that the listing lacks and the run would ask for.
        shrinks: whether so many are absent that the run would refuse to ask.
        gaps: where the listing is incomplete by its own account.
    """

    steps: tuple[Step, ...]
    absent: tuple[str, ...]
    shrinks: bool
    gaps: tuple[Gap, ...] = ()

    @property
    def fetches(self) -> list[FileStep]:
        """The files that would be fetched."""
        return [each for step in self.steps for each in step.files if each.action is Action.FETCH]

    def as_json(self) -> dict[str, Any]:
        """The object under the key "plan"."""
        return {
            "listed": len(self.steps),
            "fetch": {
                "files": len(self.fetches),
                "bytes": sum(each.size or 0 for each in self.fetches),
                "unknown": sum(each.size is None for each in self.fetches),
            },
            "absent": list(self.absent),
            "shrinks": self.shrinks,
            "listing_gaps": [gap.as_json() for gap in self.gaps],
            "models": [_step_as_json(step) for step in self.steps],
        }


def _step_as_json(step: Step) -> dict[str, Any]:
    files = [
        {"format": each.format, "action": str(each.action), "reason": each.reason, "bytes": each.size}
        for each in step.files
    ]
    row = step.row
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "change": str(step.change),
        "rule": step.rule,
        "files": files,
    }


def preview(settings: Settings, key: Secret, named: frozenset[str], stop: Stop, *, sizes: bool) -> Preview:
    """Lists the upstream and plans a run.

    Args:
        sizes: whether to ask storage for the size of each file that would be fetched.

    Raises:
        MirrorError: in the cases in which a sync raises it.
    """
    layout = Layout(settings.root)
    known, facts = _catalog(layout)
    policy = Policy(settings.sync.formats, settings.sync.rules, named)
    blobs = inventory(layout)
    with contextlib.closing(open_source(settings, key, stop.wait)) as source:
        listed, gaps = _listed(source, facts)
        rows = {row.id: row for row in reversed(listed) if isinstance(row, ListedModel)}
        news(facts, source.address, owners(ListingPage(tuple(rows.values()), None)))
        names, ids = {row.name for row in listed if row.name}, {row.id for row in listed if row.id}
        missing = unknown_names(named, lambda name: name in names or name in ids)
        if missing:
            raise UnknownNameError(missing[0], names, gap_warning(gaps))
        steps = [plan_model(row, known.get(row.id), policy, blobs) for row in reversed(rows.values())]
        if sizes:
            steps = [_with_sizes(source, step) for step in steps]
    if gap_warning(gaps):
        return Preview(tuple(steps), (), shrinks=False, gaps=gaps)
    present = [model_id for model_id, each in known.items() if not each.gone]
    absent = absent_models(present, ids)
    return Preview(tuple(steps), tuple(absent), shrinks(len(present), len(absent)), gaps)


def _catalog(layout: Layout) -> tuple[dict[str, Known], dict[str, str]]:
    if not layout.catalog.exists():
        return {}, {}
    if catalogs.needs_migration(layout.catalog):
        raise CatalogError("the catalog is of an older schema", hint="run `mirror sync` once, which migrates it")
    with contextlib.closing(catalogs.Catalog(layout.catalog)) as catalog:
        return catalog.models.known(), catalog.facts()


def _listed(source: Source, facts: Mapping[str, str]) -> tuple[list[ListedModel | UnreadableRow], tuple[Gap, ...]]:
    readings: dict[str, ListingSummary] = {}
    try:
        pages = read_listings(source, usual_gaps(facts), readings, lambda _: None)
        rows = [row for page in pages for row in page.rows]
    except (ApiError, ListingError) as error:
        raise unusable(error) from error
    return rows, find_gaps(readings, facts)


def _with_sizes(source: Source, step: Step) -> Step:
    files = tuple(_with_size(source, step, each) if each.action is Action.FETCH else each for each in step.files)
    return replace(step, files=files)


def _with_size(source: Source, step: Step, each: FileStep) -> FileStep:
    """Adds the size that storage declares for a file. If the request fails, the reason says so and the plan goes on."""
    try:
        declared = source.look(step.row, each.format)
    except MirrorError as error:
        return replace(each, reason=f"{each.reason}; size unknown: {error.message}")
    return replace(each, size=declared.size)
