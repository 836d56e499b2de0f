"""Runs one verify: compares the stored bytes with the record, oldest check first."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ...errors import ConfigurationError, Interrupted
from ...model import utc_now
from ...store.layout import Layout
from ...store.root import inventory
from ...writer import LAST_VERIFY
from .ledger import CatalogLedger, open_ledger, why_not_recorded
from .losses import LossHandler
from .plan import believable, name_of, plan
from .record import VerifyRecord, VerifyTally, files
from .scan import BlobFinding, BlobVerdict, Scan

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ...config import Settings
    from ...secret import Secret
    from ...sync.reporter import Reporter
    from ...sync.stop import Stop
    from .ledger import Ledger
    from .plan import VerifyPlan
    from .record import Watcher

_RECORD_EVERY = 1.0
_RECORD_AT_ONCE = 500
_UNSEEN = frozenset({BlobVerdict.MISSING, BlobVerdict.UNREADABLE})
_BYTES_ARE_WRONG = frozenset({BlobVerdict.SIZE, BlobVerdict.CONTENT, BlobVerdict.FORGED, BlobVerdict.NO_FILE})


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What one verify is asked to do.

    Attributes:
        named: names or ids of models to check; empty for everything.
        quick: compare presence, size and time only, and hash nothing.
        md5: check the MD5 even when a SHA-256 is on record.
        repair: whether `repair_after` will follow, which needs a root that can be recorded in.
        older_than: seconds; only blobs whose last check is at least that long ago.
        time_limit: seconds; None for no limit.
        workers: number of threads; None for one per core.
    """

    named: tuple[str, ...] = ()
    quick: bool = False
    md5: bool = False
    repair: bool = False
    older_than: float | None = None
    time_limit: float | None = None
    workers: int | None = None


def verify(settings: Settings, options: VerifyOptions, watcher: Watcher, stop: Stop) -> VerifyRecord:
    """Checks a root. Readers and a sync may run meanwhile: the only lock is the short one for publishing.

    Raises:
        NoIndexError: there is neither a catalog that can be written to nor an index.
        NotFoundError: a name or id in the options belongs to no model.
        ConfigurationError: a repair is asked for, but nothing can be recorded in this root.
        NoSpaceError: the findings cannot be recorded, because the disk is full.
    """
    layout = Layout(settings.root)
    unrecorded = why_not_recorded(layout)
    if unrecorded is not None:
        if options.repair:
            raise ConfigurationError(f"nothing can be repaired in {layout.root}: {unrecorded}", hint=_WHERE)
        watcher.say(f"note: {unrecorded}; bad files are told, and nothing is recorded or moved")
    # Waits with time.sleep, so a signal does not stop publishing, which takes half a minute at most: readers must learn
    # which files are bad.
    with open_ledger(settings, time.sleep, recording=unrecorded is None) as ledger:
        return _Verify(settings, options, layout, ledger, watcher, stop, unrecorded).run()


_WHERE = "run it where the mirror is synced, by the account that syncs"


