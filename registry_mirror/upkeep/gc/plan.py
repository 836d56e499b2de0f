"""Decides what `gc` will do, before it does anything. Pure: a survey in, a frozen plan out.

Weights are removed in three steps, opposite to the order in which they came: from the record, from the published index,
and, when no index of the last grace period has named them, from the disk. In any doubt, a file stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ...model import format_time, is_to_come
from ...store.layout import blob_name
from ...store.parts import ABANDONED_AFTER
from ...units import format_duration
from .rules import Act, GcVerdict, aged, distrust, evict, retain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from ...catalog import Holding, Note
    from ...config import RetentionSettings, StoreSettings


@dataclass(frozen=True, slots=True)
class BlobFile:
    """A file under a blob's name. `changed_at` is when it was last changed, renamed or adopted (its ctime)."""

    size: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class IndexView:
    """The published index.

    Attributes:
        blobs: the names of the blobs that it names.
        published_at: when it was published.
        built_at: when it was last built from nothing. Which blobs earlier indexes named is not known.
        follows: whether it was made from this catalog, and is not newer than it.
    """

    blobs: frozenset[str]
    published_at: datetime | None
    built_at: datetime | None
    follows: bool = True


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file in `incoming/` or `quarantine/`.

    Attributes:
        name: relative to the root.
        since: when it was last written to, or moved to quarantine/.
        alive: whether the process that it belongs to runs on this host; None when unknown.
        spent: whether no later run can use it.
    """

    name: str
    size: int
    since: datetime
    alive: bool | None = None
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that `gc` knows when it decides.

    Attributes:
        now: when the survey was made.
        holdings: the weights on record.
        notes: blobs that no row wanted when `gc` last looked, by name.
        blobs: files in `blobs/` under a blob's name; None for a file that cannot be looked at.
        index: the published index; None when it cannot be read.
        strangers: sizes of other files in `blobs/`, by name.
        incoming, quarantine: files in these folders.
        last_ok_run: when a run last ended "ok".
        last_run: when the last run of all ended.
        listed_at: when the last run of all ended, if it read the whole listing and did not fail; else None.
    """

    now: datetime
    holdings: tuple[Holding, ...]
    notes: Mapping[str, Note]
    blobs: Mapping[str, BlobFile | None]
    index: IndexView | None
    strangers: Mapping[str, int]
    incoming: tuple[Leftover, ...]
    quarantine: tuple[Leftover, ...]
    last_ok_run: datetime | None
    last_run: datetime | None
    listed_at: datetime | None


@dataclass(frozen=True, slots=True)
class RowStep:
    """The decision about weights on record."""

    held: Holding
    verdict: GcVerdict

    @property
    def blob(self) -> str:
        """The name of the blob."""
        return blob_name(self.held.md5, self.held.format)


