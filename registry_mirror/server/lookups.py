"""Finds models in the index for an answer: one by its address, or a page of the list."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import ConflictError, NotFoundError
from ..explain import Situation, Wish, no_weights, quoted
from ..files import open_regular
from ..model import format_time
from .dialects import Substitutes, decoded
from .requests import usual_id

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import datetime
    from pathlib import Path

    from ..index.queries import Snapshot
    from ..index.values import Document, ModelRow, Place, Record, Selection, WeightsEntry
    from .context import ServerContext
    from .dialects import Dialect
    from .requests import Address


_FORMAT = "onnx"


@dataclass(frozen=True)
class FoundModel:
    """One model with its weights in this mirror."""

    row: ModelRow
    weights: tuple[WeightsEntry, ...]

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def status(self) -> str:
        return self.row.status

    @property
    def document(self) -> str:
        """The upstream's JSON text."""
        return self.row.document

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The document as an object."""
        return decoded(self.document)


def find(snapshot: Snapshot, asked: Address, who: Dialect) -> ModelRow:
    """Finds the model of an address.

    Clients still get a model that is gone upstream, so that they can go on running it. Another mirror does not.

    Raises:
        NotFoundError: there is no such model.
    """
    row = next(filter(None, (snapshot.by_id(each, _FORMAT) for each in _ids(asked))), None)
    if row is None:
        row = next(iter(snapshot.by_name(asked.model, _FORMAT, limit=1)), None)
    if row is None or (who.verbatim and row.gone_at is not None):
        raise _no_model(asked)
    return row


def record(snapshot: Snapshot, asked: Address, who: Dialect) -> Record:
    """Returns the document of the model that `find` would find.

    Raises:
        NotFoundError: there is no such model.
    """
    found = snapshot.record(_ids(asked), asked.model)
    if found is None or (who.verbatim and found.gone):
        raise _no_model(asked)
    return found


def _ids(asked: Address) -> tuple[str, ...]:
    """Returns the ids to look for: the text as it was written, then in the usual spelling of a UUID."""
    if asked.by_name:
        return ()
    usual = usual_id(asked.model)
    return (asked.model,) if usual == asked.model else (asked.model, usual)


def _no_model(asked: Address) -> NotFoundError:
    return NotFoundError(f"no model {quoted(asked.model)} in this mirror", status=404)


def current(found: FoundModel, weights_format: str) -> WeightsEntry | None:
    """Returns the current weights in a format as the index has them, or None."""
    return next((each for each in found.weights if each.current and each.format == weights_format), None)


def current_weights(site: ServerContext, found: FoundModel, weights_format: str) -> WeightsEntry:
    """Returns the current weights in a format, after a look at the file: nobody should get an address of a lost one.

    Raises:
        ConflictError: the weights are not cached, or their file is missing or has another size.
    """
    entry = current(found, weights_format)
    if entry is None:
        raise _none(site, found, weights_format)
    try:
        size = look(site.layout.blob(entry.md5, entry.format)).st_size
    except (OSError, ValueError) as error:
        raise damaged(found.name, "are missing from this mirror's store") from error
    if size != entry.size:
        raise damaged(found.name, f"have {size} bytes here instead of {entry.size}")
    return entry


def look(path: Path) -> os.stat_result:
    """Returns the `stat` of a blob's file. It opens the file, because this process may lack the right to read it.

    Raises:
        OSError: there is no file that can be read.
    """
    with open_regular(path) as stream:
        return os.fstat(stream.fileno())


def damaged(name: str, what: str) -> ConflictError:
    """Returns the error for a file that differs from its record."""
    return ConflictError(
        f"the weights of model {quoted(name)} {what}",
        hint="run `mirror sync` where the mirror is synced, which fetches them again",
        status=409,
    )


def _none(site: ServerContext, found: FoundModel, weights_format: str) -> ConflictError:
    def ask(snapshot: Snapshot) -> ConflictError:
        namesakes = snapshot.by_name(found.name, weights_format)
        wish = Wish(weights_format, None, None)
        return no_weights(Situation(found.row, wish, namesakes, [*found.weights], snapshot.failures(found.id)))

    site.metrics.not_cached()
    return site.reader.read(ask)


def by_id(snapshot: Snapshot, model_id: str) -> FoundModel:
    """Finds a model by its id.

    Raises:
        NotFoundError: there is no such model.
    """
    row = snapshot.by_id(model_id, _FORMAT)
    if row is None:
        raise NotFoundError(f"no model {quoted(model_id)} in this mirror", status=404)
    return found_of(snapshot, row)


def found_of(snapshot: Snapshot, row: ModelRow) -> FoundModel:
    """Returns a row with its weights."""
    return FoundModel(row, tuple(snapshot.weights(row.id)))


def substitutes_of(snapshot: Snapshot, first_seen: datetime | None) -> Substitutes:
    """Returns values for required fields that the upstream did not send."""
    return Substitutes(snapshot.meta().get("organization_id", ""), format_time(first_seen) or "")


T = TypeVar("T")

_KEPT = 4096


class DocumentPage(NamedTuple):
    """The models of one page, and how many the whole selection has."""

    documents: list[Document]
    total: int


class Pages:
    """Reads pages of the list. It remembers where they ended, so that the next is found fast. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, object] = OrderedDict()

    def __len__(self) -> int:
        """Returns how many entries are remembered."""
        return len(self._kept)

    def page(
        self, snapshot: Snapshot, index_id: Hashable, selection: Selection, limit: int, offset: int
    ) -> DocumentPage:
        """Returns the page at an offset.

        Args:
            index_id: identifies the index of `snapshot`. Nothing remembered of another index is used.
        """
        # Few models share a name, and clients could send any number of names to remember.
        if selection.name is not None:
            return DocumentPage(snapshot.documents(selection, limit, offset), snapshot.count(selection))
        after: Place | None = self._remembered((index_id, selection, offset))
        documents = snapshot.documents(selection, limit, 0 if after else offset, after)
        total = self._once((index_id, selection), lambda: snapshot.count(selection))
        # Going on from a remembered place needs a time on every model.
        goes_on = self._once(index_id, snapshot.all_dated)
        if documents and goes_on:
            self._remember((index_id, selection, offset + len(documents)), documents[-1].place)
        return DocumentPage(documents, total)

    def _once(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Returns what `ask` returns. It is called once for each key."""
        known: T | None = self._remembered(key)
        if known is None:
            known = ask()
            self._remember(key, known)
        return known

    def _remembered(self, key: Hashable) -> Any:
        with self._lock:
            return self._kept.get(key)

    def _remember(self, key: Hashable, value: object) -> None:
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
