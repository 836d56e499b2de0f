"""Reads the upstream's listing. Each page is planned, recorded and queued before the next page is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import (
    ApiError,
    AuthError,
    ConflictError,
    ForbiddenError,
    ListingError,
    MirrorError,
    NetworkError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ShrinkError,
    ValidationError,
)
from ..model import ModelStatus, micros, parse_time, utc_now
from ..sources.api.paging import read_whole
from ..sources.source import ListedModel, UnreadableRow
from . import identity
from .fetch import job_for
from .plan import Change, absent_models, plan_model, shrinks, unknown_names
from .pool import CircuitBreaker
from .record import FailedModel, find_gaps, gap_warning, remember, usual_gaps
from .unchanged import UnchangedRows, load_unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from ..catalog import Catalog, Known
    from ..sources.source import ListingPage, ListingSummary, Source
    from .fetch import Job
    from .plan import Policy, Step
    from .pool import ApiPool
    from .record import RunTally
    from .reporter import Reporter


class Listing:
    """Reads the listing of one run, archived models included, and records what it says.

    Args:
        sizes: returns the sizes of the blobs in the store by their names.
        patience: number of network failures in a row after which no further model is requested.
        submit: queues a job.
    """

    def __init__(
        self,
        source: Source,
        catalog: Catalog,
        sizes: Callable[[], Mapping[str, int]],
        policy: Policy,
        tally: RunTally,
        api: ApiPool,
        reporter: Reporter,
        patience: int,
        submit: Callable[[Job], None],
    ) -> None:
        self._source, self._catalog, self._sizes, self._policy, self._tally = source, catalog, sizes, policy, tally
        self._api, self._reporter, self._submit = api, reporter, submit
        self._known: Mapping[str, Known] = {}
        self._facts: Mapping[str, str] = {}
        self._readings: dict[str, ListingSummary] = {}
        self._blobs: Mapping[str, int] = {}
        self._unchanged = UnchangedRows()
        self._sure = False
        self._bad: set[FailedModel] = set()
        self._seen: set[str] = set()
        self._names: set[str] = set()
        self._named: list[Job] = []
        self._breaker = CircuitBreaker(patience)
        self._tripped: MirrorError | None = None

    def pages(self) -> Iterator[ListingPage]:
        """Yields the pages, once it is certain which organisation they belong to.

        Raises:
            MirrorError: the listing cannot be fetched or cannot be believed.
        """
        self._facts = self._catalog.facts()
        ahead = self._api.ahead(
            read_listings(self._source, usual_gaps(self._facts), self._readings, self._reporter.say, self._texts)
        )
        self._remember()  # while the first page is on its way
        try:
            for page in identity.confirmed(self._catalog, self._source, ahead, self._reporter):
                self._sure = True
                yield page
        except (ApiError, ListingError) as error:
            raise unusable(error) from error

    def _remember(self) -> None:
        self._blobs = self._sizes()
        self._unchanged = load_unchanged(self._catalog, self._policy.formats, self._blobs)

    def _texts(self) -> Mapping[bytes, str]:
        """Returns the rows to recognise by their text.

        Returns none until the organisation is certain, because only a decoded row names it.
        """
        return self._unchanged.texts if self._sure and not self._policy.named else {}

    def apply(self, page: ListingPage) -> None:
        """Records one page and queues its files."""
        fresh = {
            row.id: row for row in reversed(page.rows) if isinstance(row, ListedModel) and row.id not in self._seen
        }
        rows = list(reversed(fresh.values()))
        self._note_bad(row for row in page.rows if isinstance(row, UnreadableRow))
        self._count_same(set(page.same) - fresh.keys() - self._seen)
        self._seen |= page.ids
        self._known = self._catalog.models.known(fresh)
        steps = [plan_model(row, self._known.get(row.id), self._policy, self._blobs) for row in rows]
        self._record(steps)
        self._count(steps)
        self._queue(steps)

    def finish(self, *, accept_shrink: bool) -> MirrorError | None:
        """Ends the reading after the last page: records gaps and asks for the models that the listing lacks.

        A listing that is incomplete by its own account proves nothing about missing models, so none is asked for.

        Returns:
            ShrinkError when too many models are missing, else None.

        Raises:
            UnknownNameError: no listed model has one of the names that the command line gave.
        """
        gaps = find_gaps(self._readings, self._facts)
        self._submit_named(gap_warning(gaps))
        self._tally.gaps = gaps
        if fresh := remember(gaps, self._facts):
            self._catalog.set_facts(fresh)
        if gap_warning(gaps):
            return None
        present = self._unchanged.present
        absent = absent_models(present, self._seen)
        if shrinks(len(present), len(absent)) and not accept_shrink:
            return ShrinkError(
                f"{len(absent)} of {len(present)} known models are missing from the listing; nothing was marked gone",
                hint="if they were really deleted upstream, run `mirror sync --accept-shrink` once",
            )
        self._tally.whole_listing = True
        self._known = self._catalog.models.known(absent)
        self._ask_for(absent)
        return None

    def _submit_named(self, gap: str | None) -> None:
        """Queues the models named on the command line, or raises UnknownNameError when a name is no model's."""
        missing = unknown_names(self._policy.named, lambda name: name in self._names or name in self._seen)
        if missing:
            raise UnknownNameError(missing[0], self._names, gap)
        for job in self._named:
            self._submit(job)

    def _record(self, steps: Sequence[Step]) -> None:
        changed = [step.row for step in steps if step.change is not Change.UNCHANGED]
        records = [record for record in self._api.map(self._detailed, changed) if record is not None]
        self._catalog.models.record(records, utc_now())
        self._end_if_tripped()
        over = [step.row.id for step in steps if not step.fetches]
        if over and not self._policy.named:
            self._catalog.weights.clear_failures(over)

    def _detailed(self, row: ListedModel) -> dict[str, Any] | None:
        """Returns the row to record. Asks for the model itself when the listing lacks its metrics or class mapping.

        When that request fails, a known model keeps its row (returns None) and a new one is recorded as listed. The
        next run asks again.
        """
        if row.detailed:
            return record_of(row)
        detail = self._ask_for_one(row.id, row.name)
        if isinstance(detail, ListedModel):
            return record_of(row, detail)
        return None if row.id in self._known else record_of(row) | {"fingerprint": ""}

    def _end_if_tripped(self) -> None:
        """Raises the error that every further request would meet, if any. Call it once the answers are recorded."""
        if self._tripped is not None:
            raise self._tripped

    def _note_bad(self, rows: Iterable[UnreadableRow]) -> None:
        for row in rows:
            self._names |= {row.name} if self._policy.named and row.name else set()
            failed = FailedModel(row.id, row.name, f"listed, but not a model: {row.reason}")
            if failed not in self._bad:
                self._bad.add(failed)
                self._tally.failed.append(failed)

    def _count_same(self, ids: Collection[str]) -> None:
        self._tally.listed += len(ids)
        self._tally.unchanged += len(ids)

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
        if self._policy.named:
            self._named += jobs
            return
        for job in jobs:
            self._submit(job)

    def _ask_for(self, absent: Sequence[str]) -> None:
        """Asks for each model that the listing lacks, and marks those gone for which the upstream answers 404."""
        answers = self._api.map(lambda each: self._ask_for_one(each, self._known[each].name, quiet_404=True), absent)
        found = [answer for answer in answers if isinstance(answer, ListedModel)]
        news = [row for row in found if row.fingerprint != self._known[row.id].fingerprint]
        self._catalog.models.record([record_of(row) for row in news], utc_now())
        gone = [model_id for model_id, answer in zip(absent, answers, strict=True) if isinstance(answer, NotFoundError)]
        self._catalog.models.mark_gone(gone, utc_now())
        self._catalog.weights.clear_failures(gone)
        self._tally.gone += len(gone)
        self._end_if_tripped()

    def _ask_for_one(self, model_id: str, name: str, *, quiet_404: bool = False) -> ListedModel | MirrorError:
        """Returns one model, or the error. Notes the error as this model's unless every further model would meet it."""
        if self._tripped is not None:
            return self._tripped
        try:
            row = self._source.document(model_id)
        except (ApiError, NetworkError) as error:
            self._breaker.failure(error)
            if self._breaker.reason is not None:
                self._tripped = error
            elif not (quiet_404 and isinstance(error, NotFoundError)):
                self._tally.failed.append(FailedModel(model_id, name, str(error)))
            return error
        self._breaker.success()
        return row