class _Verify:
    """One verify of an open root."""

    def __init__(
        self,
        settings: Settings,
        options: VerifyOptions,
        layout: Layout,
        ledger: Ledger,
        watcher: Watcher,
        stop: Stop,
        unrecorded: str | None,
    ) -> None:
        self._options, self._layout, self._ledger = options, layout, ledger
        self._watcher, self._stop = watcher, stop
        self._tally = VerifyTally(utc_now(), len(options.named), options.quick, options.md5, unrecorded)
        self._settler = LossHandler(
            layout,
            ledger,
            self._tally,
            watcher,
            recording=unrecorded is None,
            publish_every=settings.sync.publish_every,
        )
        self._good: list[BlobFinding] = []
        self._touched: list[BlobFinding] = []
        self._unseen: list[BlobFinding] = []
        self._recorded = time.monotonic()

    def run(self) -> VerifyRecord:
        """Runs the verify, and keeps its record in the catalog and the index."""
        todo = self._plan()
        self._scan(todo)
        self._flush()
        self._judge_unseen()
        self._ask_again_for_unreferenced()
        self._settler.settle()
        record = VerifyRecord(self._tally, utc_now())
        keep(self._ledger, record)
        return record

    def _plan(self) -> VerifyPlan:
        options = self._options
        present = inventory(self._layout)  # before the rows: a sync running meanwhile writes a row after its blob
        todo = plan(
            self._ledger.blobs(options.named),
            present,
            quick=options.quick,
            older_than=None if options.older_than is None else timedelta(seconds=options.older_than),
            now=self._tally.started_at,
            everything=not options.named,
        )
        self._tally.awaiting, self._tally.unreferenced = len(todo.awaiting), dict(todo.unreferenced)
        self._tally.left, self._tally.left_bytes = len(todo.blobs), sum(blob.size for blob in todo.blobs)
        self._watcher.planned(self._tally.left, self._tally.left_bytes)
        return todo

    def _scan(self, todo: VerifyPlan) -> None:
        options = self._options
        scan = Scan(
            self._layout,
            self._watcher,
            self._stop,
            quick=options.quick,
            md5=options.md5,
            seconds=options.time_limit,
            workers=options.workers,
        )
        for findings in scan.findings(todo.blobs):
            for finding in findings:
                self._take(finding)
            if time.monotonic() - self._recorded >= _RECORD_EVERY or len(self._good) >= _RECORD_AT_ONCE:
                self._flush()
            if not self._stop.is_set():
                self._settler.settle_if_due()
        self._tally.interrupted = self._stop.is_set()

    def _take(self, finding: BlobFinding) -> None:
        tally = self._tally
        tally.checked += 1
        tally.checked_bytes += finding.hashed
        tally.left -= 1
        tally.left_bytes -= finding.blob.size
        if finding.reason and not finding.bad and not self._options.quick:
            self._watcher.say(f"{finding.blob.md5}: its file {finding.reason}")
        if finding.verdict is BlobVerdict.GOOD:
            self._good.append(finding)
        elif finding.verdict is BlobVerdict.TOUCHED:
            self._touched.append(finding)
            tally.touched.append(finding)
        elif finding.verdict in _UNSEEN:
            self._unseen.append(finding)
        else:
            self._settler.take(finding, lost=finding.verdict in _BYTES_ARE_WRONG)

    def _flush(self) -> None:
        """Records the findings so far. A quick verify hashes nothing, so it records only the touched blobs."""
        self._ledger.record([] if self._options.quick else self._good, self._touched)
        self._good, self._touched = [], []
        self._recorded = time.monotonic()

    def _ask_again_for_unreferenced(self) -> None:
        """Removes blobs from `unreferenced` whose row a sync has written meanwhile."""
        if self._tally.unreferenced:
            named = {name_of(blob) for blob in self._ledger.blobs(())}
            left = {name: size for name, size in self._tally.unreferenced.items() if name not in named}
            self._tally.unreferenced = left

    def _judge_unseen(self) -> None:
        """Decides whether missing and unreadable files are lost, which they are only if they are few.

        Waits until the end of the scan, because a disk may be unmounted during it.
        """
        missing = [each for each in self._unseen if each.verdict is BlobVerdict.MISSING]
        unread = [each for each in self._unseen if each.verdict is BlobVerdict.UNREADABLE]
        if missing:
            there = len(inventory(self._layout))
            self._give_up_if_few(missing, there, f"missing, and {there} are there")
        if unread:
            read = self._tally.checked - len(self._unseen)
            self._give_up_if_few(unread, read, f"unreadable, and {read} are not")

    def _give_up_if_few(self, several: list[BlobFinding], well: int, what: str) -> None:
        lost = believable(len(several), well)
        if not lost:
            self._watcher.say(
                f"{files(len(several))} {what}: a mount may be gone or a disk failing, so none of them is recorded as "
                "lost; if they are, `mirror sync` fetches them again"
            )
        for finding in several:
            self._settler.take(finding, lost=lost)


def keep(ledger: Ledger, record: VerifyRecord) -> None:
    """Keeps the summary of a verify for `mirror status`, if the ledger can record."""
    if isinstance(ledger, CatalogLedger):
        ledger.catalog.set_facts({LAST_VERIFY: json.dumps(record.summary())})
        ledger.publish()


def repair_after(
    settings: Settings, key: Secret, options: VerifyOptions, record: VerifyRecord, reporter: Reporter, stop: Stop
) -> VerifyRecord:
    """Fetches all lost present weights, whether this verify found them or an earlier one, and updates the record.

    Returns:
        The new record of the verify.

    Raises:
        NoSpaceError: the disk is full.
    """
    from .repair import repair

    with open_ledger(settings, time.sleep, recording=True) as ledger:
        ids = ledger.ids_of(options.named) if options.named else None
        try:
            done = repair(settings, key, ids, reporter, stop)
        except Interrupted:
            record.tally.interrupted = True
        else:
            note_repaired(record.tally, done.whole, done.failed)
        finished = VerifyRecord(record.tally, utc_now())
        keep(ledger, finished)
    return finished


def note_repaired(tally: VerifyTally, whole: Collection[tuple[str, str]], failed: Sequence[str]) -> None:
    """Marks the bad blobs that are repaired, and counts what was fetched.

    A blob is repaired if it was the present weights of at least one model, and all these models have weights again.

    Args:
        tally: is changed.
        whole: pairs of model id and format that were fetched.
        failed: a line for each failure.
    """
    for bad in tally.bad:
        current = [each for each in bad.holders if each.current]
        weights_format = bad.finding.blob.format
        bad.repaired = bool(current) and all((each.id, weights_format) in whole for each in current)
    tally.fetched, tally.unrepaired = len(whole), list(failed)
    tally.awaiting = max(0, tally.awaiting - (len(whole) - sum(bad.repaired for bad in tally.bad)))
