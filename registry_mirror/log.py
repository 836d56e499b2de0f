"""The package's log, for the modules that write to it. Readers do without: it takes as long to import as they do."""

from __future__ import annotations

import logging

# A library says nothing where a program has not asked for its log.
logging.getLogger("registry_mirror").addHandler(logging.NullHandler())


def logger(room: str | None = None) -> logging.Logger:
    """The log of a room, or that of the package."""
    return logging.getLogger("registry_mirror" if room is None else f"registry_mirror.{room}")
