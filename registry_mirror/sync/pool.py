"""The threads of a sync: calls to the API, several fetches at a time, and when to stop handing out work.

Workers move bytes; the thread that runs the sync writes the rows and never waits for a network.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..errors import AuthError, Interrupted, MirrorError, NetworkError, NoSpaceError, StoreError, after_name
from ..store.faults import as_mirror_error, store_error
from ..transfer.retry import is_long_limit
from ..units import format_size
from .stop import STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .fetch import Fetcher, Job, Stored
    from .reporter import Reporter
    from .stop import Stop


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


_GRACE = 5.0
_TOGETHER = 0.05
_log = logging.getLogger("registry_mirror")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job: stored, absent (both None) or failed."""

    job: Job
    stored: Stored | None
    error: MirrorError | None


class FetchPool:
    """Runs jobs on a few threads, in the order they came.

    Args:
        abort: wakes every thread that waits for bytes.
    """

    def __init__(
        self, workers: int, fetcher: Fetcher, abort: Callable[[], None], reporter: Reporter, stop: Stop
    ) -> None:
        self._fetcher, self._abort_bytes, self._reporter, self._stop = fetcher, abort, reporter, stop
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="fetch")
        self._open: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self._turns: set[Future[None]] = set()
        self._done: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._unsettled: list[Result] = []
        self._ending = False
        self.breaker = CircuitBreaker(patience=2 * workers)

    def submit(self, job: Job) -> None:
        """Queues a job."""
        self._open[job.key] = job
        self._queue.append(job)
        turn = self._executor.submit(self._work)
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)

    def __len__(self) -> int:
        return len(self._open)

    def results(self, timeout: float) -> list[Result]:
        """Those that are done, after at most `timeout` seconds without one. They come again until they are settled."""
        with contextlib.suppress(queue.Empty):
            if not self._unsettled and self._open and timeout:
                self._unsettled.append(self._done.get(timeout=timeout))
                # Small files come by the dozen: their rows are written together, and not a transaction for each.
                until = time.monotonic() + _TOGETHER
                while len(self._unsettled) < len(self._open):
                    self._unsettled.append(self._done.get(timeout=max(0.0, until - time.monotonic())))
            while True:
                self._unsettled.append(self._done.get_nowait())
        return self._unsettled

    def settle(self) -> None:
        """Forgets the results whose rows are written. A signal before that must not lose the row of a whole blob."""
        for result in self._unsettled:
            self._open.pop(result.job.key, None)
        self._unsettled = []

    def forget_queued(self) -> int:
        """Drops the jobs that have not begun and says how many they were."""
        dropped = 0
        with contextlib.suppress(IndexError):  # the threads take from it meanwhile
            while True:
                del self._open[self._queue.popleft().key]
                dropped += 1
        for turn in list(self._turns):  # those of the dropped: a hundred thousand would take seconds to find nothing
            turn.cancel()
        return dropped

    def abort(self) -> list[Result]:
        """Ends everything now; gives back what was done all the same."""
        self._ending = True
        self.forget_queued()
        self._abort_bytes()
        wait(list(self._turns), timeout=_GRACE)
        return self.results(0)

    def close(self) -> None:
        """Lets the threads go. What they use is closed next, so those that still work are ended first."""
        if self._turns:
            self.abort()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        """One turn: the oldest job, unless none is left."""
        with contextlib.suppress(IndexError):
            self._done.put(self._result(self._queue.popleft()))

    def _result(self, job: Job) -> Result:
        try:
            return self._fetched(job)
        except Exception as error:  # noqa: BLE001 - a run must not wait for ever for a job that met a fault of ours
            # Nobody is told here: what tells may be what failed, and the job must come back all the same.
            return Result(job, None, as_mirror_error(error))

    def _fetched(self, job: Job) -> Result:
        try:
            if self.breaker.reason is not None:
                return Result(job, None, Interrupted("left for the next run"))
            self._check()
            stored = self._fetcher.fetch(job, self._check)
        except MirrorError as error:
            if not self._ends():
                self.breaker.failure(error)
            return self._failed(job, Interrupted("interrupted") if self._ends() else error)
        except OSError as error:
            found = store_error(error, f"model {job.row.name!r}")
            self.breaker.failure(found)
            return self._failed(job, found)
        self.breaker.success()
        self._reporter.finished(job.key, job.row.name, describe(job, stored))
        return Result(job, stored, None)

    def _ends(self) -> bool:
        return self._ending or self._stop.is_set()

    def _check(self) -> None:
        if self._ends():
            raise Interrupted("interrupted")

    def _failed(self, job: Job, error: MirrorError) -> Result:
        self._reporter.finished(job.key, job.row.name, f"failed: {after_name(job.row.name, str(error))}")
        return Result(job, None, error)


def describe(job: Job, stored: Stored | None) -> str:
    """What became of a file, in words."""
    if stored is None:
        return f"the upstream has no {job.format} of it"
    kept = f", {format_size(stored.kept)} of it in an earlier run" if stored.kept else ""
    return f"{'fetched' if stored.published else 'already here,'} {format_size(stored.size)}{kept}"
