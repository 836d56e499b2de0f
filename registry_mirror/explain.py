"""Messages about a model for people: why it has no weights here, and what to know about the weights it has.

Pure. Standard library only.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import ConflictError, NotFoundError
from .index.schema import ARCHIVED, GONE
from .model import ITS_FILE, ModelStatus, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .index.values import EvictedEntry, FailureEntry, ModelRow, WeightsEntry
    from .model import Model

_LONGEST_NAME = 80
_MOST_LISTED = 5

_CURES = {
    ModelStatus.TRAINING: "wait until it is ready, then run `mirror sync`",
    ModelStatus.FAILED: "its training failed: look at its training run",
    ModelStatus.READY: "run `mirror sync`, which fetches it",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """The weights of a model that the caller asks for. A `version` or `md5` of None accepts any."""

    format: str = "onnx"
    version: str | None = None
    md5: str | None = None

    def meets(self, weights: WeightsEntry) -> bool:
        """Returns whether weights match the wish. Without a version and an MD5, only current weights match."""
        if weights.format != self.format:
            return False
        if self.version is None and self.md5 is None:
            return weights.current
        return self.version in (None, weights.version) and self.md5 in (None, weights.md5)

    def __str__(self) -> str:
        wanted = f"{self.format} weights"
        if self.version is not None:
            wanted += f" of version {quoted(self.version)}"
        if self.md5 is not None:
            wanted += f" with MD5 {quoted(self.md5)}"
        return wanted


@dataclass(frozen=True, slots=True)
class Situation:
    """What a message needs to know about a model that does not have the wished weights.

    Attributes:
        namesakes: every model of the same name.
        weights: the model's weights in the store, in any format and version.
        failures: the model's open failures.
        evicted: the model's weights that were evicted to make room.
    """

    row: ModelRow
    wish: Wish
    namesakes: Sequence[ModelRow] = ()
    weights: Sequence[WeightsEntry] = ()
    failures: Sequence[FailureEntry] = field(default=())
    evicted: Sequence[EvictedEntry] = field(default=())


def quoted(text: str) -> str:
    """Returns `text` in quotation marks for a message: on one line, without control characters, and shortened."""
    short = text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"
    return repr(short)


def unknown_model(model: str, names: Iterable[str]) -> NotFoundError:
    """Returns the error for an unknown model. Its hint suggests the nearest of `names`."""
    near = nearest(model, names)
    hint = f"did you mean {' or '.join(map(quoted, near))}?" if near else "`mirror list` shows what is here"
    return NotFoundError(f"no model {quoted(model)} in this mirror", hint=hint)


def nearest(wanted: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Returns up to `most` names like `wanted`: those equal but for case, or else the most similar ones."""
    pool = list(names)
    folded = wanted.strip().casefold()
    same = [name for name in pool if name.strip().casefold() == folded][:most]
    if same or not folded or len(wanted) > 2 * _LONGEST_NAME:
        return same
    import difflib

    # A much longer or shorter name is never similar enough, and comparing such names would take most of the time.
    close = [name for name in pool if len(folded) <= 2 * len(name) <= 4 * len(folded)]
    return difflib.get_close_matches(wanted, close, n=most, cutoff=0.6)


def no_weights(situation: Situation) -> ConflictError:
    """Returns the error for a known model that does not have the wished weights."""
    row, wish = situation.row, situation.wish
    state = _state(row)
    cures = [*_other_files(situation), *_other_models(situation), *_cure(situation)]
    return ConflictError(f"model {quoted(row.name)} ({state}) has no cached {wish}", hint="; ".join(cures) or None)


def _state(row: ModelRow) -> str:
    if row.rank == GONE:
        return f"gone from the upstream since {format_time(row.gone_at)}"
    return f"status {plain(row.status) or 'unknown'}"


