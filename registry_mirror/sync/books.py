"""The catalog opened for writing, and the index that follows it. Needs no upstream and no key."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING

from .. import catalog as catalogs
from ..damage import contradiction, damage_of
from ..errors import CatalogError
from ..files import Modes, fsync_directory, make_directory, part_name
from ..index.entries import CheckEntry, EvictedEntry, FailureEntry, ModelEntry, WeightsEntry
from ..index.publish import digest_of, publish, published_revision
from ..log import logger
from ..model import parse_time, utc_now
from ..store.layout import Layout
from ..store.lock import publish_lock, run_lock
from ..store.root import check_format, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from ..catalog import Catalog, CatalogModel, Check
    from ..config import Settings

LAST_VERIFY = "last_verify"
"""The fact that holds the record of the last verify, as JSON; the index tells it to readers."""

PUBLISHED = "published_index"
"""The fact that holds the digests of the index that was published, and of the one before it."""

_IMMUTABLE = "mode=ro&immutable=1"
_looked_at: dict[Path, tuple[int, ...]] = {}
_log = logger()

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
        known = facts.get(PUBLISHED, "").split()
        sound = _is_as_published(layout, catalog, known)

        def publishing(digest: str) -> None:
            # Both count: a kill comes before the rename, or after it.
            catalog.set_facts({PUBLISHED: " ".join([*known[-1:], digest])})

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
            sound=sound,
            publishing=publishing,
        )


def _is_as_published(layout: Layout, catalog: Catalog, known: Sequence[str]) -> bool:
    """Whether the index is the file that was published; says so when it is not. Each file is hashed once."""
    try:
        found = os.stat(layout.index)
    except OSError:
        return True  # there is none, and one is made
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if _looked_at.get(layout.index) == identity:
        return True
    try:
        digest = digest_of(layout.index)
        # One of an older version is on no record.
        fault = None if digest in known else "its bytes changed" if known else damage_of(layout.index, _IMMUTABLE)
    except OSError as error:
        fault = str(error)
    if fault is None:
        _looked_at[layout.index] = identity
        if not known:
            catalog.set_facts({PUBLISHED: digest})
        return True
    _log.warning("the index %s is not what was published (%s): it is made anew from the catalog", layout.index, fault)
    return False


def mend_catalog(settings: Settings) -> str | None:
    """Puts a damaged catalog aside, so that a new one is made of the index. Says what was wrong; None when nothing.

    Raises:
        CatalogError: the index is damaged as well, or there is none.
        LockedError: another run holds the root.
    """
    layout, modes = Layout(settings.root), Modes.for_sharing(settings.store.shared)
    check_format(layout)
    if not layout.catalog.exists() or _fault_of(layout) is None:
        return None
    with run_lock(layout, modes):
        fault = _fault_of(layout)
        if fault is None:
            return None
        if damage_of(layout.index, _IMMUTABLE) is not None:
            raise CatalogError(
                f"the catalog {layout.catalog} is damaged ({fault}), and there is no sound index to make a new one of",
                hint="put one back from a backup, or move both away and run `mirror sync`; blobs are recognised",
            )
        make_directory(layout.quarantine, modes)
        kept = layout.quarantine / f"{layout.catalog.name}.{part_name('bad').removesuffix('.part')}"
        os.replace(layout.catalog, kept)
        fsync_directory(layout.root)
    said = f"the catalog was damaged ({fault}): it is made anew from the index, and kept as {kept}"
    _log.warning("%s", said)
    return said


def _fault_of(layout: Layout) -> str | None:
    """What is wrong with the catalog, by itself or beside the index that was published of it."""
    fault = damage_of(layout.catalog, "mode=rw")
    if fault is not None or damage_of(layout.index, _IMMUTABLE) is not None:
        return fault
    with contextlib.closing(catalogs.Catalog(layout.catalog)) as catalog:
        known = catalog.facts().get(PUBLISHED, "").split()
    return contradiction(layout.catalog, layout.index) if digest_of(layout.index) in known else None


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
