"""Fetches lost weights again at once, with the parts of a sync. It may run beside a sync."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import ConflictError, Interrupted, MirrorError, NoSpaceError
from ...model import ModelStatus, utc_now
from ...sync import identity
from ...sync.fetch import Fetcher, job_for, record
from ...sync.opening import open_sync
from ...sync.pool import CircuitBreaker, describe

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ...catalog import Catalog, Known
    from ...config import Settings
    from ...secret import Secret
    from ...sources.source import Source
    from ...store.blobs import Blobs
    from ...sync.reporter import Reporter
    from ...sync.stop import Stop

_PATIENCE = 3
"""After this many network failures in a row, the remaining models are left for the next sync."""


@dataclass(frozen=True, slots=True)
class LostWeights:
    """A model whose present weights in one format are lost."""

    model_id: str
    known: Known
    format: str


@dataclass(frozen=True, slots=True)
class Repaired:
    """`whole` has the weights that were fetched, as pairs of model id and format; `failed` has a line per failure."""

    whole: frozenset[tuple[str, str]]
    failed: tuple[str, ...]


def wanted(known: Mapping[str, Known], model_ids: Collection[str] | None) -> list[LostWeights]:
    """The lost weights to fetch. Superseded weights are left out, because the upstream gives only its present ones."""
    return [
        LostWeights(model_id, each, weights.format)
        for model_id, each in known.items()
        if model_ids is None or model_id in model_ids
        for weights in each.weights
        if weights.lost
    ]


def repair(
    settings: Settings, key: Secret, model_ids: Collection[str] | None, reporter: Reporter, stop: Stop
) -> Repaired:
    """Fetches the lost weights of some models, or of all models for None. Records each blob, then publishes the index.

    Raises:
        NoSpaceError: the disk is full.
        Interrupted: a stop was requested. The index is published with what was fetched until then.
    """
    whole, failed = set(), []
    breaker = CircuitBreaker(_PATIENCE)
    with open_sync(settings, key, stop.wait, locked=False) as (writer, source, blobs):
        catalog, fetcher = writer.catalog, Fetcher(source, writer.catalog, blobs, reporter)
        try:
            todo = wanted(catalog.models.known(), model_ids)
            reporter.queued(len(todo))
            for each in todo:
                stop.check()
                if breaker.reason is not None:
                    failed.append(f"{each.known.name}: left for the next sync: {breaker.reason}")
                    continue
                try:
                    _fetch(writer.catalog, source, blobs, fetcher, each, reporter, stop)
                except (Interrupted, NoSpaceError):
                    raise
                except MirrorError as error:
                    breaker.failure(error)
                    catalog.weights.record_failure(each.model_id, each.format, str(error), utc_now())
                    failed.append(f"{each.known.name}: {error}")
                else:
                    breaker.success()
                    whole.add((each.model_id, each.format))
        finally:
            writer.publish_index()
    return Repaired(frozenset(whole), tuple(failed))


def _fetch(
    catalog: Catalog, source: Source, blobs: Blobs, fetcher: Fetcher, each: LostWeights, reporter: Reporter, stop: Stop
) -> None:
    row = source.document(each.model_id)
    identity.check(catalog, source, row, reporter)
    if row.status != ModelStatus.READY:
        raise ConflictError(f"the upstream has no weights to give: the model's status is {row.status!r}", status=409)
    job = job_for(row, each.format, each.known)
    stored = fetcher.fetch(job, stop.check)
    if stored is None:
        raise ConflictError(f"the upstream has no {each.format} of it any more", status=409)
    record(catalog, blobs, job, stored)
    reporter.finished(job.key, row.name, describe(job, stored))
