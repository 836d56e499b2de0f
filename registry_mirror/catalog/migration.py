"""Bringing a catalog to the present schema, or not at all.

Alembic on SQLite is not transactional: a kill in the middle of an upgrade leaves half a schema. So the upgrade runs on
a copy, which takes the catalog's name when it is done. Alembic is not even imported when there is nothing to do, or
nothing to bring up to date.
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
"""The revision that this version works with; a test holds it equal to the newest migration."""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", HEAD)

_VERSION_TABLE = (
    "CREATE TABLE alembic_version "
    "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)

DAMAGED_HINT = "run `mirror verify`: it is put aside and built anew from the index, and blobs are recognised"


def needs_migration(path: Path) -> bool:
    """Whether the catalog is absent or of an older schema.

    Raises:
        CatalogError: it is newer than this version, or no catalog.
    """
    if not path.exists():
        return True
    if not path.is_file():  # SQLite would wait for a pipe
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
    """The schema's revision; None when there is none yet.

    Raises:
        CatalogError: the file is no SQLite database, or cannot be read.
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
    """Makes the catalog, or brings it to `target`. The caller holds the run lock: nobody else migrates it.

    Args:
        fill: writes the first rows of a new catalog, which has them when it gets its name, or is not there.

    Raises:
        NoSpaceError: there is no room for the copy; the catalog is as it was.
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
        reason: object = getattr(error, "orig", None) or error  # SQLAlchemy's errors hold that of SQLite
        if isinstance(reason, sqlite3.Error):
            raise _failed(path, reason) from error
        raise
    fsync_directory(path.parent)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[BinaryIO | None]:
    """The present catalog, to which nobody writes until the new one has its name; None where there is none.

    Writers that need no run lock, as `pin` and `download --fetch`, would write to the file that is being replaced. They
    wait, and then see that theirs is the catalog no longer.
    """
    if not path.exists():
        yield None
        return
    with contextlib.ExitStack() as stack:
        # Closed last: with it, the system would drop every lock that this process has on the file.
        source = stack.enter_context(open(path, "rb", buffering=0))
        database = sqlite3.connect(_uri(path), uri=True, timeout=30, isolation_level=None)
        stack.callback(database.close)
        try:
            # It also rolls back what a killed writer left in the journal.
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
    """A new catalog, as all migrations together make it; a test holds the two equal.

    To import Alembic takes longer than a first small run without it.
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
    # A table that is built anew takes the place of one that others refer to.
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
