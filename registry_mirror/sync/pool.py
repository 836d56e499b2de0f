"""The threads of a sync: one pool calls the API, one fetches files, and a circuit breaker stops each.

Workers move bytes. The thread that runs the sync writes the rows and never reads from the network itself.
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
    """Trips when further work is pointless, and then has a `reason`.

    It trips at once for a refused key, a long rate limit, a used-up quota or a disk that takes no more writes, and
    after `patience` failures of the network or the disk in a row.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._streak = 0
        self.reason: str | None = None

    def success(self) -> None:
        """Notes that one model succeeded, which ends the row of failures."""
        with self._lock:
            self._streak = 0

    def failure(self, error: MirrorError) -> None:
        """Notes that one model failed, and trips if the error calls for it."""
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
    """A few threads that call the API. The waiting caller notices a stop several times a second."""

    def __init__(self, workers: int, stop: Stop) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="api")
        self._stop = stop

    def ahead(self, items: Iterator[T]) -> Iterator[T]:
        """Returns an iterator of the same items that fetches one item ahead of its caller, the first one at once.

        Raises, while the caller waits for an item:
            Interrupted: the stop flag is set.
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
        """Calls `act` for each item, several at a time, and returns the results in the order of the items.

        Raises:
            Interrupted: the stop flag is set.
        """
        futures = [self._executor.submit(act, item) for item in items]
        return [self._wait(future) for future in futures]

    def close(self) -> None:
        """Shuts the threads down without waiting. A call that has begun ends by itself."""
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
    """The result of a job: stored, failed, or absent upstream (then `stored` and `error` are both None)."""

    job: Job
    stored: Stored | None
    error: MirrorError | None


class FetchPool:
    """Runs jobs on a few threads, in the order of their submission.

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
        """Returns the finished jobs, after waiting at most `timeout` seconds for one.

        The same results are returned again until `settle` is called.
        """
        with contextlib.suppress(queue.Empty):
            if not self._unsettled and self._open and timeout:
                self._unsettled.append(self._done.get(timeout=timeout))
                # Small files finish by the dozen. Collect them, so that their rows share one transaction.
                until = time.monotonic() + _TOGETHER
                while len(self._unsettled) < len(self._open):
                    self._unsettled.append(self._done.get(timeout=max(0.0, until - time.monotonic())))
            while True:
                self._unsettled.append(self._done.get_nowait())
        return self._unsettled

    def settle(self) -> None:
        """Forgets the results that were returned. Call it once their rows are written, so that a signal loses none."""
        for result in self._unsettled:
            self._open.pop(result.job.key, None)
        self._unsettled = []

    def forget_queued(self) -> int:
        """Drops the jobs that have not begun and returns how many they were."""
        dropped = 0
        with contextlib.suppress(IndexError):  # worker threads take jobs from the queue at the same time
            while True:
                del self._open[self._queue.popleft().key]
                dropped += 1
        for turn in list(self._turns):  # a hundred thousand turns would take seconds only to find the queue empty
            turn.cancel()
        return dropped

    def abort(self) -> list[Result]:
        """Ends all jobs now. Returns the results of those that finished."""
        self._ending = True
        self.forget_queued()
        self._abort_bytes()
        wait(list(self._turns), timeout=_GRACE)
        return self.results(0)

    def close(self) -> None:
        """Shuts the threads down. Ends running jobs first, because the caller closes what they use next."""
        if self._turns:
            self.abort()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        """Runs the oldest queued job, or does nothing when the queue is empty."""
        with contextlib.suppress(IndexError):
            self._done.put(self._result(self._queue.popleft()))

    def _result(self, job: Job) -> Result:
        try:
            return self._fetched(job)
        except Exception as error:  # noqa: BLE001 - without a result the run would wait for this job forever
            # The reporter is not called here: the exception may have come from it.
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
    """Returns in words what became of a file."""
    if stored is None:
        return f"the upstream has no {job.format} of it"
    kept = f", {format_size(stored.kept)} of it in an earlier run" if stored.kept else ""
    return f"{'fetched' if stored.published else 'already here,'} {format_size(stored.size)}{kept}"
