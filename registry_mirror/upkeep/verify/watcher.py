"""What a verify tells while it goes on. The command line draws it; a program may ignore it."""

from __future__ import annotations


class Watcher:
    """Says nothing. `advanced` is called from worker threads."""

    def planned(self, files: int, size: int) -> None:
        """So many files and bytes are to be looked at."""

    def advanced(self, count: int) -> None:
        """So many bytes more were hashed."""

    def looked(self) -> None:
        """One file more is done with."""

    def say(self, line: str) -> None:
        """Something an operator wants to know."""
