"""One sync: list, plan, fetch, publish. The decisions are in `plan`; here they are carried out.

The row comes after the blob and the index after the row, so a kill at any instant leaves a root that reads well and
that the next run goes on with.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import catalog as catalogs
from ..errors import (
    ApiError,
    AuthError,
    ConflictError,
    ForbiddenError,
    Interrupted,
    ListingError,
    MirrorError,
    NetworkError,
    NoSpaceError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ShrinkError,
)
from ..files import Modes
from ..model import ModelStatus, utc_now
from ..store.incoming import sweep
from ..store.layout import Layout
from ..store.lock import run_lock
from ..store.publish import inventory
from ..store.root import prepare
from ..upstream import LONGEST_RETRY_AFTER, BadRow, Row
from . import identity
from .crew import Crew
from .fetch import Job, job_for, weights_of
from .plan import Change, Policy, Step, absent_models, plan_model, shrinks, unknown_names
from .pool import FetchPool, Result
from .record import FailedModel, Outcome, RunRecord, Tally, outcome_of
from .runfile import write_run
from .stop import STEP
from .workshop import Workshop, open_workshop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..config import Settings
    from ..secret import Secret
    from ..upstream import Page
    from .reporter import Reporter
    from .stop import Stop


@dataclass(frozen=True, slots=True)
class Options:
    """What one run is asked to do besides the settings."""

    named: frozenset[str] = frozenset()
    wait: bool = False
    accept_shrink: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended, well or not. `error` is what ended it early."""

    record: RunRecord
    error: MirrorError | None = field(default=None)

    @property
    def exit_code(self) -> int:
        """As the command line's contract has it."""
        if self.record.outcome is Outcome.FAILED:
            return self.error.exit_code if self.error else 1
        return 3 if self.record.outcome is Outcome.PARTIAL else 0


def sync(settings: Settings, key: Secret, options: Options, reporter: Reporter, stop: Stop) -> Finished:
    """Runs one sync of `settings.root`.

    Raises:
        ConfigurationError: the root or the key cannot be used; nothing was sent.
        LockedError: another run holds the root.
        CatalogError: the catalog cannot be opened.
    """
    layout, modes = Layout(settings.root), Modes.for_sharing(settings.store.shared)
    prepare(layout, modes)
    with run_lock(layout, modes, wait=stop.wait if options.wait else None):
        swept = sweep(layout.incoming)
        catalogs.sweep(layout.catalog)
        if swept:
            reporter.say(f"removed {len(swept)} files that an interrupted run had left in {layout.incoming.name}/")
        with open_workshop(settings, key, stop.wait, locked=True) as shop:
            return Run(shop, options, reporter, stop).run()


