"""Handles one model at a time, for `download --fetch` and `delete`. A sync may run meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConflictError, NotFoundError
from ..model import ITS_FILE, ModelStatus, utc_now
from ..store.faults import store_error
from ..store.layout import Layout
from . import identity
from .fetch import Fetcher, job_for, record
from .listing import record_of
from .opening import open_sync

if TYPE_CHECKING:
    from ..config import Settings
    from ..secret import Secret
    from ..sources.source import ListedModel
    from .reporter import Reporter
    from .stop import Stop


def fetch_model(
    settings: Settings,
    key: Secret,
    model: str,
    weights_format: str,
    reporter: Reporter,
    stop: Stop,
    *,
    damaged: str | None = None,
) -> None:
    """Fetches one model's weights from the upstream, then updates the catalog and the index.

    Args:
        damaged: the MD5 of a stored blob whose bytes do not match it. The blob is hashed before it is used again.

    Raises:
        NotFoundError: the upstream does not know the model.
        ConflictError: the model is not ready, or was never exported in this format.
        StoreError: the disk refuses or fails.
        NoSpaceError: the disk is full.
    """
    try:
        _fetch_model(settings, key, model, weights_format, reporter, stop, damaged)
    except OSError as error:
        raise store_error(error, f"model {model!r}") from error


def _fetch_model(
    settings: Settings,
    key: Secret,
    model: str,
    weights_format: str,
    reporter: Reporter,
    stop: Stop,
    damaged: str | None,
) -> None:
    with open_sync(settings, key, stop.wait, locked=False) as (writer, source, blobs):
        catalog, row = writer.catalog, source.find(model)
        identity.check(catalog, source, row, reporter)
        if row.status != ModelStatus.READY:
            raise ConflictError(
                f"model {row.name!r} has no weights to give: its status is {row.status!r} upstream",
                hint="only ready models have weights",
                status=409,
            )
        catalog.models.record([record_of(row)], utc_now())
        if damaged is not None:
            catalog.checks.record_lost(damaged, weights_format, f"{ITS_FILE}does not match its digest", utc_now())
        job = job_for(row, weights_format, catalog.models.known([row.id]).get(row.id))
        stored = Fetcher(source, catalog, blobs, reporter).fetch(job, stop.check)
        if stored is None:
            raise ConflictError(f"model {row.name!r} was never exported as {weights_format}", status=409)
        record(catalog, blobs, job, stored)
        writer.publish_index()


def follow_delete(settings: Settings, key: Secret, row: ListedModel, stop: Stop) -> bool:
    """Updates the catalog and the index after a model was deleted upstream. The weights stay in the store.

    Returns:
        False when the catalog does not have the model.
    """
    layout = Layout(settings.root)
    if not layout.catalog.exists():
        return False
    with open_sync(settings, key, stop.wait, locked=False) as (writer, source, _):
        if not writer.catalog.models.known([row.id]):
            return False
        try:
            writer.catalog.models.record([record_of(source.document(row.id))], utc_now())
        except NotFoundError:
            writer.catalog.models.mark_gone([row.id], utc_now())
        writer.publish_index()
        return True
