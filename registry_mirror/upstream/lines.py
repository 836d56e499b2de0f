"""How many connections to storage there are at once, over all bodies that come."""

from __future__ import annotations

import threading


class Lines:
    """Counts connections. The first of a body is always had; further ones only while fewer than `most` are there."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._used = 0

    def enter(self) -> None:
        """The first connection of a body is there."""
        with self._lock:
            self._used += 1

    def enter_more(self) -> bool:
        """Whether a further one may be there; then it counts."""
        with self._lock:
            free = self._used < self.most
            self._used += free
            return free

    def leave(self) -> None:
        """One is gone."""
        with self._lock:
            self._used -= 1

    @property
    def free(self) -> bool:
        """Whether a further one might be had."""
        return self._used < self.most

    @property
    def crowded(self) -> bool:
        """Whether there are too many: other bodies have come, and further connections are to make room."""
        return self._used > self.most
