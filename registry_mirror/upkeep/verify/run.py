"""One verify: the stored bytes against the record, oldest check first."""

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
        named: models by name or id; none: everything.
        older_than, time_limit: seconds.
        workers: threads; None: as many as there are cores.
    """

    named: tuple[str, ...] = ()
    quick: bool = False
    md5: bool = False
    repair: bool = False
    older_than: float | None = None
    time_limit: float | None = None
    workers: int | None = None


def verify(settings: Settings, options: VerifyOptions, watcher: Watcher, stop: Stop) -> VerifyRecord:
    """Checks a root. Takes no lock but the short one of publishing; readers and a sync may go on beside it.

    Raises:
        NoIndexError: there is nothing to check against.
        NotFoundError: a name that no model has.
        ConfigurationError: the root cannot be used.
        NoSpaceError: what was found cannot be recorded.
    """
    layout = Layout(settings.root)
    unrecorded = why_not_recorded(layout)
    if unrecorded is not None:
        if options.repair:
            raise ConfigurationError(f"nothing can be repaired in {layout.root}: {unrecorded}", hint=_WHERE)
        watcher.say(f"note: {unrecorded}; bad files are told, and nothing is recorded or moved")
    # Publishing waits at most half a minute, and is not given up for a signal: what was found is told to readers.
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
        """Everything, up to the record in the catalog and the index."""
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
        present = inventory(self._layout)  # first: a sync beside us writes the row after the blob
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
        """Records what was found right; a quick look is no check and records only doubts."""
        self._ledger.record([] if self._options.quick else self._good, self._touched)
        self._good, self._touched = [], []
        self._recorded = time.monotonic()

    def _ask_again_for_unreferenced(self) -> None:
        """Leaves out the blobs whose row has come meanwhile, from a sync beside us."""
        if self._tally.unreferenced:
            named = {name_of(blob) for blob in self._ledger.blobs(())}
            left = {name: size for name, size in self._tally.unreferenced.items() if name not in named}
            self._tally.unreferenced = left

    def _judge_unseen(self) -> None:
        """Files that are missing, or that the disk does not give, are lost when they are few.

        Only now, at the end: a mount may go while its files are looked at.
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
    """Keeps the summary of a verify where `mirror status` finds it, if anything is recorded at all."""
    if isinstance(ledger, CatalogLedger):
        ledger.catalog.set_facts({LAST_VERIFY: json.dumps(record.summary())})
        ledger.publish()


def repair_after(
    settings: Settings, key: Secret, options: VerifyOptions, record: VerifyRecord, reporter: Reporter, stop: Stop
) -> VerifyRecord:
    """Fetches every present file that is lost, found now or before, and says what has become of the findings.

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
    """A bad blob is repaired when every model whose present weights it was has weights again, and there is one."""
    for bad in tally.bad:
        current = [each for each in bad.holders if each.current]
        weights_format = bad.finding.blob.format
        bad.repaired = bool(current) and all((each.id, weights_format) in whole for each in current)
    tally.fetched, tally.unrepaired = len(whole), list(failed)
    tally.awaiting = max(0, tally.awaiting - (len(whole) - sum(bad.repaired for bad in tally.bad)))