def read_listings(
    source: Source,
    usual: Mapping[str, str],
    readings: dict[str, ListingSummary],
    say: Callable[[str], None],
    texts: Callable[[], Mapping[bytes, str]] = dict,
) -> Iterator[ListingPage]:
    """Yields the live models, then the archived ones. Reads a listing again while it is incomplete by its own account.

    Args:
        usual: gaps that these listings always have.
        readings: receives the summary of each listing.
        texts: is passed to `Source.pages`.
    """
    archived = str(ModelStatus.ARCHIVED)
    readings["live"] = yield from read_whole(lambda: source.pages(texts=texts), usual.get("live", ""))
    # An upstream without this filter lists archived models among the others, or does not list them.
    try:
        readings[archived] = yield from read_whole(
            lambda: source.pages(status=archived, texts=texts), usual.get(archived, ""), readings["live"]
        )
    except ValidationError:
        say("the upstream refuses to list archived models; those known are asked for by id")


class UnknownNameError(NotFoundError):
    """No listed model has a name that the command line gave. `names` are the names of the listed models.

    Args:
        gap: a sentence about what the listing lacks, when it has a gap.
    """

    def __init__(self, name: str, names: Iterable[str], gap: str | None) -> None:
        cure = "names are case-sensitive; ids work as well"
        super().__init__(f"the upstream lists no model {name!r}", hint=f"{gap}; {cure}" if gap else cure)
        self.name, self.names, self.gap = name, names, gap


def unusable(error: ApiError | ListingError) -> MirrorError:
    """Returns the error that ends the run when the listing failed.

    Errors about the key, a limit or the upstream's state pass as they are; all others become a ListingError.
    """
    if isinstance(error, ListingError):
        return ListingError(
            f"{error.message}; nothing was marked gone",
            hint="if there are really so many models, a larger upstream.page_size needs fewer pages",
        )
    if isinstance(error, (AuthError, ForbiddenError, RateLimitError, ServerError)) or error.status == 402:
        return error
    if isinstance(error, ConflictError) or error.status == 404:
        return ListingError(error.message, hint="check upstream.base_url: no models API answers there")
    return ListingError(error.message, hint=error.hint)


def record_of(row: ListedModel, detail: ListedModel | None = None) -> dict[str, Any]:
    """Returns a row for the catalog. The document is from `detail` when given; all other values are as listed."""
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "model_type": row.model_type,
        "architecture": row.architecture,
        "created_at": micros(parse_time(row.created_at)),
        "updated_at": micros(parse_time(row.updated_at)),
        "document": (detail or row).document,
        "fingerprint": row.fingerprint,
        "stamp": row.stamp,
        "text_digest": row.text_digest,
    }