@dataclass(frozen=True, slots=True)
class RemovalStep:
    """The decision about one file. Its name is relative to the root."""

    name: str
    size: int
    verdict: GcVerdict
    since: datetime | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What `gc` will do, and what it leaves alone.

    Attributes:
        grace: the grace period in seconds.
        let_go, evict: rows to remove from the record and the index.
        begin: blobs whose grace period begins.
        forget: blobs whose note is dropped, because a row wants them again or their file is gone.
        delete: blobs to remove from the disk.
        sweep: leftovers to remove from the disk.
        wait: blobs that wait for the end of their grace period.
        doubts: rows and files that stay because something about them is not understood.
        remarks: messages about the plan as a whole.
    """

    grace: float
    let_go: tuple[RowStep, ...] = ()
    evict: tuple[RowStep, ...] = ()
    begin: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    delete: tuple[RemovalStep, ...] = ()
    sweep: tuple[RemovalStep, ...] = ()
    wait: tuple[RemovalStep, ...] = ()
    doubts: tuple[RowStep | RemovalStep, ...] = ()
    remarks: tuple[str, ...] = ()


def plan(survey: Survey, retention: RetentionSettings, store: StoreSettings) -> GcPlan:
    """Decides about all rows and files in the survey."""
    whole = frozenset((held.model_id, held.format) for held in survey.holdings if _is_whole(held, survey.blobs))
    clock = _clock_objects(survey)
    rows = [RowStep(held, _timely(retain(held, retention, whole, survey.now), clock)) for held in survey.holdings]
    let_go = tuple(row for row in rows if row.verdict.act is Act.LET_GO)
    staying = [row.held for row in rows if row.verdict.act is not Act.LET_GO]
    sizes = {name: found.size for name, found in survey.blobs.items() if found is not None}
    wanted = {blob_name(held.md5, held.format) for held in staying}
    used = sum(sizes.get(name, 0) for name in wanted)
    evictions = evict(staying, used, store, sizes, clock.reason if clock else distrust(survey.listed_at, survey.now))
    on_record = frozenset(row.blob for row in rows)
    files = _judge_blobs(survey, on_record, retention.grace)
    leftovers = _judge_leftovers(survey, retention.quarantine)
    judged = [*files, *leftovers, *_strangers(survey)]
    return GcPlan(
        grace=retention.grace,
        let_go=let_go,
        evict=tuple(RowStep(held, verdict) for held, verdict in evictions.chosen.items()),
        begin=_begins(survey, on_record),
        forget=tuple(sorted(name for name in survey.notes if name in on_record or name not in survey.blobs)),
        delete=tuple(step for step in files if step.verdict.act is Act.DELETE),
        sweep=tuple(step for step in leftovers if step.verdict.act is Act.DELETE),
        wait=tuple(step for step in files if step.verdict.act is Act.WAIT),
        doubts=(
            *(row for row in rows if row.verdict.act is Act.DOUBT),
            *(step for step in judged if step.verdict.act is Act.DOUBT),
        ),
        remarks=() if evictions.remark is None else (evictions.remark,),
    )


def _timely(verdict: GcVerdict, clock: GcVerdict | None) -> GcVerdict:
    """The verdict on a row; a doubt instead of "let go" if the clock is known to be wrong."""
    return clock if clock is not None and verdict.act is Act.LET_GO else verdict


def _is_whole(held: Holding, blobs: Mapping[str, BlobFile | None]) -> bool:
    found = blobs.get(blob_name(held.md5, held.format))
    return held.current and found is not None and found.size == held.size


def _begins(survey: Survey, on_record: Collection[str]) -> tuple[str, ...]:
    """Blobs that neither the index nor a row names, and whose grace period has not begun yet."""
    if survey.index is None:
        return ()
    dated = {name for name, note in survey.notes.items() if note.since is not None}
    taken = survey.index.blobs.union(on_record, dated)
    return tuple(sorted(name for name in survey.blobs if name not in taken))


def _judge_blobs(survey: Survey, on_record: Collection[str], grace: float) -> list[RemovalStep]:
    """Decides about every blob that no row wants."""
    steps = []
    for name, found in sorted(survey.blobs.items()):
        if name in on_record:
            continue
        note = survey.notes.get(name)
        verdict = judge_blob(name, found, note, survey, grace)
        since = note.since if note else None
        steps.append(RemovalStep(f"blobs/{name}", found.size if found else 0, verdict, since))
    return steps


def judge_blob(name: str, found: BlobFile | None, note: Note | None, survey: Survey, grace: float) -> GcVerdict:
    """Judges a blob that no row wants. The first rule that objects to its removal decides; else it is deleted."""
    reason = note.reason if note and note.reason else "no model is known to have had it"
    objection = (
        _clock_objects(survey)
        or _index_objects(name, survey)
        or _grace_objects(note, reason, survey.now, grace)
        or _past_objects(survey, grace)
        or _file_objects(found, survey.now, grace)
        or _stray_objects(note, survey)
    )
    return objection or GcVerdict(Act.DELETE, "unnamed", reason)


def _index_objects(name: str, survey: Survey) -> GcVerdict | None:
    index = survey.index
    if index is None:
        return GcVerdict(Act.DOUBT, "index", "no index can be read, so nobody knows what readers see")
    if name in index.blobs:
        return GcVerdict(Act.KEEP, "index", "the published index names it")
    if not index.follows:
        return GcVerdict(Act.DOUBT, "index", "the published index is not this catalog's, or ahead of it")
    return None


def _past_objects(survey: Survey, grace: float) -> GcVerdict | None:
    """Objects while the index was built anew within the grace period: which blobs older indexes named is not known.

    A new root has no older indexes, but there every grace period has begun after the index, so none is over either.
    """
    built_at = survey.index.built_at if survey.index else None
    if aged("index", Act.DELETE, "the index has been made anew", built_at, grace, survey.now).act is Act.DELETE:
        return None
    return GcVerdict(
        Act.DOUBT, "index", "the index was made anew within the grace period: what older ones named is lost"
    )


def _clock_objects(survey: Survey) -> GcVerdict | None:
    told = (survey.last_run, survey.index.published_at if survey.index else None)
    latest = max((moment for moment in told if moment is not None), default=survey.now)
    # Allows a second, because only some of these times are cut to whole seconds.
    if latest <= survey.now + timedelta(seconds=1):
        return None
    return GcVerdict(Act.DOUBT, "clock", f"the clock is behind what was recorded at {format_time(latest)}")


def _grace_objects(note: Note | None, reason: str, now: datetime, grace: float) -> GcVerdict | None:
    if note is None or note.since is None:
        return GcVerdict(Act.WAIT, "grace", f"{reason}; its {format_duration(grace)} of grace begin now")
    verdict = aged("grace", Act.DELETE, "without a name in the index", note.since, grace, now)
    if verdict.act is Act.DOUBT:
        return verdict
    return None if verdict.act is Act.DELETE else GcVerdict(Act.WAIT, "grace", f"{reason}; {verdict.reason}")


def _file_objects(found: BlobFile | None, now: datetime, grace: float) -> GcVerdict | None:
    if found is None:
        return GcVerdict(Act.DOUBT, "file", "it cannot be looked at")
    verdict = aged("file", Act.DELETE, "untouched", found.changed_at, grace, now)
    if verdict.act is Act.KEEP:
        return GcVerdict(Act.WAIT, "file", f"{verdict.reason}: somebody may be about to use it")
    return verdict if verdict.act is Act.DOUBT else None


def _stray_objects(note: Note | None, survey: Survey) -> GcVerdict | None:
    """Objects to the removal of a blob that no row ever named, until a run has ended "ok" since it was noticed.

    If the catalog was built anew, a model that is not in it yet may want the blob.
    """
    if note is None or note.since is None or note.reason is not None:
        return None
    ok = survey.last_ok_run
    if ok is not None and ok >= note.since and not is_to_come(ok, survey.now):
        return None
    return GcVerdict(
        Act.DOUBT, "stray", "no model is known to have had it, and no run has ended ok since it was noticed"
    )


def _judge_leftovers(survey: Survey, quarantine: float) -> list[RemovalStep]:
    steps = [RemovalStep(each.name, each.size, judge_part(each, survey.now), each.since) for each in survey.incoming]
    for each in survey.quarantine:
        verdict = aged("quarantine", Act.DELETE, "in quarantine", each.since, quarantine, survey.now)
        steps.append(RemovalStep(each.name, each.size, verdict, each.since))
    return steps


def judge_part(each: Leftover, now: datetime) -> GcVerdict:
    """Judges a file in `incoming/`: its process may still write to it, and for a week a later run may continue it.

    After a week without a write it goes, even if a process with its owner's number runs. A modification time in the
    future counts as just as long ago: a write would have set it to the present.
    """
    silence = abs((now - each.since).total_seconds())
    if silence <= ABANDONED_AFTER and each.alive:
        return GcVerdict(Act.KEEP, "incoming", "its process runs")
    if each.spent and each.alive is False:
        return GcVerdict(Act.DELETE, "incoming", "left by a process that was killed, and of no use to a later one")
    return aged("incoming", Act.DELETE, "left on its way in", now - timedelta(seconds=silence), ABANDONED_AFTER, now)


def _strangers(survey: Survey) -> Iterable[RemovalStep]:
    verdict = GcVerdict(Act.DOUBT, "stranger", "its name is none that the store gives")
    return [RemovalStep(f"blobs/{name}", size, verdict) for name, size in sorted(survey.strangers.items())]
