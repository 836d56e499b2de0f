"""Pins: retention and the quota never remove the weights of a pinned model. Pinning works beside a running sync."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..files import Modes
from ..model import utc_now
from ..store.layout import Layout
from ..store.root import RootWatch, check_format
from ..writer import Writer, open_catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..catalog import Pin
    from ..config import Settings


def pin(settings: Settings, ids: Sequence[str], sleep: Callable[[float], None]) -> list[str]:
    """Pins models by id and publishes the index. Returns the ids that were not pinned before.

    Raises:
        ConfigurationError: the root has no catalog, or cannot be written to.
    """
    with _opened(settings, sleep, writing=True) as writer:
        fresh = writer.catalog.pins.add(ids, utc_now())
        writer.publish_index()
        return fresh


def unpin(settings: Settings, ids: Sequence[str], sleep: Callable[[float], None]) -> list[str]:
    """Unpins models by id and publishes the index. Returns the ids that were pinned. Raises as `pin` does."""
    with _opened(settings, sleep, writing=True) as writer:
        gone = writer.catalog.pins.remove(ids)
        writer.publish_index()
        return gone


def pinned(settings: Settings) -> list[Pin]:
    """The pinned models, ordered by name. Raises ConfigurationError if the root has no catalog."""
    with _opened(settings, time.sleep) as writer:
        return writer.catalog.pins.all()


@contextlib.contextmanager
def _opened(settings: Settings, sleep: Callable[[float], None], *, writing: bool = False) -> Iterator[Writer]:
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
    with contextlib.closing(open_catalog(layout, modes, locked=False)) as catalog:
        yield Writer(layout, modes, catalog, sleep, RootWatch(layout.root))
