"""Pins: models whose weights neither retention nor the quota takes. They work beside a running sync."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .. import catalog as catalogs
from ..errors import ConfigurationError
from ..files import Modes
from ..model import utc_now
from ..store.layout import Layout
from ..store.root import check_format
from ..sync.books import bring_to_head, publish_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..catalog import Catalog, Pin
    from ..config import Settings


def pin(settings: Settings, ids: Sequence[str], sleep: Callable[[float], None]) -> list[str]:
    """Pins models; says which were not pinned before. The index follows.

    Raises:
        ConfigurationError: there is no root here that is synced, or it cannot be written to.
    """
    with _opened(settings, writing=True) as (layout, modes, catalog):
        fresh = catalog.pin(ids, utc_now())
        publish_index(layout, modes, catalog, sleep)
        return fresh


def unpin(settings: Settings, ids: Sequence[str], sleep: Callable[[float], None]) -> list[str]:
    """Takes pins away; says which there were. Raises as `pin` does."""
    with _opened(settings, writing=True) as (layout, modes, catalog):
        gone = catalog.unpin(ids)
        publish_index(layout, modes, catalog, sleep)
        return gone


def pinned(settings: Settings) -> list[Pin]:
    """The pinned models by name. Raises as `pin` does."""
    with _opened(settings) as (_, _, catalog):
        return catalog.pins()


@contextlib.contextmanager
def _opened(settings: Settings, *, writing: bool = False) -> Iterator[tuple[Layout, Modes, Catalog]]:
    layout, modes = Layout(settings.root), Modes.for_sharing(settings.store.shared)
    check_format(layout)
    if not layout.catalog.exists():
        raise ConfigurationError(
            f"no catalog in {layout.root}",
            hint="`mirror pin` works in the root that `mirror sync` writes, not in a copy; or --root names another",
        )
    if writing and not (os.access(layout.root, os.W_OK) and os.access(layout.catalog, os.W_OK)):
        raise ConfigurationError(
            f"cannot write to the root {layout.root}",
            hint="the account needs the right to write there; where it is mounted read-only, pin where it is synced",
        )
    bring_to_head(layout, modes, locked=False)
    with contextlib.closing(catalogs.Catalog(layout.catalog)) as catalog:
        yield layout, modes, catalog
