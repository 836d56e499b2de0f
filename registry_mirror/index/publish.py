"""Publishes the index: builds a new file, calls fsync, and renames it over the old one. Standard library only.

A reader opens the index without a lock, so the file must never change once it has its name. Each publication makes a
new file: either a copy of the last index with the changes since, or one built from scratch. SQLite copies the rows
from the attached catalog, which is only read, so no transaction writes to both files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from typing import TYPE_CHECKING

from ..files import (
    PRIVATE,
    Modes,
    clone_or_copy,
    create_exclusive,
    database_full,
    fsync_directory,
    make_directory,
    no_space_named,
    open_regular,
    part_name,
)
from ..model import format_time, is_to_come, parse_time, utc_now
from . import schema
from .schema import RANK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

_SIDE_FILES = ("-journal", "-wal", "-shm")
_BUSY = 30

_LOST = "EXISTS (SELECT 1 FROM catalog.checks k WHERE k.md5 = w.md5 AND k.format = w.format AND k.lost_at IS NOT NULL)"
# For each table of the index: its name, the column with the model's id, its columns, and their source in the catalog.
# Weights come before models, because a model's rank depends on them. Weights whose blob is lost are left out.
_COPIES = (
    (
        "weights",
        "model_id",
        "model_id, format, version, md5, sha256, size, fetched_at, current",
        f"catalog.weights w WHERE NOT {_LOST} AND",
    ),
    (
        "models",
        "id",
        f"id, name, status, model_type, architecture, created_at, updated_at, {RANK}, first_seen, gone_at, document",
        "catalog.models m WHERE",
    ),
    (
        "failures",
        "model_id",
        "model_id, format, error, attempts, first_failed_at, last_failed_at",
        "catalog.failures WHERE",
    ),
    ("pins", "model_id", "model_id, pinned_at", "catalog.pins WHERE"),
    ("evicted", "model_id", "model_id, format, md5, size, evicted_at", "catalog.evictions WHERE"),
)
_COPY_CHECKS = """
INSERT OR REPLACE INTO main.checks
SELECT md5, format, checked_at, size, mtime_ns, lost_at FROM catalog.checks WHERE revision > ?
"""


def publish(
    path: Path,
    building: Path,
    catalog: Path,
    *,
    meta: Mapping[str, str],
    modes: Modes = PRIVATE,
    sound: bool = True,
    publishing: Callable[[str], None] = lambda _digest: None,
) -> bool:
    """Brings the index at `path` to the catalog's revision. After any failure the old index is unchanged.

    Args:
        path: the index.
        building: a folder on the same file system, in which the new file is built.
        catalog: the catalog's file. Its writers must wait while rows are copied.
        meta: texts for readers, including the catalog's `catalog_id` and `revision`. The index is built from scratch
            when the present one is of another catalog, or has a higher revision: revisions only grow, so that catalog
            was restored from a backup. This function adds `published_at` and `built_at`, and `built_before` when the
            clock went back.
        modes: permissions of the new file.
        sound: whether the present index is the one that was published. If not, the new one is built from scratch.
        publishing: is called with the new file's digest before the rename.

    Returns:
        False when the present index had the same `meta` and no date in the future, so that nothing was written.

    Raises:
        NoSpaceError: the disk is full.
        sqlite3.Error: the catalog cannot be read.
        ValueError: `meta` holds a date that this function sets.
    """
    if taken := schema.DATES & meta.keys():
        raise ValueError(f"meta keys that publish itself sets: {sorted(taken)}")
    present = _meta_of(path) if sound else None
    if present is not None and _undated(present) == dict(meta) and not _is_ahead(present):
        return False
    make_directory(building, modes)
    with _full_disk_named(building), _part(building, modes) as (part, stream):
        updated = present is not None and _extends(present, meta) and _update(stream, part, path, catalog, meta)
        if not updated:
            _build(stream, part, catalog, meta)
        os.fsync(stream.fileno())
        publishing(digest_of(part))
        os.replace(part, path)
    _remove_side_files(path)  # a tool that wrote to the old file may have left them; SQLite would apply them
    fsync_directory(path.parent)
    return True


def digest_of(path: Path) -> str:
    """Returns the SHA-256 and the size of an index as `HEX:BYTES`, by which a writer recognises its own index.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as stream:
        return f"{hashlib.file_digest(stream, 'sha256').hexdigest()}:{stream.tell()}"


