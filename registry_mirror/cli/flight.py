"""What a fetch tells while it goes on, passed on to the clients that wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..sync.reporter import Reporter

if TYPE_CHECKING:
    from pathlib import Path

    from ..server.fetching import Flight


class Told(Reporter):
    """Tells a flight of the one file that is fetched for it."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight

    def opened(self, key: str, path: Path) -> None:  # noqa: ARG002 - the reporter's signature
        self._flight.opened(path)

    def started(self, key: str, name: str, size: int | None) -> None:  # noqa: ARG002
        self._flight.sized(size)

    def advanced(self, key: str, done: int) -> None:  # noqa: ARG002
        self._flight.grew(done)
