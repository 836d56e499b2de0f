"""Tells a verify which blobs should be there, and records what it found.

If the catalog can be written to, it does both. Else the index tells which blobs should be there and nothing is
recorded: that is how a copy of a root on another machine, or a read-only mount, is checked.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from ...catalog import Verified
from ...errors import NotFoundError
from ...index.reader import IndexReader
from ...model import ITS_FILE, utc_now
from ...store.layout import Layout
from ...writer import mend_catalog, open_writer
from .record import BlobHolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...config import Settings
    from ...index.queries import Snapshot
    from ...model import BlobRecord
    from ...writer import Writer
    from .scan import BlobFinding


class Ledger(Protocol):
    """What a verify needs of a catalog or an index."""

    def ids_of(self, named: Sequence[str]) -> set[str]:
        """The ids of models, given by name or id.

        Raises:
            NotFoundError: there is no model with such a name or id.
        """

    def blobs(self, named: Sequence[str]) -> list[BlobRecord]:
        """The blobs of these models (names or ids), or all blobs for none. Raises as `ids_of` does."""

    def holders(self, blob: BlobRecord) -> tuple[BlobHolder, ...]:
        """The models whose present or superseded weights the blob is."""

    def record(self, good: Sequence[BlobFinding], touched: Sequence[BlobFinding]) -> None:
        """Records which blobs are good, and which have another time and should be hashed."""

    def record_lost(self, finding: BlobFinding) -> None:
        """Records that a blob is damaged or missing."""

    def publish(self) -> None:
        """Publishes an index with what was recorded."""


class IndexLedger:
    """Reads the index, and records nothing."""

    def __init__(self, layout: Layout) -> None:
        self._reader = IndexReader(layout.index)

    def close(self) -> None:
        """Closes the index."""
        self._reader.close()

    def ids_of(self, named: Sequence[str]) -> set[str]:
        return self._reader.read(lambda snapshot: {each for name in named for each in _ids(snapshot, name)})

    def blobs(self, named: Sequence[str]) -> list[BlobRecord]:
        ids = self.ids_of(named) if named else None
        return self._reader.read(lambda snapshot: list(snapshot.blobs(ids)))

    def holders(self, blob: BlobRecord) -> tuple[BlobHolder, ...]:
        return tuple(BlobHolder(*each) for each in self._reader.read(lambda one: one.holders(blob.md5, blob.format)))

    def record(self, good: Sequence[BlobFinding], touched: Sequence[BlobFinding]) -> None:
        pass

    def record_lost(self, finding: BlobFinding) -> None:
        pass

    def publish(self) -> None:
        pass


class CatalogLedger:
    """Reads the catalog and records in it."""

    def __init__(self, writer: Writer) -> None:
        self.catalog, self._writer = writer.catalog, writer

    def ids_of(self, named: Sequence[str]) -> set[str]:
        return {model_id for name in named for model_id in _found(name, self.catalog.models.ids_of(name))}

    def blobs(self, named: Sequence[str]) -> list[BlobRecord]:
        return self.catalog.checks.blobs(self.ids_of(named) if named else None)

    def holders(self, blob: BlobRecord) -> tuple[BlobHolder, ...]:
        held = self.catalog.checks.holders(blob.md5, blob.format)
        return tuple(BlobHolder(each.model_id, each.name, each.current) for each in held)

    def record(self, good: Sequence[BlobFinding], touched: Sequence[BlobFinding]) -> None:
        self.catalog.checks.record([verified(each) for each in good], utc_now())
        self.catalog.checks.record_doubts([(each.blob.md5, each.blob.format) for each in touched])

    def record_lost(self, finding: BlobFinding) -> None:
        blob = finding.blob
        self.catalog.checks.record_lost(blob.md5, blob.format, f"{ITS_FILE}{finding.reason}", utc_now())

    def publish(self) -> None:
        self._writer.publish_index()


def verified(finding: BlobFinding) -> Verified:
    """Converts a good finding for the catalog."""
    assert finding.identity is not None  # noqa: S101 - a good blob was hashed, so its file was there
    return Verified(finding.blob.md5, finding.blob.format, finding.identity.size, finding.identity.mtime_ns)


def why_not_recorded(layout: Layout) -> str | None:
    """The reason why findings cannot be recorded in a root; None when they can."""
    if not layout.catalog.exists():
        return "there is no catalog here, as in a copy of a root"
    for path in (layout.root, layout.catalog, layout.blobs, layout.incoming, layout.quarantine):
        if path.exists() and not os.access(path, os.W_OK):
            return f"{path} cannot be written"
    return None


@contextlib.contextmanager
def open_ledger(settings: Settings, wait: Callable[[float], None], *, recording: bool) -> Iterator[Ledger]:
    """Opens the ledger of a root: the catalog if `recording`, else the index.

    Args:
        settings: of the root.
        wait: called with seconds to wait for another writer; may raise.

    Raises:
        NoIndexError: not `recording`, and there is no index.
        LockedError: the catalog must be migrated first, and a run holds the root.
    """
    if recording:
        mend_catalog(settings)
        with open_writer(settings, wait, locked=False) as writer:
            yield CatalogLedger(writer)
    else:
        with contextlib.closing(IndexLedger(Layout(settings.root))) as ledger:
            yield ledger


def _ids(snapshot: Snapshot, name: str) -> list[str]:
    row = snapshot.by_id(name, "onnx")
    return _found(name, [row.id] if row else [each.id for each in snapshot.by_name(name, "onnx", limit=-1)])


def _found(name: str, ids: list[str]) -> list[str]:
    if not ids:
        raise NotFoundError(
            f"no model {name!r} in this mirror", hint="names are case-sensitive; `mirror list` shows what is here"
        )
    return ids
