"""Pages of the list by offset, each as cheap as the first.

An offset makes the database walk over all that it skips, and a total makes it count, so reading a list of n models page
by page would cost the square of n. A client that reads on asks for the offset at which its last page ended: where that
was in the order is remembered, and so is the total, for as long as the index is the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ..index.queries import Snapshot
    from ..index.values import Document, Place, Selection

T = TypeVar("T")

_KEPT = 4096


class Page(NamedTuple):
    """One page, and how many models the whole selection has."""

    documents: list[Document]
    total: int


class Pages:
    """Remembers where pages ended. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, object] = OrderedDict()

    def __len__(self) -> int:
        """How much is remembered."""
        return len(self._kept)

    def page(self, snapshot: Snapshot, picture: Hashable, selection: Selection, limit: int, offset: int) -> Page:
        """The page at an offset.

        Args:
            picture: names the index that `snapshot` is of; another one is remembered apart.
        """
        if selection.name is not None:  # those of one name are few, and names are the client's own words
            return Page(snapshot.documents(selection, limit, offset), snapshot.count(selection))
        after: Place | None = self._remembered((picture, selection, offset))
        documents = snapshot.documents(selection, limit, 0 if after else offset, after)
        total = self._once((picture, selection), lambda: snapshot.count(selection))
        # A model without times has no place to go on from; few registries have one.
        goes_on = self._once(picture, snapshot.all_dated)
        if documents and goes_on:
            self._remember((picture, selection, offset + len(documents)), documents[-1].place)
        return Page(documents, total)

    def _once(self, key: Hashable, ask: Callable[[], T]) -> T:
        """The answer to a question that is asked of each picture once."""
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