def _cure(situation: Situation) -> list[str]:
    row, wish = situation.row, situation.wish
    evicted = next((one for one in situation.evicted if one.format == wish.format), None)
    if evicted is not None and wish.version is None and wish.md5 in (None, evicted.md5):
        return [_back(row, evicted)]
    if row.rank == GONE:
        return ["its weights were never fetched, or are no longer kept"]
    if row.rank == ARCHIVED:
        return ["its weights were never fetched, or are no longer kept: restore it upstream, then run `mirror sync`"]
    if wish.version is not None or wish.md5 is not None:
        return []
    cures = [_CURES.get(ModelStatus(row.status), "")] if row.status in set(ModelStatus) else []
    if row.status == ModelStatus.READY and wish.format != "onnx":
        cures = [f"add {wish.format!r} to sync.formats, then run `mirror sync`"]
    last = next((one for one in situation.failures if one.format == wish.format), None)
    if last is not None:
        cures.append(_failed(last))
    return cures


def _failed(last: FailureEntry) -> str:
    at, error = format_time(last.last_failed_at), plain(last.error)
    if last.error.startswith(ITS_FILE):
        return f"found damaged or missing at {at}: {error}; `mirror sync` fetches it again"
    times = "once" if last.attempts == 1 else f"{last.attempts} times"
    return f"fetching it failed {times}, last at {at}: {error}"


def _back(row: ModelRow, evicted: EvictedEntry) -> str:
    name = shlex.quote(plain(row.name if len(row.name) <= _LONGEST_NAME else row.id))
    return (
        f"evicted at {format_time(evicted.evicted_at)} to make room; `mirror sync {name}`, or "
        f"`mirror download {name} -o FILE --fetch`, fetches them again"
    )


def _other_files(situation: Situation) -> list[str]:
    """Returns words for the weights that the model does have: in other versions, or in other formats."""
    wish, lines = situation.wish, []
    same = [one for one in situation.weights if one.format == wish.format]
    if same:
        listed = ", ".join(f"version {plain(one.version or '?')} (md5 {one.md5})" for one in same[:_MOST_LISTED])
        lines.append(f"cached in this format: {listed}")
    others = sorted({one.format for one in situation.weights if one.current} - {wish.format})
    if others:
        lines.append(f"cached in other formats: {', '.join(others)} (choose with --format or format=)")
    return lines


def _other_models(situation: Situation) -> list[str]:
    row, wish = situation.row, situation.wish
    having = [
        other.id
        for other in situation.namesakes
        if other.id != row.id and other.weights is not None and other.weights.format == wish.format
    ]
    if not having or wish.version is not None or wish.md5 is not None:
        return []
    return [f"another model of this name has them, ask for it by id: {', '.join(map(plain, having[:_MOST_LISTED]))}"]


def plain(text: str) -> str:
    """Returns `text` on one line, with control characters escaped."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def remarks(model: Model, weights: WeightsEntry | None = None) -> tuple[str, ...]:
    """Returns what a user of a model's cached weights should know. `weights` are the ones given out, if known."""
    info = model.mirror
    if info is None:
        return ()
    said = []
    if info.gone_at is not None:
        said.append(f"gone from the upstream since {format_time(info.gone_at)}")
    fetched = f"; its weights here were fetched {format_time(info.fetched_at)}" if info.fetched_at else ""
    if model.status == ModelStatus.ARCHIVED:
        when = f", last updated {format_time(model.updated_at)}" if model.updated_at else ""
        said.append(f"archived upstream{when}{fetched}")
    elif model.status != ModelStatus.READY:
        said.append(f"status is now {plain(model.status) or 'unknown'}{fetched}")
    if weights is not None and not weights.current:
        said.append(f"these weights (fetched {format_time(weights.fetched_at)}) have been superseded")
    if info.shadows:
        count, word = len(info.shadows), "other" if len(info.shadows) == 1 else "others"
        said.append(f"shadows {count} {word} of this name: {', '.join(map(plain, info.shadows[:_MOST_LISTED]))}")
    return tuple(said)
