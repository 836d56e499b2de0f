"""Handles bad blobs: records the loss in the catalog, publishes the index, then moves the file to quarantine/.

In this order, the published index never names a file that has been moved away. In another order, readers would miss the
file until the next publication. If the process is killed in between, the bad file stays under its name and is on record
as lost: no new index names it, no sync uses it without hashing it, and the next verify checks it first and moves it.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from ...store.blobs import quarantine_only
from .plan import name_of
from .record import Bad
from .scan import BlobFinding, BlobVerdict, FileIdentity, study

if TYPE_CHECKING:
    from pathlib import Path

    from ...store.layout import Layout
    from .ledger import Ledger
    from .record import VerifyTally, Watcher

_SHARE = 20
"""Publishing may take one part in this many of the time."""


class LossHandler:
    """Handles the bad findings of one verify.

    Args:
        layout: of the root.
        ledger: records the losses.
        tally: receives the bad blobs.
        watcher: receives a message for each of them.
        recording: whether losses are recorded and files moved; else they are only reported.
        publish_every: least seconds between two publications while the verify runs.
    """

    def __init__(
        self,
        layout: Layout,
        ledger: Ledger,
        tally: VerifyTally,
        watcher: Watcher,
        *,
        recording: bool,
        publish_every: float,
    ) -> None:
        self._layout, self._ledger, self._tally, self._watcher = layout, ledger, tally, watcher
        self._recording, self._every = recording, publish_every
        self._waiting: list[Bad] = []
        self._published, self._took = float("-inf"), 0.0

    def take(self, finding: BlobFinding, *, lost: bool) -> None:
        """Counts a bad blob. If `lost`, records the loss and queues the file for quarantine/; else only reports it."""
        bad = Bad(finding, self._ledger.holders(finding.blob))
        self._tally.bad.append(bad)
        if lost and self._recording:
            self._ledger.record_lost(finding)
            self._waiting.append(bad)
        else:
            self._watcher.say(f"bad: {bad.line()}")

    def settle_if_due(self) -> None:
        """Calls `settle` if blobs wait and the last publication is long enough ago."""
        if self._waiting and time.monotonic() - self._published >= max(self._every, _SHARE * self._took):
            self.settle()

    def settle(self) -> None:
        """Publishes the index, then moves the waiting bad files to quarantine/. Does nothing if none wait.

        Raises:
            NoSpaceError: the disk is full. Files that were not moved stay under their names, on record as lost.
        """
        if not self._waiting:
            return
        began = time.monotonic()
        self._ledger.publish()
        self._published = time.monotonic()
        self._took = self._published - began
        waiting, self._waiting = self._waiting, []
        for bad in waiting:
            self._put_aside(bad)

    def _put_aside(self, bad: Bad) -> None:
        finding = bad.finding
        path = self._layout.blobs / name_of(finding.blob)
        try:
            bad.kept = quarantine_only(self._layout, path, lambda found: same(found, finding))
        except OSError as error:
            self._watcher.say(f"{name_of(finding.blob)} cannot be moved to quarantine/: {error.strerror or error}")
        if bad.kept is None and os.path.lexists(path) and self._is_whole_now(finding, path):
            return
        self._watcher.say(f"bad: {bad.line()}")

    def _is_whole_now(self, finding: BlobFinding, path: Path) -> bool:
        """Whether a good file has been put in the place of the bad one since. If so, the loss is taken back."""
        again = study(path, finding.blob, md5=True, advance=lambda _: None)
        if again.verdict is not BlobVerdict.GOOD:
            return False
        self._ledger.record([again], [])
        self._tally.bad = [each for each in self._tally.bad if each.finding is not finding]
        return True


def same(found: os.stat_result, finding: BlobFinding) -> bool:
    """Whether a directory entry is the file of a finding. A symbolic link always is: no blob is published as a link."""
    if stat.S_ISLNK(found.st_mode):
        return True
    return finding.identity == FileIdentity.of(found)
