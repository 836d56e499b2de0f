"""Brings a catalog to the present schema, completely or not at all.

Alembic on SQLite is not transactional: a kill in the middle of an upgrade leaves half a schema. So the upgrade runs on
a copy, which is renamed over the catalog when it is done. Alembic is imported only when an old catalog must be
upgraded.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..errors import CatalogError
from ..files import (
    PRIVATE,
    Modes,
    clone_or_copy,
    create_exclusive,
    database_full,
    fsync_directory,
    no_space_named,
    sibling,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from ..errors import MirrorError

HEAD = "0006"
"""The schema that this version works with. A test checks that it is the newest migration."""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", HEAD)

_VERSION_TABLE = (
    "CREATE TABLE alembic_version "
    "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)

DAMAGED_HINT = "run `mirror verify`: it is put aside and built anew from the index, and blobs are recognised"


def needs_migration(path: Path) -> bool:
    """Returns whether the catalog is absent or of an older schema.

    Raises:
        CatalogError: the file has a newer schema than this version knows, or is no catalog.
    """
    if not path.exists():
        return True
    if not path.is_file():  # opening a pipe would block
        raise CatalogError(
            f"the catalog {path} is no file", hint="move it away and run `mirror sync`, which makes a new one"
        )
    found = revision_of(path)
    if found is not None and found not in REVISIONS:
        raise CatalogError(
            f"the catalog {path} has schema {found}, and this version knows {HEAD} at most",
            hint="upgrade registry-mirror on this machine",
        )
    return found != HEAD


def revision_of(path: Path) -> str | None:
    """Returns the catalog's schema revision; None when it has none yet.

    Raises:
        CatalogError: the file is no SQLite database, cannot be read, or has a view or a trigger.
    """
    try:
        with contextlib.closing(sqlite3.connect(_uri(path), uri=True, timeout=30)) as database:
            things = database.execute("SELECT type, name FROM sqlite_master").fetchall()
            if odd := next((f"{kind} {name!r}" for kind, name in things if kind not in ("table", "index")), None):
                raise CatalogError(f"the catalog {path} has a {odd}, which nobody of ours put there", hint=DAMAGED_HINT)
            tables = {name for kind, name in things if kind == "table"}
            if "alembic_version" not in tables:
                return None
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise database_full(error, path.parent, "the catalog") or CatalogError(
            f"cannot read the catalog {path}: {error}",
            hint=DAMAGED_HINT,
        ) from error
    return None if row is None else str(row[0])


def migrate(
    path: Path, modes: Modes = PRIVATE, *, target: str = HEAD, fill: Callable[[Path], object] | None = None
) -> None:
    """Creates the catalog, or migrates it to `target`. The caller must hold the run lock, so that no other run does.

    After any failure the old catalog is unchanged.

    Args:
        fill: writes the first rows of a new catalog before the rename.

    Raises:
        NoSpaceError: the disk has no space for the copy.
        CatalogError: SQLite fails.
    """
    temporary = sibling(path)
    try:
        with no_space_named(path.name), _held(path) as present:
            fresh = target == HEAD and present is None
            with create_exclusive(temporary, modes.file, exact=modes.exact) as stream:
                if present is not None:
                    clone_or_copy(present, stream)
            if fresh:
                _create(temporary)
                if fill is not None:
                    fill(temporary)
            else:
                _upgrade(temporary, target)
            _sync(temporary)
            os.replace(temporary, path)
    except BaseException as error:
        for leftover in (temporary, temporary.with_name(f"{temporary.name}-journal")):
            with contextlib.suppress(OSError):
                leftover.unlink()
        reason: object = getattr(error, "orig", None) or error  # SQLAlchemy wraps SQLite's error
        if isinstance(reason, sqlite3.Error):
            raise _failed(path, reason) from error
        raise
    fsync_directory(path.parent)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[BinaryIO | None]:
    """Yields the present catalog and holds its write lock during the block; yields None when there is no catalog.

    Without the lock, writers that need no run lock, such as `pin` and `download --fetch`, would write to the file that
    is being replaced. They wait, and then notice that their file is no longer the catalog.
    """
    if not path.exists():
        yield None
        return
    with contextlib.ExitStack() as stack:
        # Close this file last: closing it makes the system drop every lock that this process has on the catalog.
        source = stack.enter_context(open(path, "rb", buffering=0))
        database = sqlite3.connect(_uri(path), uri=True, timeout=30, isolation_level=None)
        stack.callback(database.close)
        try:
            # This also rolls back what a killed writer left in the journal.
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _failed(path, error) from error
        yield source


def _failed(path: Path, error: Exception) -> MirrorError:
    return database_full(error, path.parent, "the catalog") or CatalogError(
        f"cannot make or migrate the catalog {path}: {error}",
        hint="nothing was changed; see what `mirror doctor` says",
    )


def _uri(path: Path) -> str:
    return f"file:{quote(os.fsencode(path))}?mode=rw"


def _create(path: Path) -> None:
    """Creates a new catalog with the schema that all migrations together give. A test checks that the two are equal.

    This avoids Alembic, whose import takes longer than a small first run.
    """
    from .database import connect
    from .schema import metadata

    engine = connect(path)
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
            connection.exec_driver_sql(_VERSION_TABLE)
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))
    finally:
        engine.dispose()


def _upgrade(path: Path, target: str) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import event

    from .. import migrations
    from .database import connect

    config = Config()
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    engine = connect(path)
    # A migration may rebuild a table that foreign keys of other tables refer to.
    event.listen(engine, "connect", lambda driver, _record: driver.execute("PRAGMA foreign_keys = OFF"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, target)
    finally:
        engine.dispose()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
