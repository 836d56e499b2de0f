"""How many connections a body gets: one, then as many as may be had, then one again unless they brought more. Pure."""

from __future__ import annotations

from dataclasses import dataclass

WORTH = 16 << 20
"""Bytes that have to be left of a body."""

_FIRST_LOOK = 0.1
_TRIAL = 1.0
_GAIN = 1.25
_BUSY = 0.25


@dataclass(slots=True)
class Growth:
    """Watches one body.

    Args:
        most: connections that it may have.
        now: seconds.

    Attributes:
        wanted: how many it should have.
    """

    most: int
    now: float
    wanted: int = 1
    _came: int = 0
    _busy: float = 0.0
    _alone: float = 0.0
    _tried: bool = False

    def look(self, now: float, came: int, left: int, busy: float) -> int:
        """What to have from now on.

        Args:
            came: bytes so far, over all connections.
            left: bytes that nobody has.
            busy: seconds that hashing took so far. Where it takes most of the time, no line could be faster.
        """
        took = now - self.now
        if self._tried or self.most == 1 or took < (_FIRST_LOOK if self.wanted == 1 else _TRIAL):
            return self.wanted
        rate, share = (came - self._came) / took, (busy - self._busy) / took
        self.now, self._came, self._busy = now, came, busy
        if self.wanted > 1:
            self._tried = True
            if rate < _GAIN * self._alone:
                self.wanted = 1
        elif left < WORTH:
            self._tried = True
        elif came and share < _BUSY:
            self._alone, self.wanted = rate, self.most
        return self.wanted
