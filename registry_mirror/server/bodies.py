"""How much memory the bodies under way may take, and which share of it one client has."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_PIECE = 256 << 10
"""Bytes; larger ones are hardly faster."""
_SMALLEST_PIECE = 16 << 10
_QUEUED = 7
"""Pieces of a body that the server keeps for a client that does not read."""
_SLOWLY = 16  # pieces of one size, before they double: more than the system and the queue take for a client at once
_PIECES = 32 << 20
_ALL = 128 << 20


class TooManyBodiesError(Exception):
    """No more bodies can be sent at the moment."""


class Bodies:
    """The bodies that are being sent by one process."""

    def __init__(self) -> None:
        self._count = self._all = 0
        self._held: dict[str, int] = {}

    @contextlib.contextmanager
    def admit(self, client: str, size: int = 0, *, exempt: bool = False) -> Iterator[None]:
        """Counts a body while it is sent.

        Args:
            client: an address. All its bodies but one have to fit into half of what there is.
            size: bytes of it that are in memory.
            exempt: whether the address stands for many clients, so that it may have the whole.

        Raises:
            TooManyBodiesError: it does not fit.
        """
        cost = size + _QUEUED * _SMALLEST_PIECE
        held = self._held.get(client, 0)
        if (self._all and self._all + cost > _ALL) or (held and not exempt and held + cost > _ALL // 2):
            raise TooManyBodiesError
        self._held[client] = held + cost
        self._all += cost
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._all -= cost
            self._held[client] -= cost
            if not self._held[client]:
                del self._held[client]

    def piece(self, number: int) -> int:
        """Bytes of the next piece of a body: few at its start, and the more bodies there are, the fewer.

        A client that does not read fills the queue with small pieces; one that reads has large ones after a few.

        Args:
            number: of the pieces that were sent.
        """
        largest = min(max(_PIECES // (_QUEUED * max(self._count, 1)), _SMALLEST_PIECE), LARGEST_PIECE)
        return min(_SMALLEST_PIECE << min(number // _SLOWLY, 4), largest)
