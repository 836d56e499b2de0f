"""Several fetches at a time. Workers move bytes; the thread that runs the sync writes the rows."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import Interrupted, MirrorError
from ..units import format_size
from .fetch import Job, Stored, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .reporter import Reporter
    from .stop import Stop
    from .workshop import Workshop

_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job: stored, absent (both None) or failed."""

    job: Job
    stored: Stored | None
    error: MirrorError | None


class FetchPool:
    """Runs jobs on a few threads, in the order they came."""

    def __init__(self, shop: Workshop, reporter: Reporter, stop: Stop) -> None:
        self._shop, self._reporter, self._stop = shop, reporter, stop
        self._executor = ThreadPoolExecutor(shop.settings.sync.workers, thread_name_prefix="fetch")
        self._running: dict[Future[Result], Job] = {}

    def submit(self, job: Job) -> None:
        """Queues a job."""
        self._running[self._executor.submit(self._work, job)] = job

    def __len__(self) -> int:
        return len(self._running)

    def results(self, timeout: float) -> Iterator[Result]:
        """Those that are done, after at most `timeout` seconds without one."""
        if not self._running:
            return
        done, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            del self._running[future]
            if not future.cancelled():
                yield future.result()

    def forget_queued(self) -> int:
        """Drops the jobs that have not begun and says how many they were."""
        dropped = [future for future in self._running if future.cancel()]
        for future in dropped:
            del self._running[future]
        return len(dropped)

    def abort(self) -> Iterator[Result]:
        """Ends everything now; yields what was done all the same. The stop flag must be set."""
        self.forget_queued()
        self._shop.client.storage.abort()
        wait(self._running, timeout=_GRACE)
        yield from self.results(0)

    def close(self) -> None:
        """Lets the threads go."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _work(self, job: Job) -> Result:
        try:
            self._stop.check()
            stored = fetch(self._shop, job, self._reporter, self._stop.check)
        except MirrorError as error:
            return self._failed(job, Interrupted("interrupted") if self._stop.is_set() else error)
        except OSError as error:
            reason = f"model {job.row.name!r}: {error.strerror or error} ({error.filename or 'in the store'})"
            return self._failed(job, MirrorError(reason))
        self._reporter.finished(job.key, job.row.name, describe(job, stored))
        return Result(job, stored, None)

    def _failed(self, job: Job, error: MirrorError) -> Result:
        self._reporter.finished(job.key, job.row.name, f"failed: {error}")
        return Result(job, None, error)


def describe(job: Job, stored: Stored | None) -> str:
    """What became of a file, in words."""
    if stored is None:
        return f"the upstream has no {job.format} of it"
    return f"{'fetched' if stored.published else 'already here,'} {format_size(stored.size)}"
