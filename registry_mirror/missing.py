"""What to say when a library is not there, as after `pip install --no-deps`. Standard library only."""

from __future__ import annotations

import sys


def missing_library(error: ModuleNotFoundError) -> str | None:
    """What is missing and what to do, to follow whatever needs it; None for a module of our own, which is a fault."""
    name = (error.name or "").partition(".")[0]
    if not name or name == __name__.partition(".")[0]:
        return None
    if name in sys.stdlib_module_names:
        return f"needs Python's own module {name}, which this Python was built without; use another Python"
    package = name.replace("_", "-")
    return (
        f"needs {name}, which is not installed; `pip install {package}`, or install registry-mirror without --no-deps"
    )
