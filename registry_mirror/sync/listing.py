"""Reading the upstream's listing: each page is planned, recorded and queued before the next one counts."""

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
    """One reading of the listing, archived models included.

    Args:
        sizes: reads the names of the blobs in the store, with their sizes.
        patience: failures of the network in a row after which no further model is asked for.
        submit: takes each job that a page brings.
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
        self._settled = UnchangedRows()
        self._sure = False
        self._bad: set[FailedModel] = set()
        self._seen: set[str] = set()
        self._names: set[str] = set()
        self._named: list[Job] = []
        self._breaker = CircuitBreaker(patience)
        self._tripped: MirrorError | None = None

    def pages(self) -> Iterator[ListingPage]:
        """The pages, once it is sure whose they are.

        Raises:
            MirrorError: the listing cannot be had or believed.
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
        self._settled = load_unchanged(self._catalog, self._policy.formats, self._blobs)

    def _texts(self) -> Mapping[bytes, str]:
        """The rows to recognise. None before it is sure whose the listing is, which only a decoded row tells."""
        return self._settled.texts if self._sure and not self._policy.named else {}

    def apply(self, page: ListingPage) -> None:
        """Records one page and queues what it brings."""
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
        """What is to be done when the last page was read. Gives back what is wrong with the listing as a whole.

        One that is not whole by its own word tells nothing of what it lacks.

        Raises:
            UnknownNameError: no listed model has one of the names that were given.
        """
        gaps = find_gaps(self._readings, self._facts)
        self._submit_named(gap_warning(gaps))
        self._tally.gaps = gaps
        if fresh := remember(gaps, self._facts):
            self._catalog.set_facts(fresh)
        if gap_warning(gaps):
            return None
        present = self._settled.present
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
        """Queues what was named on the command line, once it is sure that every name is a model's."""
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
        """A row to record; where the listing lacks metrics or class mapping, the model itself is asked for.

        When that fails, a known model stays as it was and a new one is recorded as listed; the next run asks again.
        """
        if row.detailed:
            return record_of(row)
        detail = self._ask_for_one(row.id, row.name)
        if isinstance(detail, ListedModel):
            return record_of(row, detail)
        return None if row.id in self._known else record_of(row) | {"fingerprint": ""}

    def _end_if_tripped(self) -> None:
        """Ends the run, once what came is recorded, when every further model would meet the same error."""
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
        """Asks for each model that the listing lacks; only a 404 calls it gone."""
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
        """One model, or the error, which is noted as the model's own unless every further one would meet it."""
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
    """The live models, then the archived ones; each listing is read again while it is not whole by its own word.

    Args:
        usual: gaps that these listings always have.
        readings: takes what came of each listing.
        texts: as `Source.pages` takes it.
    """
    archived = str(ModelStatus.ARCHIVED)
    readings["live"] = yield from read_whole(lambda: source.pages(texts=texts), usual.get("live", ""))
    # An upstream that does not know this filter shows archived models among the others, or not at all.
    try:
        readings[archived] = yield from read_whole(
            lambda: source.pages(status=archived, texts=texts), usual.get(archived, ""), readings["live"]
        )
    except ValidationError:
        say("the upstream refuses to list archived models; those known are asked for by id")


class UnknownNameError(NotFoundError):
    """No listed model has a name that was given on the command line; `names` are those that they have.

    Args:
        gap: what is known to be missing from the listing.
    """

    def __init__(self, name: str, names: Iterable[str], gap: str | None) -> None:
        cure = "names are case-sensitive; ids work as well"
        super().__init__(f"the upstream lists no model {name!r}", hint=f"{gap}; {cure}" if gap else cure)
        self.name, self.names, self.gap = name, names, gap


def unusable(error: ApiError | ListingError) -> MirrorError:
    """What an error of the listing means for the run: some speak of the key or the network, the rest of the listing."""
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
    """A row for the catalog. The document is the model's own where it was asked for, the rest is the listing's."""
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
