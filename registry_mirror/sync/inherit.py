"""A new catalog beside an index that is there already: the catalog was lost, or the folder is a copy without one.

The weights of archived and gone models come from no listing again. What the index names is therefore on record before
anything is published over it. When models were archived, and when weights were superseded, no index tells: both
count from now, and so retention waits the longer.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from .. import catalog as catalogs
from ..catalog import Heirloom
from ..index.whole import open_whole
from ..log import logger
from ..model import ModelStatus, format_time, utc_now
from ..upstream import Row, decode_row

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from ..index.entries import ModelEntry

_FACTS = ("base_url", "organization_id", "chain")

_log = logger()


def inherit(index: Path, catalog: Path) -> None:
    """Fills a new catalog with what the index names. An index that cannot be read whole gives nothing.

    Raises:
        CatalogError: the catalog fails.
        NoSpaceError: the disk is full.
    """
    now = utc_now()
    try:
        with open_whole(index) as whole, contextlib.closing(catalogs.Catalog(catalog)) as fresh:
            if whole is not None and (fault := whole.fault()) is not None:
                _log.warning("a new catalog takes over nothing: the index %s is damaged: %s", index, fault)
            elif whole is not None:
                meta = whole.meta()
                facts = {key: meta[key] for key in _FACTS if meta.get(key)}
                count = fresh.take_over((heirloom(each, now) for each in whole.entries()), facts)
                _log.info("a new catalog took over %d models from the index", count)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        _log.warning("a new catalog takes over nothing: the index %s cannot be read: %s", index, error)


def heirloom(found: ModelEntry, now: datetime) -> Heirloom:
    """A model of the index as the catalog takes it. Weights without a SHA-256 cannot be on record."""
    row = decode_row(found.document.encode("utf-8", "surrogatepass"))
    said = row if isinstance(row, Row) else None
    moment = format_time(now)
    model: dict[str, Any] = {
        "id": found.id,
        "name": found.name,
        "status": found.status,
        "model_type": found.model_type,
        "architecture": found.architecture,
        "version": said and said.version,
        "created_at": said and said.created_at,
        "updated_at": said and said.updated_at,
        "document": found.document,
        "first_seen": format_time(found.first_seen),
        "gone_at": format_time(found.gone_at),
        "archived_at": moment if found.status == ModelStatus.ARCHIVED else None,
    }
    weights = [
        {
            "format": each.format,
            "version": each.version,
            "md5": each.md5,
            "sha256": each.sha256,
            "size": each.size,
            "fetched_at": format_time(each.fetched_at),
            "current": int(each.current),
            "superseded_at": None if each.current else moment,
        }
        for each in found.weights
        if each.sha256 is not None
    ]
    # With the stamp that the document tells: while the model is the same, a sync does not fetch them again.
    evicted = [
        {
            "format": each.format,
            "md5": each.md5,
            "size": each.size,
            "stamp": said.stamp if said else "",
            "evicted_at": format_time(each.evicted_at),
        }
        for each in found.evicted
    ]
    return Heirloom(model, weights, evicted, format_time(found.pinned_at))
