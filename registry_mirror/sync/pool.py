"""Several fetches at a time. Workers move bytes; the thread that runs the sync writes the rows."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import Interrupted, MirrorError, after_name
from ..store.faults import as_mirror_error, store_error
from ..units import format_size
from .breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fetch import Fetcher, Job, Stored
    from .reporter import Reporter
    from .stop import Stop

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
