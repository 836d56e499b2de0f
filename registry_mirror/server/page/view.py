"""Turns facts into the values that the template of the status page shows. Pure. Every text is cleaned and cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...index.search import State
from ...model import ModelStatus, is_to_come, parse_time
from ...units import format_duration, format_size
from .. import artifacts
from ..dialects import decoded
from .facts import LONGEST_TEXT, PAGE_SIZE
from .widgets import (
    LONGEST,
    LONGEST_ERROR,
    Chip,
    DiskBar,
    Failed,
    FileView,
    ModelView,
    Notice,
    Pager,
    PageView,
    RunView,
    When,
    ago,
    clean,
    counted,
    day,
    headline,
    number,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ...index.values import OpenFailure, Totals, WeightsEntry
    from .facts import Disk, Facts, IndexFacts, Listed, PageQuery

    Link = Callable[[WeightsEntry, str], str]

STALE_SECONDS = 86_400
_MOST_FAILED = 10
_LABELS = {
    State.LIVE: "All",
    State.READY: "Ready",
    State.MISSING: "Ready, not here",
    State.TRAINING: "Training",
    State.FAILED: "Failed",
    State.OTHER: "Other",
    State.ARCHIVED: "Archived",
    State.GONE: "Gone",
}
_IN_ORDER = (ModelStatus.READY, ModelStatus.TRAINING, ModelStatus.FAILED, ModelStatus.ARCHIVED)
_ENDS = {"partial": "The last run ended partial", "unknown": "How the last run ended is not known"}
_ALWAYS = frozenset({State.LIVE, State.READY})
_NO_INDEX = (
    "`mirror sync` has not run in the folder that this server reads, or the folder is not there (a share that is not "
    "mounted?). As soon as an index is published, it is shown here; no restart is needed."
)
_BAD_INDEX = "There is one, and this version cannot read it; the server's log says why."


def page(facts: Facts, query: PageQuery, base_url: str, prefix: str, link: Link) -> PageView:
    """Returns the page.

    Args:
        facts: what to show.
        query: the view.
        base_url: the URL under which the browser reached the server.
        prefix: comes before every path on the page.
        link: returns the address of weights for a browser, from an entry and a file name.
    """
    index = facts.index
    meta = index.meta if index else {}
    run = run_of(facts.last_run.record)
    tone, fresh = freshness(facts)
    if tone == "good" and run is not None and run.tone != "good":
        tone = "warn"  # no green badge beside a notice that the last run failed
    return PageView(
        title="Model mirror",
        upstream=clean(meta.get("base_url", ""), LONGEST),
        organization=clean(meta.get("organization_id", ""), LONGEST),
        prefix=prefix,
        base_url=base_url,
        fresh=fresh,
        fresh_tone=tone,
        synced=When.of(facts.last_run.last_synced_at),
        published=When.of(facts.published_at),
        notices=tuple(notices(facts, run)),
        has_index=index is not None,
        text=query.text,
        state="" if query.state is State.LIVE else str(query.state),
        longest_text=LONGEST_TEXT,
        chips=tuple(chips(index.tally, query, prefix)) if index else (),
        models=tuple(model(each, link) for each in index.listed) if index else (),
        pager=pager(index.tally[query.state], query, prefix) if index else None,
        totals=totals_of(index.totals) if index else {},
        missing_address=query.of(State.MISSING).address(prefix),
        failures=tuple(failure(each) for each in index.failures) if index else (),
        failures_said=counted(index.failure_count, "file") if index else "",
        more_failures=index.failure_count - len(index.failures) if index else 0,
        run=run,
        disk=disk_bar(facts.disk, index),
    )


def freshness(facts: Facts) -> tuple[str, str]:
    """Returns a tone and words for the age of the mirror."""
    synced = facts.last_run.last_synced_at
    if synced is None:
        return "bad", "never synced"
    if is_to_come(synced, facts.at):
        return "warn", "synced in the future: a clock was or is wrong"
    age = max(0.0, (facts.at - synced).total_seconds())
    return ("warn" if age > STALE_SECONDS else "good"), f"synced {ago(age)}"


def notices(facts: Facts, run: RunView | None) -> Iterator[Notice]:
    """Yields what is wrong, the worst first."""
    if facts.problem is not None:
        # The error's own text names a path of this machine, which visitors of the page should not see.
        yield (
            Notice("bad", "This mirror has no index yet", _NO_INDEX)
            if facts.absent
            else Notice("bad", "The index of this mirror cannot be read", _BAD_INDEX)
        )
    if run is not None and run.tone != "good":
        many = f"{counted(len(run.failed) + run.more_failed, 'model')} failed; the others went on."
        yield Notice(run.tone, _ENDS.get(run.outcome, "The last run failed"), run.error or (many if run.failed else ""))
    if facts.last_run.problem is not None:
        yield Notice("warn", "The record of the last run cannot be read", "The next run writes a new one.")
    tone, said = freshness(facts)
    synced = facts.last_run.last_synced_at
    if tone == "warn" and synced is not None and is_to_come(synced, facts.at):
        cure = "Set the clocks of this machine and of the one that syncs, then run `mirror sync`."
        yield Notice("warn", "Nobody knows how old this mirror is: its last sync is dated in the future", cure)
    elif tone == "warn":
        yield Notice("warn", f"This mirror is old: {said}", "See whether `mirror sync` still runs, and how it ends.")
    elif tone == "bad" and facts.last_run.problem is None and facts.problem is None:
        yield Notice("warn", "No sync of this mirror is known to have ended well", "Run `mirror sync`.")


def totals_of(totals: Totals) -> dict[str, str]:
    """Returns the numbers at the top."""
    live = sum(totals.statuses.values())
    known = [(str(status), totals.statuses.get(status, 0)) for status in _IN_ORDER]
    known += [("other", live - sum(count for _, count in known)), ("gone", totals.gone)]
    return {
        "models": number(live + totals.gone),
        "by_status": ", ".join(f"{number(count)} {word}" for word, count in known if count) or "none yet",
        "bytes": format_size(totals.bytes),
        "files": f"{counted(totals.files, 'file')}, {counted(totals.cached_models, 'model')} with weights",
        "missing": number(totals.ready_not_cached),
        "any_missing": "yes" if totals.ready_not_cached else "",
    }


def chips(tally: Mapping[State, int], query: PageQuery, prefix: str) -> Iterator[Chip]:
    """Yields the filters that would show something, and the chosen one."""
    for state, label in _LABELS.items():
        if tally[state] or state in _ALWAYS or state is query.state:
            yield Chip(label, number(tally[state]), query.of(state).address(prefix), state is query.state)


def pager(count: int, query: PageQuery, prefix: str) -> Pager:
    """Returns the links to the pages around this one, among `count` models."""
    pages = max(1, -(-count // PAGE_SIZE))
    last = min(count, query.offset + PAGE_SIZE)
    inside = query.page <= pages
    said = f"{number(query.offset + 1)}-{number(last)} of {number(count)}" if inside and count else number(count)
    return Pager(
        said=said,
        page=query.page,
        pages=pages,
        before=query.at(min(query.page - 1, pages)).address(prefix) if query.page > 1 else "",
        after=query.at(query.page + 1).address(prefix) if query.page < pages else "",
        first=query.at(1).address(prefix),
    )


def model(listed: Listed, link: Link) -> ModelView:
    """Returns one row of the list."""
    row, fields = listed.row, decoded(listed.row.document)
    status = "gone" if row.gone_at is not None else row.status
    return ModelView(
        name=clean(row.name, LONGEST) or "(no name)",
        full_name=clean(row.name),
        id=clean(row.id, LONGEST),
        status=clean(status, 20) or "unknown",
        tone=status if status == "gone" or status in set(ModelStatus) else "other",
        type=clean(words(_text(fields, "model_type")), 40),
        architecture=clean(_text(fields, "architecture"), 40),
        version=clean(_text(fields, "version"), 24),
        metrics=tuple(headline(fields.get("metrics"))),
        files=tuple(_file(entry, row.name, link if here else None) for entry, here in listed.weights),
        why_not=_why_not(status),
        updated=When.of(parse_time(fields.get("updated_at")), day),
    )


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""


def _file(entry: WeightsEntry, name: str, link: Link | None) -> FileView:
    where = link(entry, artifacts.filename(name, entry.format)) if link else ""
    return FileView(clean(entry.format, 20), format_size(entry.size), clean(entry.md5, 32), where)


def _why_not(status: str) -> str:
    return {"ready": "not here yet", "training": "still training", "failed": "training failed"}.get(status, "not here")


def failure(one: OpenFailure) -> Failed:
    """Returns weights that could not be fetched so far."""
    failed, name = one.failure, clean(one.name, LONGEST) or "(no name)"
    said = f"{clean(failed.format, 20)}, {counted(failed.attempts, 'attempt')}"
    return Failed(name, clean(failed.error, LONGEST_ERROR), said, When.of(failed.last_failed_at))


def run_of(record: Mapping[str, Any] | None) -> RunView | None:
    """Returns the last run. It takes any record, also a damaged one."""
    if record is None:
        return None
    outcome = clean(_text(record, "outcome"), 20) or "unknown"
    listed = record.get("failed")
    failed = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return RunView(
        outcome=outcome,
        tone={"ok": "good", "partial": "warn", "unknown": "warn"}.get(outcome, "bad"),
        ended=When.of(parse_time(record.get("finished_at"))),
        error=clean(_text(record, "error"), LONGEST_ERROR),
        numbers=tuple(_run_numbers(record)),
        failed=tuple(_failed_model(each) for each in failed[:_MOST_FAILED]),
        more_failed=max(0, len(failed) - _MOST_FAILED),
    )


def _failed_model(one: Mapping[str, Any]) -> Failed:
    name = _text(one, "name") or _text(one, "id") or "(no name)"
    return Failed(clean(name, LONGEST), clean(_text(one, "error"), LONGEST_ERROR))


def _run_numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    started, ended = parse_time(record.get("started_at")), parse_time(record.get("finished_at"))
    if started and ended and ended >= started:
        yield "took", format_duration((ended - started).total_seconds())
    for key in ("listed", "added", "changed", "archived", "gone"):
        count = _count(record.get(key))
        if count or (key == "listed" and count is not None):
            yield key, number(count)
    for key in ("fetched", "reused"):
        amount = record.get(key)
        if not isinstance(amount, dict):
            continue
        files, size = _count(amount.get("files")), _count(amount.get("bytes"))
        if files is not None and size is not None:
            yield key, f"{counted(files, 'file')}, {format_size(size)}"


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def disk_bar(disk: Disk | None, index: IndexFacts | None) -> DiskBar | None:
    """Returns how full the file system is."""
    if disk is None:
        return None
    mirror = min(index.totals.bytes if index else 0, disk.used)
    free, size = format_size(disk.free), format_size(disk.size)
    said = f"{free} free of {size}; {format_size(mirror)} are weights of this mirror"
    return DiskBar(_percent(mirror, disk.size), _percent(disk.used - mirror, disk.size), free, size, said)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2)
