"""Finds a model's weights in the store by a name or an id. Standard library only."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ConfigurationError, IntegrityError
from .explain import Situation, Wish, no_weights, quoted, unknown_model

if TYPE_CHECKING:
    from pathlib import Path

    from .digests import Digest
    from .index.queries import Snapshot
    from .index.values import ModelRow, WeightsEntry
    from .model import Model

# Enough to find a mistyped name in any real mirror, and bounded when there are a million names.
NAMES_COMPARED = 20_000

_PUT_ASIDE = "run `mirror sync` where the mirror is synced, which puts them aside and fetches them again"


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights in the store: their model, their entry in the index, and their absolute path."""

    model: Model
    entry: WeightsEntry
    path: Path


def resolve(snapshot: Snapshot, model: str, weights_format: str) -> tuple[ModelRow, list[ModelRow]]:
    """Returns the model that an id or a name means, and all models of its name.

    Raises:
        NotFoundError: no model has this id or name.
    """
    row = snapshot.by_id(model, weights_format)
    if row is not None:
        return row, snapshot.by_name(row.name, weights_format)
    namesakes = snapshot.by_name(model, weights_format)
    if not namesakes:
        raise unknown_model(model, snapshot.names(model, NAMES_COMPARED))
    return namesakes[0], namesakes


def choose(snapshot: Snapshot, model: str, wish: Wish) -> tuple[ModelRow, WeightsEntry]:
    """Returns the model that an id or a name means, and the first of its weights that meet the wish.

    Raises:
        NotFoundError: no model has this id or name.
        ConflictError: the model has no such weights.
    """
    row, namesakes = resolve(snapshot, model, wish.format)
    weights = snapshot.weights(row.id)
    entry = next(filter(wish.meets, weights), None)
    if entry is None:
        raise no_weights(Situation(row, wish, namesakes, weights, snapshot.failures(row.id), snapshot.evicted(row.id)))
    return row, entry


def check_file(found: Weights, *, verify: bool) -> None:
    """Checks that a blob matches its record: by its size and, with `verify`, by its digests.

    Raises:
        IntegrityError: the blob is missing, is not a regular file, or does not match its record.
        ConfigurationError: the blob cannot be read.
    """
    what, entry = f"the weights of model {quoted(found.model.name)}", found.entry
    try:
        there = os.lstat(found.path)
        if not stat.S_ISREG(there.st_mode):
            raise IntegrityError(f"{what} are no file ({found.path})", hint=_PUT_ASIDE)
        size = there.st_size
        digest = _digest(found.path) if verify and size == entry.size else None
    except FileNotFoundError as error:
        cure = "`mirror sync` fetches them again, if the upstream still has them"
        raise IntegrityError(f"{what} are missing from the store ({found.path})", hint=cure) from error
    except OSError as error:
        raise ConfigurationError(f"{what} cannot be read: {found.path}: {error.strerror}") from error
    if size != entry.size:
        raise IntegrityError(f"{what} have {size} bytes instead of {entry.size} ({found.path})", hint=_PUT_ASIDE)
    if digest is None:
        return
    cure = f"run `mirror verify --repair` where the mirror is synced, or copy the file again: {found.path}"
    if digest.md5 != entry.md5 or entry.sha256 not in (None, digest.sha256):
        raise IntegrityError(f"{what} do not match their digest", hint=cure)


def _digest(path: Path) -> Digest:
    from .digests import digest_file

    return digest_file(path)
