"""Taking in what the fetches bring: rows after blobs, the index after rows, and the failures on record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import AuthError, ForbiddenError, Interrupted, NetworkError, NoSpaceError, ServerError
from ..model import utc_now
from ..upstream import is_long_limit
from .fetch import weights_of
from .record import FailedModel
from .stop import STEP

if TYPE_CHECKING:
    from ..errors import MirrorError
    from .fetch import Job
    from .pool import FetchPool, Result
    from .record import Tally
    from .workshop import Workshop


class Intake:
    """Writes for a pool of fetches. `left` says, once the handing out has ended early, why and how much is left."""

    def __init__(self, shop: Workshop, tally: Tally, pool: FetchPool) -> None:
        self._shop, self._tally, self._pool = shop, tally, pool
        self._streak = 0
        self._published = float("-inf")
        self.left: str | None = None

    def wait(self) -> None:
        """Takes what is done within a fraction of a second, or the first that comes then.

        Raises:
            NoSpaceError: the disk is full.
        """
        self._take(self._pool.results(STEP))

    def take(self) -> None:
        """Takes what is done by now. Raises as `wait` does."""
        self._take(self._pool.results(0))

    def end_now(self) -> None:
        """Ends what runs, and takes what was done all the same."""
        self._take(self._pool.abort(), ending=True)

    def let_end(self) -> None:
        """Drops what has not begun, and takes the rest as it ends."""
        self._pool.forget_queued()
        while len(self._pool):
            self._take(self._pool.results(STEP), ending=True)

    def publish_if_due(self) -> None:
        """Publishes the index, unless it was not long ago."""
        if time.monotonic() - self._published >= self._shop.settings.sync.publish_every:
            self._shop.publish_index()
            self._published = time.monotonic()

    def _take(self, several: list[Result], *, ending: bool = False) -> None:
        """Writes the rows of finished fetches. While the run is `ending` anyway, a full disk is only noted."""
        self._shop.catalog.record_weights([weights_of(each.job, each.stored) for each in several if each.stored])
        self._pool.settle()
        for each in several:
            if each.stored:
                amount = self._tally.fetched if each.stored.published else self._tally.reused
                amount.add(each.stored.size)
                self._streak = 0
            elif each.error is None:
                self._shop.catalog.record_absence(each.job.row.id, each.job.format, each.job.row.stamp)
            elif not isinstance(each.error, Interrupted):
                self._note(each.job, each.error)
        full = next((each.error for each in several if isinstance(each.error, NoSpaceError)), None)
        if full and not ending:
            raise full
        self.publish_if_due()

    def _note(self, job: Job, error: MirrorError) -> None:
        """Records a failure; one that would meet every model ends the handing out."""
        if is_long_limit(error):
            self._leave(str(error))
            return
        self._tally.failed.append(FailedModel(job.row.id, job.row.name, str(error)))
        self._shop.catalog.record_failure(job.row.id, job.format, str(error), utc_now())
        if isinstance(error, (NetworkError, ServerError)):
            self._streak += 1
        if isinstance(error, (AuthError, ForbiddenError)) or self._streak > 2 * self._shop.settings.sync.workers:
            self._leave(str(error))

    def _leave(self, reason: str) -> None:
        left = self._pool.forget_queued()
        self.left = self.left or f"{left} files are left for the next run: {reason}"
