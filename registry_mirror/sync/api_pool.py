"""Calls to the upstream's API on threads, so that the one that runs the sync never waits for a network.

It looks at the stop flag instead, and the daemon's watchdog hears of it while a slow answer comes.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from .stop import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .stop import Stop

T = TypeVar("T")
R = TypeVar("R")


class ApiPool:
    """A few threads for calls."""

    def __init__(self, workers: int, stop: Stop) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="api")
        self._stop = stop

    def ahead(self, items: Iterator[T]) -> Iterator[T]:
        """The same items; the first one is fetched from now on, and the next one while the last one is worked on.

        Raises, when an item is waited for:
            Interrupted: the end was asked for.
        """
        return self._ahead(self._executor.submit(_next, items), items)

    def _ahead(self, upcoming: Future[tuple[T] | tuple[()]], items: Iterator[T]) -> Iterator[T]:
        while True:
            got = self._wait(upcoming)
            if not got:
                return
            upcoming = self._executor.submit(_next, items)
            yield got[0]

    def map(self, act: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """What `act` makes of each item, several at a time.

        Raises:
            Interrupted: the end was asked for.
        """
        futures = [self._executor.submit(act, item) for item in items]
        return [self._wait(future) for future in futures]

    def close(self) -> None:
        """Lets the threads go; a call that has begun ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _wait(self, future: Future[R]) -> R:
        while True:
            self._stop.tick()
            self._stop.check()
            try:
                return future.result(timeout=STEP)
            except TimeoutError:
                if future.done():
                    return future.result()


def _next(items: Iterator[T]) -> tuple[T] | tuple[()]:
    for item in items:
        return (item,)
    return ()
