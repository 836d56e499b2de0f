"""A second kind of source: the index of another root, and its blobs. No network, no key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry_mirror.digests import Hasher
from registry_mirror.errors import ConflictError, IntegrityError, NotFoundError
from registry_mirror.index.reader import IndexReader
from registry_mirror.index.values import Selection
from registry_mirror.model import ModelStatus
from registry_mirror.sources.api.decode import decode_row
from registry_mirror.sources.source import ListedModel, ListingPage, ListingSummary
from registry_mirror.store.layout import Layout
from registry_mirror.transfer.declared import of_part
from registry_mirror.transfer.download import Received

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from registry_mirror.index.queries import Snapshot
    from registry_mirror.transfer.declared import Declared
    from registry_mirror.transfer.partial_body import Beginning

_CHUNK = 64 << 10


class FolderSource:
    """See `Source`. `asked` counts what was asked for bytes, by id."""

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)
        self._index = IndexReader(self._layout.index)
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return self._layout.root.as_uri()

    @property
    def chain(self) -> tuple[str, ...]:
        found = self._index.read(lambda snapshot: snapshot.meta())
        return (found["catalog_id"], *filter(None, found.get("chain", "").split(",")))

    @property
    def requests(self) -> tuple[int, int]:
        return 0, len(self.asked)

    def pages(
        self, *, status: str | None = None, texts: Callable[[], Mapping[bytes, str]] = dict
    ) -> Generator[ListingPage, None, ListingSummary]:
        del texts  # it decodes every row
        rows = self._index.read(lambda snapshot: snapshot.documents(Selection(status=status), limit=-1))
        page = ListingPage(tuple(decode_row(row.text.encode()) for row in rows), has_more=False)
        yield page
        return ListingSummary(page.ids)

    def document(self, model_id: str) -> ListedModel:
        return self._row(self._index.read(lambda snapshot: _text(snapshot, model_id)))

    def find(self, model: str) -> ListedModel:
        return self.document(model)

    def look(self, row: ListedModel, weights_format: str) -> Declared:
        if row.status != ModelStatus.READY:
            raise ConflictError(f"model {row.name!r} is not ready", status=400)
        held = self._index.read(lambda snapshot: snapshot.weights(row.id))
        found = next((each for each in held if each.current and each.format == weights_format), None)
        if found is None:
            raise ConflictError(f"model {row.name!r} has no {weights_format}", status=409)
        return of_part(found.size, found.md5, None, None, {"sha-256": found.sha256 or ""})

    def fetch(
        self,
        row: ListedModel,
        weights_format: str,
        sink: Callable[[Declared], Any],
        held: Callable[[Declared], Any],
        progress: Callable[[int, int | None], None],
        begun: Beginning[Any] | None = None,
    ) -> Any:
        declared = self.look(row, weights_format)
        if (found := held(declared)) is not None:
            return found
        self.asked.append(row.id)
        assert declared.md5 is not None
        part, hasher = (begun.sink, begun.hasher) if begun else (sink(declared), Hasher())
        try:
            with self._layout.blob(declared.md5, weights_format).open("rb") as stream:
                stream.seek(hasher.size)
                while chunk := stream.read(_CHUNK):
                    part.write(chunk)
                    hasher.update(chunk)
                    progress(hasher.size, declared.size)
        except BaseException:
            part.discard()
            raise
        digest = hasher.digest()
        if digest.md5 != declared.md5:
            part.discard()
            raise IntegrityError(f"model {row.name!r}: its blob does not match its digest")
        return Received(part, digest, declared, declared_md5=True, kept=begun.hasher.size if begun else 0)

    def abort(self) -> None:
        pass

    def close(self) -> None:
        self._index.close()

    @staticmethod
    def _row(text: str) -> ListedModel:
        row = decode_row(text.encode())
        assert isinstance(row, ListedModel)
        return row


def _text(snapshot: Snapshot, model_id: str) -> str:
    found = snapshot.record((model_id,), model_id)
    if found is None or found.gone:
        raise NotFoundError(f"no model {model_id!r}", status=404)
    return found.text
