"""Runs one sync: list, plan, fetch, publish. `plan` decides what to do, and this module carries it out.

A blob is stored before its row is written, and the row before the index is published. So a kill at any instant leaves
a root that can be read and that the next run can continue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import Interrupted, MirrorError, NoSpaceError, RateLimitError
from ..files import Modes
from ..model import utc_now
from ..store.faults import as_mirror_error
from ..store.layout import Layout
from ..store.lock import run_lock
from ..store.parts import sweep, sweep_root
from ..store.root import prepare
from ..units import counted
from .fetch import Fetcher
from .listing import Listing, UnknownNameError
from .opening import open_sync
from .plan import Policy
from .pool import ApiPool, FetchPool
from .record import RunOutcome, RunRecord, RunTally, gap_warning, outcome_of, write_run
from .recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from ..secret import Secret
    from ..sources.source import Source
    from ..store.blobs import Blobs
    from ..writer import Writer
    from .reporter import Reporter
    from .stop import Stop


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """The options of one run, beside the settings."""

    named: frozenset[str] = frozenset()
    wait: bool = False
    accept_shrink: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended, well or not. `error` is the error that ended it early, if one did."""

    record: RunRecord
    error: MirrorError | None = None

    @property
    def exit_code(self) -> int:
        """The exit code that the command line documents for this outcome."""
        if self.record.outcome is RunOutcome.FAILED:
            return self.error.exit_code if self.error else 1
        return 3 if self.record.outcome is RunOutcome.PARTIAL else 0


def sync(settings: Settings, key: Secret, options: SyncOptions, reporter: Reporter, stop: Stop) -> Finished:
    """Runs one sync of `settings.root`.

    Raises:
        ConfigurationError: the root or the key cannot be used; no request was sent.
        LockedError: another run holds the root.
        CatalogError: the catalog cannot be opened.
        UnknownNameError: no listed model has one of the given names; nothing was fetched and no run is recorded.
    """
    layout, modes = Layout(settings.root), Modes.for_sharing(settings.store.shared)
    prepare(layout, modes)
    with run_lock(layout, modes, wait=stop.wait if options.wait else None):
        swept = sweep(layout.incoming)
        sweep_root(layout.root)
        if swept:
            reporter.say(
                f"removed {counted(len(swept), 'file')} that an interrupted run had left in {layout.incoming.name}/"
            )
        with open_sync(settings, key, stop.wait, locked=True) as (writer, source, blobs):
            return SyncRun(settings, writer, source, blobs, options, reporter, stop).run()


