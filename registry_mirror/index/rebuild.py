"""Fills a new catalog from the published index, by SQL, when a root has lost its catalog or was copied without it.

No listing brings back the weights of archived and gone models. So the catalog takes over what the index names before a
new index replaces it. The index does not hold when models were archived or weights superseded. Both dates are set to
now, which makes retention keep them longer. Standard library only.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from ..damage import fault_in
from ..log import logger
from ..model import micros, utc_now
from . import schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The catalog cannot hold weights without a SHA-256. An empty stamp equals no model's stamp, so the next sync looks at
# all weights again, and hashes their blobs before it trusts them.
_STEPS = (
    """
    INSERT INTO facts SELECT key, value FROM old.meta
    WHERE key IN ('base_url', 'organization_id', 'chain') AND value <> ''
    """,
    "INSERT INTO facts VALUES ('revision', '1')",
    """
    INSERT INTO models (id, name, status, model_type, architecture, created_at, updated_at, document, fingerprint,
                        stamp, first_seen, gone_at, revision, archived_at)
    SELECT id, name, status, model_type, architecture, created, updated, document, '', '', first_seen, gone_at, 1,
           iif(status = 'archived', :now, NULL)
    FROM old.models
    """,
    """
    INSERT INTO weights (model_id, format, md5, version, sha256, size, fetched_at, stamp, current, declared_md5,
                         superseded_at)
    SELECT model_id, format, md5, version, sha256, size, fetched_at, '', current, 0, iif(current, NULL, :now)
    FROM old.weights WHERE sha256 IS NOT NULL AND model_id IN (SELECT id FROM old.models)
    """,
)
# An index of an older version may lack these tables. Evictions get the stamp computed from the document, so a sync does
# not fetch evicted weights again while the model is unchanged.
_LATER_STEPS = {
    "pins": "INSERT INTO pins SELECT model_id, pinned_at FROM old.pins WHERE model_id IN (SELECT id FROM old.models)",
    "evicted": """
    INSERT INTO evictions (model_id, format, stamp, md5, size, evicted_at)
    SELECT e.model_id, e.format, stamp_of(m.document), e.md5, e.size, e.evicted_at
    FROM old.evicted e JOIN old.models m ON m.id = e.model_id
    """,
}
_log = logger()


def rebuild_from_index(catalog: Path, index: Path, stamp_of: Callable[[str], str]) -> int:
    """Copies the content of the index into a new catalog in one transaction. Copies nothing from a damaged index.

    Args:
        catalog: must have its tables, and no models yet.
        stamp_of: returns a model's stamp for its document.

    Returns:
        How many models were copied.

    Raises:
        sqlite3.Error: the catalog cannot be written, or its disk is full.
    """
    if not index.is_file():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(schema.uri(index, "mode=ro&immutable=1"), uri=True)) as connection:
            if schema.marks(connection) != (schema.APPLICATION_ID, schema.USER_VERSION):
                return 0
            fault = fault_in(connection)
            tables = [each for each in _LATER_STEPS if schema.has_table(connection, each)]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        fault = str(error)
    if fault is not None:
        _log.warning("a new catalog takes over nothing: the index %s is damaged: %s", index, fault)
        return 0
    count = _copied(catalog, index, [*_STEPS, *(_LATER_STEPS[each] for each in tables)], stamp_of)
    _log.info("a new catalog took over %d models from the index", count)
    return count


def _copied(catalog: Path, index: Path, steps: list[str], stamp_of: Callable[[str], str]) -> int:
    uri = schema.uri(catalog, "mode=rw")
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.create_function("stamp_of", 1, stamp_of)
        connection.execute("ATTACH ? AS old", (schema.uri(index, "mode=ro&immutable=1"),))
        connection.execute("BEGIN IMMEDIATE")
        values = {"now": micros(utc_now())}
        for step in steps:
            connection.execute(step, values if ":now" in step else {})
        (count,) = connection.execute("SELECT count(*) FROM main.models").fetchone()
        connection.execute("COMMIT")
    return int(count)
