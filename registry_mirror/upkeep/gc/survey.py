"""Surveys a root before `gc` decides, and changes nothing. What cannot be read is marked as unknown, not guessed."""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ...errors import NoIndexError
from ...files import host_name
from ...index.reader import IndexReader
from ...index.schema import BUILT_AT, BUILT_BEFORE, CATALOG_ID, PUBLISHED_AT, REVISION
from ...model import is_to_come, parse_time, utc_now
from ...store.layout import SUFFIXES, blob_name
from ...store.parts import incoming_files, is_ours, lives
from .plan import BlobFile, IndexView, Leftover, Survey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ...catalog import Catalog
    from ...store.layout import Layout

TRASH = "gc-"
"""Prefix of the names of blobs that `gc` has moved to `incoming/` and not removed yet."""

_LATEST = datetime(3000, 1, 1, tzinfo=UTC).timestamp()
_SPENT = (TRASH, "index.")
_ENDINGS = "|".join(sorted(re.escape(each) for each in (*SUFFIXES.values(), ".bin")))
_BLOB = re.compile(rf"(?P<folder>[0-9a-f]{{2}})/(?P<md5>(?P=folder)[0-9a-f]{{30}})(?:{_ENDINGS})")


_BAD = re.compile(r".+\.bad\.[A-Za-z0-9_-]+\.\d{1,18}\.[0-9a-f]+")


def survey(layout: Layout, catalog: Catalog) -> Survey:
    """Collects everything that `gc` needs to decide.

    Raises:
        CatalogError: the catalog cannot be read.
    """
    blobs, strangers = look_at_blobs(layout.blobs)
    # The index is read before the rows, so that a row written in between is seen even if its index is not.
    index = look_at_index(layout, catalog.facts())
    return Survey(
        now=utc_now(),
        holdings=tuple(catalog.retention.holdings()),
        notes=catalog.retention.notes(),
        blobs=blobs,
        index=index,
        strangers=strangers,
        incoming=tuple(_incoming(layout)),
        quarantine=tuple(_quarantine(layout)),
        last_ok_run=catalog.runs.last_ok(),
        last_run=catalog.runs.last(),
        listed_at=catalog.runs.last_listing(),
    )


def md5_of(blob: str) -> str:
    """The MD5 in a blob's name. Raises ValueError if it is not a blob's name."""
    found = _BLOB.fullmatch(blob)
    if found is None:
        raise ValueError(f"not a blob's name: {blob!r}")
    return found["md5"]


def look_at_index(layout: Layout, facts: Mapping[str, str]) -> IndexView | None:
    """The published index; None when it cannot be read. `facts` are those of the catalog."""
    reader = IndexReader(layout.index)
    try:
        meta, named = reader.read(lambda snapshot: (snapshot.meta(), snapshot.blob_keys()))
        blobs = frozenset(blob_name(md5, weights_format) for md5, weights_format in named)
    except (NoIndexError, ValueError):
        return None
    finally:
        reader.close()
    revision = meta.get(REVISION, "")
    ours = meta.get(CATALOG_ID) == facts["catalog_id"]
    follows = ours and revision.isdecimal() and int(revision) <= int(facts["revision"])
    built, before, now = parse_time(meta.get(BUILT_AT)), parse_time(meta.get(BUILT_BEFORE)), utc_now()
    if built is not None and before is not None and not is_to_come(before, now):
        built = max(built, before)
    return IndexView(blobs, parse_time(meta.get(PUBLISHED_AT)), built, follows)


def look_at_blobs(folder: Path) -> tuple[dict[str, BlobFile | None], dict[str, int]]:
    """Lists `blobs/`: the files under a blob's name, and the sizes of all other files."""
    blobs: dict[str, BlobFile | None] = {}
    strangers: dict[str, int] = {}
    for first in _entries(folder):
        state = _stat(folder / first)
        inside = _entries(folder / first) if state is not None and stat.S_ISDIR(state.st_mode) else [None]
        for second in inside:
            name = first if second is None else f"{first}/{second}"
            found = _stat(folder / name)
            if not _BLOB.fullmatch(name) or (found is not None and not stat.S_ISREG(found.st_mode)):
                strangers[name] = found.st_size if found else 0
            else:
                blobs[name] = None if found is None else BlobFile(found.st_size, file_time(found.st_ctime))
    return blobs, strangers


def _incoming(layout: Layout) -> list[Leftover]:
    here, leftovers = host_name(), []
    for found in incoming_files(layout.incoming, is_ours):
        state = _stat(found.path)
        if state is None or not stat.S_ISREG(state.st_mode):
            continue
        alive = lives(found) if found.host == here and found.pid is not None else None
        spent = found.path.name.startswith(_SPENT)
        name = f"{layout.incoming.name}/{found.path.name}"
        leftovers.append(Leftover(name, state.st_size, file_time(state.st_mtime), alive, spent))
    return leftovers


def _quarantine(layout: Layout) -> list[Leftover]:
    leftovers = []
    for name in _entries(layout.quarantine):
        state = _stat(layout.quarantine / name)
        if state is not None and stat.S_ISREG(state.st_mode) and _BAD.fullmatch(name):
            # The ctime is when the file was moved here; the mtime is the blob's own.
            moved = file_time(state.st_ctime)
            leftovers.append(Leftover(f"{layout.quarantine.name}/{name}", state.st_size, moved))
    return leftovers


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def file_time(seconds: float) -> datetime:
    """Converts a file's time. A time before 1970 or after 2999 becomes the nearest one in that range."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC)