def published_revision(path: Path) -> tuple[str, int] | None:
    """Returns the id and the revision of the catalog that the index was made from; None when they are unknown."""
    present = _meta_of(path) or {}
    catalog_id, revision = present.get(schema.CATALOG_ID), present.get(schema.REVISION, "")
    return (catalog_id, int(revision)) if catalog_id and revision.isdecimal() else None


def _undated(meta: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in meta.items() if key not in schema.DATES}


def _is_ahead(meta: Mapping[str, str]) -> bool:
    """Returns whether an index has a date in the future, set by a clock that was ahead of the present one."""
    return any(_to_come(meta.get(key)) for key in (schema.PUBLISHED_AT, schema.BUILT_AT))


def _to_come(date: str | None) -> bool:
    moment = parse_time(date)
    return moment is not None and is_to_come(moment, utc_now())


def _extends(present: Mapping[str, str], meta: Mapping[str, str]) -> bool:
    """Returns whether `meta` is of the present index's catalog, at the same or a later revision."""
    same = present.get(schema.CATALOG_ID) == meta[schema.CATALOG_ID]
    base = present.get(schema.REVISION, "")
    return same and base.isdecimal() and int(base) <= int(meta[schema.REVISION])


def _meta_of(path: Path) -> dict[str, str] | None:
    """Returns the meta table of an index, or None when the file is missing, damaged or of another format."""
    if not path.is_file():
        return None
    try:
        connection = sqlite3.connect(schema.uri(path, "mode=ro&immutable=1"), uri=True)
        with contextlib.closing(connection):
            if schema.marks(connection) != (schema.APPLICATION_ID, schema.USER_VERSION):
                return None
            return dict(connection.execute("SELECT key, value FROM meta"))
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return None


def _update(stream: BinaryIO, part: Path, path: Path, catalog: Path, meta: Mapping[str, str]) -> bool:
    """Fills the new file with the old index and the changes since. Returns False when the old index cannot be used."""
    try:
        with path.open("rb", buffering=0) as old:
            clone_or_copy(old, stream)
    except FileNotFoundError:
        return False
    present = _meta_of(part)  # read the copy, since `path` may be another file by now
    if present is None or not _extends(present, meta):
        return False
    try:
        with _opened(part, catalog) as connection, _transaction(connection):
            _run(connection, schema.CHECKS)  # an index of an older version lacks this table
            _run(connection, schema.PINS_AND_EVICTED)
            _copy(connection, int(present[schema.REVISION]))
            _set_meta(connection, meta, present)
    except sqlite3.DatabaseError as error:
        # Building from scratch would fail on a full disk or a locked catalog too, and wait for the lock once more.
        if database_full(error, part.parent, "the index") or error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise
        return False  # the old index is damaged beyond its first page
    return True


def _build(stream: BinaryIO, part: Path, catalog: Path, meta: Mapping[str, str]) -> None:
    stream.truncate(0)
    with _opened(part, catalog) as connection:
        with _transaction(connection):
            _run(connection, schema.TABLES)
            _run(connection, schema.CHECKS)
            _run(connection, schema.PINS_AND_EVICTED)
            _copy(connection, None)
            _set_meta(connection, meta)
        with _transaction(connection):  # a second transaction, for which the catalog's writers need not wait
            _run(connection, schema.INDEXES)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.USER_VERSION}")


