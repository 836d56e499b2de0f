"""Opens a root for writing: its catalog, and the publication of its index. Needs no upstream."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .catalog import Catalog, migrate, needs_migration
from .catalog.database import catalog_error
from .damage import contradiction, damage_of
from .errors import CatalogError
from .files import Modes, fsync_directory, make_directory, part_name
from .index.publish import digest_of, publish, published_revision
from .index.rebuild import rebuild_from_index
from .log import logger
from .store.layout import Layout
from .store.lock import publish_lock, run_lock
from .store.root import RootWatch, check_format, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .config import Settings

LAST_VERIFY = "last_verify"
"""The fact that holds the record of the last verify, as JSON. It is copied to the index for readers."""

PUBLISHED = "published_index"
"""The fact that holds the digests of the last published index and of the one before it."""

_TOLD = ("catalog_id", "revision", "base_url", "organization_id", "chain", LAST_VERIFY)
_IMMUTABLE = "mode=ro&immutable=1"
_looked_at: dict[Path, tuple[int, ...]] = {}
_log = logger()


@dataclass(frozen=True, slots=True)
class Writer:
    """A root that is open for writing.

    Attributes:
        wait: called with the seconds to wait, such as while another writer publishes; may raise.
        root: checks that the root is still the same folder.
    """

    layout: Layout
    modes: Modes
    catalog: Catalog
    wait: Callable[[float], None]
    root: RootWatch

    def publish_index(self) -> bool:
        """Brings the published index up to date with the catalog. Returns False when nothing had changed.

        Raises:
            CatalogError: the catalog cannot be read.
            StoreError: the root is no longer the same folder.
            NoSpaceError: the disk is full. The old index is unchanged.
        """
        self.root.check()
        layout, catalog = self.layout, self.catalog
        with publish_lock(layout, self.modes, self.wait):
            facts = catalog.facts()
            known = facts.get(PUBLISHED, "").split()
            sound = _is_as_published(layout, catalog, known)

            def publishing(digest: str) -> None:
                # Keep both digests, because a kill may come before the rename or after it.
                catalog.set_facts({PUBLISHED: " ".join([*known[-1:], digest])})

            try:
                return publish(
                    layout.index,
                    layout.incoming,
                    layout.catalog,
                    meta={key: facts[key] for key in _TOLD if facts.get(key)},
                    modes=self.modes,
                    sound=sound,
                    publishing=publishing,
                )
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise catalog_error(layout.catalog, error) from error


@contextlib.contextmanager
def open_writer(settings: Settings, wait: Callable[[float], None], *, locked: bool) -> Iterator[Writer]:
    """Opens the root of these settings for writing. Prepares its folders, and creates or migrates its catalog.

    Args:
        wait: as in `Writer`.
        locked: whether the caller holds the run lock. A migration needs the lock and takes it when this is False.

    Raises:
        ConfigurationError: the root cannot be used.
        LockedError: the catalog must be migrated and another run holds the root.
    """
    layout, modes = Layout(settings.root), Modes.for_sharing(settings.store.shared)
    prepare(layout, modes)
    with contextlib.closing(open_catalog(layout, modes, locked=locked)) as catalog:
        yield Writer(layout, modes, catalog, wait, RootWatch(layout.root))


def open_catalog(layout: Layout, modes: Modes, *, locked: bool) -> Catalog:
    """Opens the catalog, and creates or migrates it if needed. The caller closes it.

    A new catalog is filled from the index. A catalog with a lower revision than its own index was set back by a restore
    from a backup or by a power cut, and will use those revisions again for other changes. So it gets a new id, after
    which the next publication builds the index from scratch.

    Args:
        locked: as in `open_writer`, which also lists the errors.
    """
    published = published_revision(layout.index)  # before the catalog's, as another writer may raise both
    if needs_migration(layout.catalog):
        with contextlib.nullcontext() if locked else run_lock(layout, modes):
            if needs_migration(layout.catalog):
                migrate(layout.catalog, modes, fill=lambda fresh: rebuild_from_index(fresh, layout.index, _stamp_of))
    catalog = Catalog(layout.catalog)
    try:
        if published is not None:
            catalog.rename_if_behind(*published)
    except BaseException:
        catalog.close()
        raise
    return catalog


def _stamp_of(document: str) -> str:
    from .sources.api.decode import decode_row  # only the first run of a root needs it here
    from .sources.source import ListedModel  # only the first run of a root needs it here

    row = decode_row(document.encode("utf-8", "surrogatepass"))
    return row.stamp if isinstance(row, ListedModel) else ""


def _is_as_published(layout: Layout, catalog: Catalog, known: Sequence[str]) -> bool:
    """Returns whether the index is the file that was published, and logs a warning when it is not.

    Hashes a file that was found good only once, and recognises it later by its status.
    """
    try:
        found = os.stat(layout.index)
    except OSError:
        return True  # there is no index, so a new one will be made anyway
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if _looked_at.get(layout.index) == identity:
        return True
    try:
        digest = digest_of(layout.index)
        # An older version of this package recorded no digest, so check such an index for damage.
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
    """Moves a damaged catalog to `quarantine/`, so that the next writer makes a new one from the index.

    Returns:
        What was wrong, in words; None when the catalog is missing or sound.

    Raises:
        CatalogError: the index is damaged as well, or missing.
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
    """Returns what is wrong with the catalog, by itself or compared with its index; None when nothing is."""
    fault = damage_of(layout.catalog, "mode=rw")
    if fault is not None or damage_of(layout.index, _IMMUTABLE) is not None:
        return fault
    with contextlib.closing(Catalog(layout.catalog)) as catalog:
        known = catalog.facts().get(PUBLISHED, "").split()
    return contradiction(layout.catalog, layout.index) if digest_of(layout.index) in known else None
