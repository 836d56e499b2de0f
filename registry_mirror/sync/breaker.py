"""When to stop handing out work: errors that every further model would meet as well.

A model that fails by itself, be it for ever and with many others, must never end the work of those behind it. So only
the key, the rate limit, the network and the disk count here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..errors import AuthError, NetworkError, NoSpaceError, StoreError
from ..upstream import is_long_limit

if TYPE_CHECKING:
    from ..errors import MirrorError


class CircuitBreaker:
    """Trips at once for a refused key, a long rate limit, a used-up quota and a disk that takes no more writes, and
    after `patience` failures of the network or the disk in a row.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._streak = 0
        self.reason: str | None = None

    def success(self) -> None:
        """An answer came: the network is there."""
        with self._lock:
            self._streak = 0

    def failure(self, error: MirrorError) -> None:
        """Notes what went wrong with one model."""
        with self._lock:
            self._streak = self._streak + 1 if isinstance(error, (NetworkError, StoreError)) else 0
            if _hits_all(error) or self._streak >= self._patience:
                self.reason = self.reason or str(error)


def _hits_all(error: MirrorError) -> bool:
    if isinstance(error, StoreError):
        return error.everywhere
    if isinstance(error, NoSpaceError):
        return error.scope == "quota"
    return isinstance(error, AuthError) or is_long_limit(error)
