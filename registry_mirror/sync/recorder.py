"""Records the results of fetches: writes rows after blobs, publishes the index after rows, and notes failures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import Interrupted, NoSpaceError, StoreError
from ..model import utc_now
from ..transfer.retry import is_long_limit
from ..units import counted
from .fetch import is_stored, weights_of
from .record import FailedModel
from .stop import STEP

if TYPE_CHECKING:
    from ..errors import MirrorError
    from ..store.blobs import Blobs
    from ..writer import Writer
    from .fetch import Job
    from .pool import FetchPool, Result
    from .record import RunTally


_SHARE = 20
"""The index is published again after at least this many times the time that the last publication took."""


class Recorder:
    """Records the results of a pool of fetches.

    Args:
        publish_every: seconds between two publications of the index while the run goes on.
    """

    def __init__(self, writer: Writer, blobs: Blobs, tally: RunTally, pool: FetchPool, publish_every: float) -> None:
        self._writer, self._blobs, self._tally, self._pool = writer, blobs, tally, pool
        self._weights, self._publish_every = writer.catalog.weights, publish_every
        self._left = 0
        self.disk_trouble: MirrorError | None = None
        self._published = float("-inf")
        self._took = 0.0

    @property
    def left(self) -> str | None:
        """How many files are left for the next run, and why the circuit breaker tripped; None when it did not."""
        reason = self._pool.breaker.reason
        left = f"{counted(self._left, 'file')} {'is' if self._left == 1 else 'are'} left for the next run"
        return None if reason is None else f"{left}: {reason}"

    @property
    def unrecorded(self) -> int:
        """How many files are stored without their rows being written."""
        return sum(bool(each.stored and each.stored.published) for each in self._pool.results(0))

    def wait(self, *, ending: bool = False) -> None:
        """Waits at most `STEP` seconds for a finished fetch, and records all that are finished.

        Args:
            ending: whether the run ends anyway; then a full disk raises nothing.

        Raises:
            NoSpaceError: the disk is full.
        """
        self._take(self._pool.results(STEP), ending=ending)

    def take(self) -> None:
        """Records the fetches that are finished by now. Raises as `wait` does."""
        self._take(self._pool.results(0))

    def end_now(self) -> None:
        """Ends the running fetches, and records those that finished."""
        self._take(self._pool.abort(), ending=True)

    def publish_if_due(self) -> None:
        """Publishes the index when `publish_every` seconds have passed, or later if the last time took long."""
        began = time.monotonic()
        if began - self._published >= max(self._publish_every, _SHARE * self._took):
            self._writer.publish_index()
            self._published = time.monotonic()
            self._took = self._published - began

    def _take(self, several: list[Result], *, ending: bool = False) -> None:
        """Writes the rows of finished fetches. While the run is `ending`, a full disk is only noted."""
        rows = {weights_of(each.job, each.stored): each.job for each in several if each.stored}
        lost = self._weights.record(list(rows), lambda row: is_stored(self._blobs, row))
        again = [rows[row] for row in lost]
        self._pool.settle()
        for job in again:  # a `gc` removed the blob after the fetch had found it in the store, so fetch it
            self._pool.submit(job)
        for each in several:
            if each.job in again:
                continue
            if each.stored:
                amount = self._tally.fetched if each.stored.published else self._tally.reused
                amount.add(each.stored.size)
            elif each.error is None:
                self._weights.record_absence(each.job.row.id, each.job.format, each.job.row.stamp)
            elif isinstance(each.error, Interrupted):
                self._left += 1
            else:
                self._note(each.job, each.error)
        full = next((each.error for each in several if _fills_disk(each.error)), None)
        if full and not ending:
            raise full
        self.publish_if_due()

    def _note(self, job: Job, error: MirrorError) -> None:
        """Records a failure of one model. A long rate limit or a used-up quota only counts the file as left."""
        if is_long_limit(error) or (isinstance(error, NoSpaceError) and error.scope == "quota"):
            self._left += 1
            return
        if isinstance(error, (NoSpaceError, StoreError)):
            self.disk_trouble = self.disk_trouble or error
        self._tally.failed.append(FailedModel(job.row.id, job.row.name, str(error)))
        self._weights.record_failure(job.row.id, job.format, str(error), utc_now())


def _fills_disk(error: MirrorError | None) -> bool:
    """Returns whether an error says that nothing more can be written, not only that one file does not fit."""
    return isinstance(error, NoSpaceError) and error.scope == "disk"
