"""The package's log. Modules for readers do not import it: importing logging takes as long as all of them."""

from __future__ import annotations

import logging

# A library should print nothing unless the program configures logging.
logging.getLogger("registry_mirror").addHandler(logging.NullHandler())


def logger(room: str | None = None) -> logging.Logger:
    """Returns the logger of a room, or the package's when `room` is None."""
    return logging.getLogger("registry_mirror" if room is None else f"registry_mirror.{room}")
