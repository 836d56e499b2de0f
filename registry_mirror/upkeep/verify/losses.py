"""What becomes of bad blobs: the catalog says so, then the index, then the file is moved aside.

In that order a reader is never given a path that is gone by an index that is newer than the loss: the published index
names only files that are there, at every instant. The other order would have readers meet a missing file until the
next publication. A kill in between leaves the bad file under its name, known to be lost: no new index names it, no sync
takes it for good without hashing it, and the next verify looks at it first and moves it aside.
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
"""Publishing may take a twentieth of the time, and of what is written."""


class LossHandler:
    """Takes bad findings.

    Args:
        publish_every: seconds between two publications while the verify goes on.
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
        """Counts a bad blob. `lost` says that it may be given up; otherwise it is told, and nothing is touched."""
        bad = Bad(finding, self._ledger.holders(finding.blob))
        self._tally.bad.append(bad)
        if lost and self._recording:
            self._ledger.record_lost(finding)
            self._waiting.append(bad)
        else:
            self._watcher.say(f"bad: {bad.line()}")

    def settle_if_due(self) -> None:
        """Publishes and moves aside what waits, unless that was done not long ago."""
        if self._waiting and time.monotonic() - self._published >= max(self._every, _SHARE * self._took):
            self.settle()

    def settle(self) -> None:
        """Publishes, then moves aside what waits; nothing when nothing waits.

        Raises:
            NoSpaceError: the disk is full; what was not moved stays under its name, known to be lost.
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
        """Whether somebody has put the right bytes there since; then the blob is lost no more."""
        again = study(path, finding.blob, md5=True, advance=lambda _: None)
        if again.verdict is not BlobVerdict.GOOD:
            return False
        self._ledger.record([again], [])
        self._tally.bad = [each for each in self._tally.bad if each.finding is not finding]
        return True


def same(found: os.stat_result, finding: BlobFinding) -> bool:
    """Whether a directory entry is the one that a finding speaks of. Any link is: nobody publishes a blob as one."""
    if stat.S_ISLNK(found.st_mode):
        return True
    return finding.identity == FileIdentity.of(found)