class SyncRun:
    """One sync of an open root."""

    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        source: Source,
        blobs: Blobs,
        options: SyncOptions,
        reporter: Reporter,
        stop: Stop,
    ) -> None:
        self._writer, self._source = writer, source
        self._options, self._reporter, self._stop = options, reporter, stop
        workers, wanted = settings.sync.workers, settings.sync
        self._tally = RunTally(utc_now())
        self._api = ApiPool(workers, stop)
        fetcher = Fetcher(source, writer.catalog, blobs, reporter)
        self._pool = FetchPool(workers, fetcher, source.abort, reporter, stop)
        self._recorder = Recorder(writer, blobs, self._tally, self._pool, wanted.publish_every)
        self._listing = Listing(
            source,
            writer.catalog,
            blobs.sizes,
            Policy(wanted.formats, wanted.rules, options.named),
            self._tally,
            self._api,
            reporter,
            2 * workers,
            self._pool.submit,
        )

    def run(self) -> Finished:
        """Does the whole run, and writes its record to the disk.

        Raises:
            UnknownNameError: a given name is no model's. Nothing was fetched, and a typing error records no failed run.
        """
        try:
            error = self._guarded()
        finally:
            self._pool.close()
            self._api.close()
        return self._finish(error)

    def _guarded(self) -> MirrorError | None:
        """Lists and fetches. Returns the error that ended the run early, or None."""
        try:
            return self._list_and_fetch()
        except KeyboardInterrupt:  # raised in a program that leaves SIGINT to Python
            self._stop.set()
            return self._wound_down(Interrupted("interrupted"))
        except UnknownNameError:
            raise
        except MirrorError as error:
            return self._wound_down(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must lead to a record and an alert as well
            return self._wound_down(as_mirror_error(error))

    def _list_and_fetch(self) -> MirrorError | None:
        """Lists, and fetches what it can. Returns what is wrong with the listing or else with the disk, or None."""
        for page in self._listing.pages():
            self._listing.apply(page)
            self._recorder.publish_if_due()
            self._recorder.take()
            self._stop.check()
        verdict = self._listing.finish(accept_shrink=self._options.accept_shrink)
        while len(self._pool):
            self._recorder.wait()
            self._stop.tick()
            self._stop.check()
        return verdict or self._recorder.disk_trouble

    def _wound_down(self, error: MirrorError) -> MirrorError:
        """Ends the run after an error, and returns that error.

        Drops queued fetches and waits for running ones. After an interrupt or on a full disk, ends those at once.
        """
        try:
            if isinstance(error, (Interrupted, NoSpaceError)):
                self._recorder.end_now()
            else:
                self._let_end()
        except Exception as later:  # noqa: BLE001
            # The first error is the reason of the run's end. The next run finds what was not recorded now.
            if str(as_mirror_error(later)) != str(error):
                self._reporter.say(f"while ending the run: {as_mirror_error(later)}")
            if count := self._recorder.unrecorded:
                self._reporter.say(f"files fetched that could not be recorded: {count}; the next run recognises them")
        return error

    def _let_end(self) -> None:
        """Drops queued fetches and waits for running ones. A signal ends those at once."""
        self._pool.forget_queued()
        while len(self._pool):
            if self._stop.is_set():
                self._recorder.end_now()
                return
            self._recorder.wait(ending=True)
            self._stop.tick()

    def _finish(self, error: MirrorError | None) -> Finished:
        limited = isinstance(error, RateLimitError)
        if error is None or limited:
            outcome = outcome_of(self._tally, ended_early=limited or self._recorder.left is not None)
        else:
            outcome = RunOutcome.FAILED
        reasons = (str(error) if error else self._recorder.left, gap_warning(self._tally.gaps))
        api_requests, storage_requests = self._source.requests
        record = RunRecord(
            outcome=outcome,
            tally=self._tally,
            finished_at=utc_now(),
            api_requests=api_requests,
            storage_requests=storage_requests,
            error="; ".join(filter(None, reasons)) or None,
        )
        late = self._written(record)
        if late is not None and error is None:
            return Finished(record_failed(record, late), late)
        return Finished(record, error)

    def _written(self, record: RunRecord) -> MirrorError | None:
        """Publishes the index and writes the record to the catalog and `run.json`.

        Tries all three even if one fails. Returns the first error, or None.
        """
        writer, errors = self._writer, []
        writes: tuple[Callable[[], object], ...] = (
            writer.publish_index,
            lambda: writer.catalog.runs.record(record.as_json() | {"whole_listing": record.tally.whole_listing}),
            lambda: self._write_run(record),
        )
        for write in writes:
            try:
                write()
            except MirrorError as error:
                errors.append(error)
            except Exception as error:  # noqa: BLE001 - a failure to publish must not lose the record and the alert
                errors.append(as_mirror_error(error))
        return errors[0] if errors else None

    def _write_run(self, record: RunRecord) -> None:
        self._writer.root.check()
        write_run(self._writer.layout, self._writer.modes, record, ended_early=self._recorder.left is not None)


def record_failed(record: RunRecord, error: MirrorError) -> RunRecord:
    """Returns the record of the same run as failed, with the error that kept its end from being written."""
    return RunRecord(
        RunOutcome.FAILED, record.tally, record.finished_at, record.api_requests, record.storage_requests, str(error)
    )
