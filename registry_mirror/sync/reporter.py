"""What a run tells while it goes on. The command line draws it; a program may ignore it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Reporter:
    """Says nothing. `opened`, `started`, `advanced` and `finished` are called from worker threads.

    A transfer is known by its key, `model id/format`.
    """

    def listed(self, models: int) -> None:
        """So many models were listed so far."""

    def queued(self, files: int) -> None:
        """So many files more are to be fetched."""

    def opened(self, key: str, path: Path) -> None:
        """A file that a body will grow in; an older one of the same key holds nothing that counts any more."""

    def started(self, key: str, name: str, size: int | None) -> None:
        """A body begins to come; its bytes, where storage says."""

    def advanced(self, key: str, done: int) -> None:
        """So many of its bytes came."""

    def finished(self, key: str, name: str, how: str) -> None:
        """A file is done with; `how` is in words ("fetched 12.0 MiB")."""

    def say(self, line: str) -> None:
        """Something an operator wants to know."""
