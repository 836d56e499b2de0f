"""Where a verify learns what should be there, and where it records what it found.

With the catalog, where it can be written. Else from the index, and nothing is recorded: that is how a copy of a root on
another machine or a read-only mount is checked.
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
    """Both kinds."""

    def ids_of(self, named: Sequence[str]) -> set[str]:
        """The models that are named by name or id.

        Raises:
            NotFoundError: no model has such a name or id.
        """

    def blobs(self, named: Sequence[str]) -> list[BlobRecord]:
        """The blobs on record, or those of named models. Raises as `ids_of` does."""

    def holders(self, blob: BlobRecord) -> tuple[BlobHolder, ...]:
        """The models that have it or had it."""

    def record(self, good: Sequence[BlobFinding], touched: Sequence[BlobFinding]) -> None:
        """Records looks that met nothing bad."""

    def record_lost(self, finding: BlobFinding) -> None:
        """Records that a blob is damaged or missing."""

    def publish(self) -> None:
        """Brings the index up to what was recorded."""


class IndexLedger:
    """The index; nothing is recorded."""

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
    """The catalog; the index follows it."""

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
    """A good finding as the catalog takes it."""
    assert finding.identity is not None  # noqa: S101 - it was hashed
    return Verified(finding.blob.md5, finding.blob.format, finding.identity.size, finding.identity.mtime_ns)


def why_not_recorded(layout: Layout) -> str | None:
    """Why nothing can be recorded in a root; None when it can."""
    if not layout.catalog.exists():
        return "there is no catalog here, as in a copy of a root"
    for path in (layout.root, layout.catalog, layout.blobs, layout.incoming, layout.quarantine):
        if path.exists() and not os.access(path, os.W_OK):
            return f"{path} cannot be written"
    return None


@contextlib.contextmanager
def open_ledger(settings: Settings, wait: Callable[[float], None], *, recording: bool) -> Iterator[Ledger]:
    """The ledger of a root.

    Raises:
        NoIndexError: there is neither a catalog nor an index.
        LockedError: the catalog must be brought up to date, and a run holds the root.
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