def _copy(connection: sqlite3.Connection, base: int | None) -> None:
    """Copies the rows from the catalog that changed after the revision `base`, or all rows when it is None."""
    if base is None:
        chosen = "1"
    else:
        connection.execute("CREATE TEMP TABLE changed (id TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID")
        connection.execute("INSERT INTO changed SELECT id FROM catalog.models WHERE revision > ?", (base,))
        chosen = "{key} IN (SELECT id FROM temp.changed)"
        for table, key, *_ in _COPIES:
            connection.execute(f"DELETE FROM main.{table} WHERE {chosen.format(key=key)}")  # noqa: S608
    for table, key, columns, source in _COPIES:
        connection.execute(
            f"INSERT INTO main.{table} SELECT {columns} FROM {source} {chosen.format(key=key)} ORDER BY {key}"  # noqa: S608
        )
    connection.execute(_COPY_CHECKS, (-1 if base is None else base,))


@contextlib.contextmanager
def _part(building: Path, modes: Modes) -> Iterator[tuple[Path, BinaryIO]]:
    """Creates a new file in `building`, which the block must rename. When the block fails, removes the file."""
    part = building / part_name("index")
    stream = create_exclusive(part, modes.file, exact=modes.exact)
    try:
        with stream:
            yield part, stream
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        _remove_side_files(part)
        raise


@contextlib.contextmanager
def _opened(part: Path, catalog: Path) -> Iterator[sqlite3.Connection]:
    """Opens the new file and attaches the catalog.

    Nobody else uses the new file, so it needs no journal, no sync and no lock; some network shares refuse locks. The
    catalog is opened with locks, and for writing only so that SQLite can roll back what a killed writer left.
    """
    uri = schema.uri(part, "mode=rw&nolock=1")
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY)) as connection:
        for pragma in (
            f"page_size = {schema.PAGE_SIZE}",
            "journal_mode = OFF",
            "synchronous = OFF",
            "temp_store = MEMORY",
            "cache_size = -32768",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("ATTACH ? AS catalog", (schema.uri(catalog, "mode=rw"),))
        yield connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


def _run(connection: sqlite3.Connection, script: str) -> None:
    # executescript() would commit the transaction first.
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)


def _set_meta(
    connection: sqlite3.Connection, meta: Mapping[str, str], present: Mapping[str, str] | None = None
) -> None:
    """Writes the meta table, with the revision that was really copied: it may have risen since `meta` was made.

    Args:
        present: meta of the index that this one extends; None when this one is built from scratch.
    """
    query = "SELECT value FROM catalog.facts WHERE key = ?"
    (revision,) = connection.execute(query, (schema.REVISION,)).fetchone()
    written = {**meta, schema.REVISION: revision, **_dates(present or {})}
    connection.execute("DELETE FROM meta")
    connection.executemany("INSERT INTO meta VALUES (?, ?)", written.items())


def _dates(present: Mapping[str, str]) -> dict[str, str]:
    """Returns the dates for the meta table: when the index is published, and when it was last built from scratch.

    A build date in the future means that the clock was ahead then or is behind now. It is replaced by the present time
    and kept as `built_before`, since it counts again if its time comes before the grace period is over.
    """
    now = str(format_time(utc_now()))
    built = present.get(schema.BUILT_AT) or now
    before = built if _to_come(built) else present.get(schema.BUILT_BEFORE)
    dates = {schema.PUBLISHED_AT: now, schema.BUILT_AT: now if _to_come(built) else built}
    return dates if before is None else {**dates, schema.BUILT_BEFORE: before}


def _remove_side_files(path: Path) -> None:
    for ending in _SIDE_FILES:
        with contextlib.suppress(OSError):
            os.unlink(f"{path}{ending}")


@contextlib.contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Raises NoSpaceError for a full disk, whether Python or SQLite reports it."""
    with no_space_named("the index"):
        try:
            yield
        except sqlite3.DatabaseError as error:
            full = database_full(error, folder, "the index")
            if full is None:
                raise
            raise full from error
