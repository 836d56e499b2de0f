"""The catalog opened for writing, and the index that follows it. Needs no upstream and no key."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from .. import catalog as catalogs
from ..files import Modes
from ..index.entries import CheckEntry, EvictedEntry, FailureEntry, ModelEntry, WeightsEntry
from ..index.publish import publish, published_revision
from ..model import parse_time, utc_now
from ..store.layout import Layout
from ..store.lock import publish_lock, run_lock
from ..store.root import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from ..catalog import Catalog, CatalogModel, Check
    from ..config import Settings

LAST_VERIFY = "last_verify"
"""The fact that holds the record of the last verify, as JSON; the index tells it to readers."""

_TOLD = ("base_url", "organization_id", "chain", LAST_VERIFY)


def open_books(settings: Settings, *, locked: bool) -> tuple[Layout, Modes, Catalog]:
    """Opens the catalog of a root, made ready and brought up to date. The caller closes it.

    Args:
        locked: the caller holds the run lock; a migration needs it and takes it otherwise.

    Raises:
        ConfigurationError: the root cannot be used.
        LockedError: the catalog must be migrated and another run holds the root.
    """
    layout, modes = Layout(settings.root), Modes.for_sharing(settings.store.shared)
    prepare(layout, modes)
    bring_to_head(layout, modes, locked=locked)
    return layout, modes, catalogs.Catalog(layout.catalog)


def bring_to_head(layout: Layout, modes: Modes, *, locked: bool) -> None:
    """Makes or migrates the catalog where that is needed; `locked` as for `open_books`.

    One that is behind its own index was put back, from a backup or by a power cut. It gets another name, and the index
    is built anew: its revisions will be given once more, to other changes. A new one begins with what the index names.
    """
    published = published_revision(layout.index)  # first: the catalog only grows while another writer works
    if catalogs.needs_migration(layout.catalog):
        with contextlib.nullcontext() if locked else run_lock(layout, modes):
            if catalogs.needs_migration(layout.catalog):
                catalogs.migrate(layout.catalog, modes, fill=partial(_inherit, layout))
    if published is not None:
        with contextlib.closing(catalogs.Catalog(layout.catalog)) as catalog:
            catalog.part_from(*published)


def _inherit(layout: Layout, catalog: Path) -> None:
    from .inherit import inherit  # decodes documents, which brings what no run but the first one of a root needs here

    inherit(layout.index, catalog)


def publish_index(layout: Layout, modes: Modes, catalog: Catalog, wait: Callable[[float], None]) -> bool:
    """Brings the published index up to the catalog. False when nothing had changed.

    Args:
        wait: called with seconds to wait while another writer publishes; may raise.
    """
    with publish_lock(layout, modes, wait):
        facts = catalog.facts()
        return publish(
            layout.index,
            layout.incoming,
            catalog_id=facts["catalog_id"],
            revision=int(facts["revision"]),
            entries_since=lambda revision: map(entry_of, catalog.models_since(revision)),
            checks_since=lambda revision: (
                check_entry_of(each.md5, each.format, each.check) for each in catalog.checks_since(revision)
            ),
            meta={key: facts[key] for key in _TOLD if facts.get(key)},
            modes=modes,
        )


def entry_of(found: CatalogModel) -> ModelEntry:
    """A model of the catalog as the index takes it."""
    model = found.model
    return ModelEntry(
        document=model.document,
        id=model.id,
        name=model.name,
        status=model.status,
        model_type=model.model_type,
        architecture=model.architecture,
        created_at=model.created_at,
        updated_at=model.updated_at,
        first_seen=_time(model.first_seen),
        gone_at=parse_time(model.gone_at),
        weights=tuple(
            WeightsEntry(
                row.format, row.version, row.md5, row.sha256, row.size, _time(row.fetched_at), bool(row.current)
            )
            for row in found.weights
        ),
        failures=tuple(
            FailureEntry(row.format, row.error, row.attempts, _time(row.first_failed_at), _time(row.last_failed_at))
            for row in found.failures
        ),
        evicted=tuple(EvictedEntry(row.format, row.md5, row.size, _time(row.evicted_at)) for row in found.evictions),
        pinned_at=parse_time(found.pinned_at),
    )


def check_entry_of(md5: str, weights_format: str, check: Check) -> CheckEntry:
    """A check of the catalog as the index takes it."""
    checked, lost = parse_time(check.checked_at), parse_time(check.lost_at)
    return CheckEntry(md5, weights_format, checked, check.size, check.mtime_ns, lost)


def _time(text: str) -> datetime:
    return parse_time(text) or utc_now()
