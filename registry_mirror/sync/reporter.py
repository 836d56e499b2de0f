"""The interface by which a run reports its progress. The command line draws it; a program may ignore it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Reporter:
    """A reporter that ignores everything. A transfer is identified by its key, `model id/format`.

    Worker threads call `opened`, `started`, `advanced` and `finished`.
    """

    def listed(self, models: int) -> None:
        """`models` is how many models were listed so far."""

    def queued(self, files: int) -> None:
        """`files` more files are to be fetched."""

    def opened(self, key: str, path: Path) -> None:
        """The transfer writes to the part file `path` from now on. An earlier part file of the same key is obsolete."""

    def started(self, key: str, name: str, size: int | None) -> None:
        """The transfer starts. `size` is the file's length in bytes, or None when storage does not declare it."""

    def advanced(self, key: str, done: int) -> None:
        """The transfer has received `done` bytes."""

    def finished(self, key: str, name: str, how: str) -> None:
        """The transfer has ended. `how` says with what result ("fetched 12.0 MiB")."""

    def say(self, line: str) -> None:
        """Tells the operator one line."""