class Run:
    """The state of one sync."""

    def __init__(self, shop: Workshop, options: Options, reporter: Reporter, stop: Stop) -> None:
        self._shop, self._options, self._reporter, self._stop = shop, options, reporter, stop
        settings = shop.settings.sync
        self._policy = Policy(settings.formats, settings.rules, options.named)
        self._tally = Tally(utc_now())
        self._known = shop.catalog.known()
        self._blobs = inventory(shop.layout)
        self._pool = FetchPool(shop, reporter, stop)
        self._crew = Crew(settings.workers, stop)
        self._seen: set[str] = set()
        self._names: set[str] = set()
        self._left: str | None = None
        self._streak = 0
        self._published = 0.0

    def run(self) -> Finished:
        """Everything, up to the record on disk."""
        try:
            error = self._guarded()
        finally:
            self._pool.close()
            self._crew.close()
        return self._finish(error)

    def _guarded(self) -> MirrorError | None:
        """Lists and fetches; gives back what ended the run early."""
        try:
            verdict = self._list()
            self._drain()
        except KeyboardInterrupt:
            return self._wound_down(Interrupted("interrupted"))
        except MirrorError as error:
            return self._wound_down(error)
        except OSError as error:
            return self._wound_down(disk_error(error))
        return verdict

    def _wound_down(self, error: MirrorError) -> MirrorError:
        """What has begun may end, unless the run was interrupted or the disk is full; what has not is left."""
        try:
            if isinstance(error, (Interrupted, NoSpaceError)):
                self._stop.set()
                self._take(self._pool.abort(), final=True)
            else:
                self._pool.forget_queued()
                while len(self._pool):
                    self._take(self._pool.results(STEP), final=True)
        except (MirrorError, OSError) as later:
            # The first error is the reason; what was not written now is found again by the next run.
            self._reporter.say(f"while ending the run: {later}")
        return error

    # -- listing --------------------------------------------------------------------------------------------------

    def _list(self) -> MirrorError | None:
        """Reads the whole listing, archived models included. Gives back the shrink guard's verdict, if it tripped."""
        present = sum(not each.gone for each in self._known.values())
        try:
            for page in self._pages():
                self._apply(page)
                self._take(self._pool.results(0))
                self._stop.check()
        except ApiError as error:
            raise unusable(error) from error
        absent = absent_models(self._known, self._seen)
        if shrinks(present, len(absent)) and not self._options.accept_shrink:
            return ShrinkError(
                f"{len(absent)} of {present} known models are missing from the listing; nothing was marked gone",
                hint="if they were really deleted upstream, run `mirror sync --accept-shrink` once",
            )
        self._tally.whole_listing = True
        self._check_names()
        self._ask_for(absent)
        return None

    def _pages(self) -> Iterator[Page]:
        """Both listings, once it is sure whose they are."""
        client, size = self._shop.client, self._shop.settings.upstream.page_size
        statuses = (None, str(ModelStatus.ARCHIVED))
        pages = itertools.chain.from_iterable(client.models.api.pages(size, status=status) for status in statuses)
        return identity.confirmed(self._shop.catalog, client.session.base_url, self._crew.ahead(pages), self._reporter)

    def _apply(self, page: Page) -> None:
        """Records one page and queues what it brings."""
        rows = [row for row in page.rows if isinstance(row, Row) and row.id not in self._seen]
        self._tally.failed += [
            FailedModel(row.id, row.name, f"listed, but not a model: {row.reason}")
            for row in page.rows
            if isinstance(row, BadRow)
        ]
        self._seen |= {row.id for row in page.rows if row.id}
        steps = [plan_model(row, self._known.get(row.id), self._policy, self._blobs) for row in rows]
        self._record(steps)
        self._count(steps)
        self._queue(steps)
        self._publish_if_due()

    def _record(self, steps: Sequence[Step]) -> None:
        changed = [step.row for step in steps if step.change is not Change.UNCHANGED]
        self._shop.catalog.record_models(self._detailed(changed), utc_now())
        if not self._policy.named:
            self._shop.catalog.clear_failures(step.row.id for step in steps if not step.fetches)

    def _detailed(self, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """Rows to record; where the listing lacks metrics or class mapping, the model itself is asked for once."""
        return self._crew.map(self._detail, rows)

    def _detail(self, row: Row) -> dict[str, Any]:
        if row.detailed:
            return record_of(row)
        try:
            return record_of(row, self._shop.client.models.api.document(row.id))
        except (ApiError, NetworkError) as error:
            self._tally.failed.append(FailedModel(row.id, row.name, str(error)))
            return record_of(row) | {"fingerprint": ""}  # so that the next run asks again

    def _count(self, steps: Sequence[Step]) -> None:
        tally = self._tally
        tally.listed += len(steps)
        tally.added += sum(step.change is Change.ADDED for step in steps)
        tally.changed += sum(step.change is Change.CHANGED for step in steps)
        tally.unchanged += sum(step.change is Change.UNCHANGED for step in steps)
        for step in steps:
            before = self._known.get(step.row.id)
            tally.archived += bool(before and step.row.status == ModelStatus.ARCHIVED != before.status)
        self._names |= {step.row.name for step in steps} if self._policy.named else set()
        self._reporter.listed(tally.listed)

    def _queue(self, steps: Sequence[Step]) -> None:
        jobs = [job_for(step.row, each, self._known.get(step.row.id)) for step in steps for each in step.fetches]
        self._reporter.queued(len(jobs))
        for job in jobs:
            self._pool.submit(job)

    def _check_names(self) -> None:
        missing = unknown_names(self._policy.named, lambda name: name in self._names or name in self._seen)
        if missing:
            raise NotFoundError(
                f"the upstream lists no model {missing[0]!r}", hint="names are case-sensitive; ids work as well"
            )

    def _ask_for(self, absent: Sequence[str]) -> None:
        """Asks for each model that the listing lacks; only a 404 calls it gone."""
        answers = self._crew.map(self._ask_for_one, absent)
        found = [record_of(answer) for answer in answers if isinstance(answer, Row)]
        self._shop.catalog.record_models(found, utc_now())
        gone = [model_id for model_id, answer in zip(absent, answers, strict=True) if isinstance(answer, NotFoundError)]
        self._shop.catalog.mark_gone(gone, utc_now())
        self._shop.catalog.clear_failures(gone)
        self._tally.gone += len(gone)

    def _ask_for_one(self, model_id: str) -> Row | MirrorError:
        try:
            return self._shop.client.models.api.document(model_id)
        except NotFoundError as error:
            return error
        except MirrorError as error:
            self._tally.failed.append(FailedModel(model_id, self._known[model_id].name, str(error)))
            return error

    # -- fetching -------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        while len(self._pool):
            self._take(self._pool.results(STEP))
            self._stop.tick()
            self._stop.check()

    def _take(self, several: Sequence[Result], *, final: bool = False) -> None:
        """Writes the rows of finished fetches. With `final`, a full disk is only noted: the run ends anyway."""
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
        if full and not final:
            raise full
        self._publish_if_due()

    def _note(self, job: Job, error: MirrorError) -> None:
        """Records a failure; one that would meet every model ends the handing out."""
        if isinstance(error, RateLimitError) and (error.retry_after or 0) > LONGEST_RETRY_AFTER:
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
        self._left = self._left or f"{left} files are left for the next run: {reason}"

    def _publish_if_due(self) -> None:
        if time.monotonic() - self._published >= self._shop.settings.sync.publish_every:
            self._shop.publish_index()
            self._published = time.monotonic()

    # -- the end --------------------------------------------------------------------------------------------------

    def _finish(self, error: MirrorError | None) -> Finished:
        limited = isinstance(error, RateLimitError)
        if error is None or limited:
            outcome = outcome_of(self._tally, ended_early=limited or self._left is not None)
        else:
            outcome = Outcome.FAILED
        client = self._shop.client
        record = RunRecord(
            outcome=outcome,
            tally=self._tally,
            finished_at=utc_now(),
            api_requests=client.session.requests.value,
            storage_requests=client.storage.requests.value,
            error=str(error) if error else self._left,
        )
        late = self._written(record)
        if late is not None and error is None:
            return Finished(record_failed(record, late), late)
        return Finished(record, error)

    def _written(self, record: RunRecord) -> MirrorError | None:
        """Publishes the index and writes the record in both places. Each is tried; gives back the first error."""
        shop, errors = self._shop, []
        writes: tuple[Callable[[], object], ...] = (
            shop.publish_index,
            lambda: shop.catalog.record_run(record.as_json()),
            lambda: write_run(shop.layout, shop.modes, record),
        )
        for write in writes:
            try:
                write()
            except MirrorError as error:
                errors.append(error)
            except OSError as error:
                errors.append(disk_error(error))
        return errors[0] if errors else None


def disk_error(error: OSError) -> MirrorError:
    """Ours for one of the operating system's, which met every model and not only one."""
    return MirrorError(f"{error.strerror or error}: {error.filename or 'in the root'}")


def record_failed(record: RunRecord, error: MirrorError) -> RunRecord:
    """The same run, with its end that could not be written."""
    return RunRecord(
        Outcome.FAILED, record.tally, record.finished_at, record.api_requests, record.storage_requests, str(error)
    )


def unusable(error: ApiError) -> MirrorError:
    """What an error of the listing means for the run: some speak of the key or the network, the rest of the listing."""
    if isinstance(error, (AuthError, ForbiddenError, RateLimitError, ServerError)) or error.status == 402:
        return error
    if isinstance(error, ConflictError) or error.status == 404:
        return ListingError(f"{error.message}", hint="check upstream.base_url: no models API answers there")
    return ListingError(error.message, hint=error.hint)


def record_of(row: Row, detail: Row | None = None) -> dict[str, Any]:
    """A row for the catalog. The document is the model's own where it was asked for, the rest is the listing's."""
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "model_type": row.model_type,
        "architecture": row.architecture,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "document": (detail or row).document,
        "fingerprint": row.fingerprint,
        "stamp": row.stamp,
    }
