"""Probes of the file system under the root: locks, renames, links, space and its clock."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from ...errors import MirrorError, NoIndexError
from ...files import create_exclusive, part_name, reflink
from ...index.reader import IndexReader
from ...index.schema import BUILT_AT, PUBLISHED_AT
from ...model import format_time, is_to_come, parse_time, utc_now
from ...store.lock import holder_of
from ...store.root import inventory, is_apart
from ...units import format_duration, format_size
from .finding import ok, problem, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .finding import Answer, DoctorContext

LEAST_SPACE = 64 << 20
LOW_SPACE = 1 << 30
LEAST_INODES, LOW_INODES = 100, 2000
_CLOCK = 5.0
_MENDS = "set this machine's clock by NTP; if it is right now, the next `mirror sync` mends the date"

# Runs in a second process: a process never conflicts with its own `lockf` locks, and on some file systems locks are
# known to one process only.
_TRY = """
import fcntl, os, sys
refused = []
for path, lock in zip(sys.argv[1:], (fcntl.flock, fcntl.lockf)):
    try:
        lock(os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        refused.append(lock.__name__)
print(*refused)
"""


@contextlib.contextmanager
def probe_files(context: DoctorContext, count: int) -> Iterator[list[Path]]:
    """Makes files in `incoming/` and removes them afterwards.

    Their names tell which process made them, so a sync removes them if the doctor is killed.
    """
    made: list[Path] = []
    try:
        for _ in range(count):
            path = context.layout.incoming / part_name("doctor")
            create_exclusive(path, 0o600).close()
            made.append(path)
        yield made
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _why_not(context: DoctorContext) -> str | None:
    folder = context.layout.incoming
    if not folder.is_dir():
        return "there is no incoming/ to try it in"
    return None if os.access(folder, os.W_OK) else "this account may not write here"


def locks(context: DoctorContext) -> Iterable[Answer]:
    """Does the file system have locks, and do they keep another process out?"""
    if reason := _why_not(context):
        return [skipped(reason)]
    try:
        import fcntl
    except ImportError:
        return [skipped("this system has locks of another kind")]
    cure = "let one machine sync, with the root on a disk of its own; readers need no locks"
    with probe_files(context, 2) as paths, contextlib.ExitStack() as opened:
        try:
            for path, lock in zip(paths, (fcntl.flock, fcntl.lockf), strict=True):
                lock(opened.enter_context(path.open("r+b")), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return [warning(f"this file system has no locks: {error.strerror}", cure)]
        refused = _refused(paths)
    found = [] if "lockf" in refused else [problem("locks of SQLite's kind keep nobody out here", cure)]
    found += [] if "flock" in refused else [warning("run.lock keeps nobody out here: two syncs may run at once", cure)]
    held = [ok(f"a sync is running: {holder_of(context.layout)}")] if context.layout.run_holder.exists() else []
    return [*(found or [ok("locks keep other processes out")]), *held]


def _refused(paths: list[Path]) -> list[str]:
    program = [sys.executable, "-I", "-c", _TRY, *map(str, paths)]
    try:
        done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=30)
    except subprocess.SubprocessError as error:
        raise MirrorError(f"locks could not be tried from a second process: {error}") from error
    return done.stdout.split()


def files(context: DoctorContext) -> Iterable[Answer]:
    """Tries renames, syncing a folder, links, and whether names are case-sensitive."""
    if reason := _why_not(context):
        return [skipped(reason)]
    return [*_one_file_system(context), _rename(context), _folder_sync(context.layout.incoming), _links(context)]


def _one_file_system(context: DoctorContext) -> Iterator[Answer]:
    for other in (context.layout.blobs, context.layout.quarantine, context.layout.root):
        if other.is_dir() and is_apart(context.layout.incoming, other):
            cure = "put the whole root on one disk: a file cannot be renamed from one file system to another"
            yield problem(f"incoming/ and {other.name} are on two file systems", cure)


def _rename(context: DoctorContext) -> Answer:
    with probe_files(context, 2) as (source, target):
        source.write_bytes(b"new")
        with target.open("rb") as reader:
            os.replace(source, target)
            if reader.read() or target.read_bytes() != b"new":
                return problem("a rename shows through to who has the old file open", "use another file system")
    return ok("a file can take the place of another while that one is read")


def _folder_sync(folder: Path) -> Answer:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        return warning(f"a folder cannot be synced here ({error.strerror}): a power cut may lose the last names")
    finally:
        os.close(descriptor)
    return ok("names are made durable")


def _links(context: DoctorContext) -> Answer:
    with probe_files(context, 2) as (first, second):
        first.write_bytes(b"shared")
        with first.open("rb") as source, second.open("r+b") as target:
            ways = ["reflinks"] if reflink(source.fileno(), target.fileno()) else []
        for word, make in (("hard links", os.link), ("symbolic links", os.symlink)):
            second.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                make(first, second)
                ways.append(word)
        case = " is not" if first.with_name(first.name.upper()).exists() else " is"
    copies = "" if "reflinks" in ways else "; `mirror download` copies every byte"
    return ok(f"there are {', '.join(ways) or 'no links of any kind'}{copies}; case{case} told apart")


def space(context: DoctorContext) -> Iterable[Answer]:
    """Are there as many free bytes and inodes as a run needs?"""
    if not context.layout.root.is_dir():
        return [skipped("there is no root yet")]
    found = os.statvfs(context.layout.root)
    needed = _needed(context)
    return [
        judge_space(found.f_bavail * found.f_frsize, found.f_blocks, needed),
        judge_inodes(found.f_favail, found.f_files),
    ]


def _needed(context: DoctorContext) -> int:
    """Bytes that the largest step of a run writes before it frees any: a copy of catalog and index, or one blob."""
    books = sum(each.stat().st_size for each in (context.layout.catalog, context.layout.index) if each.exists())
    return max([books, *inventory(context.layout).values()], default=0)


def judge_space(free: int, blocks: int, needed: int) -> Answer:
    """Judges the free bytes. Some network file systems report 0 blocks, which means that nothing is known.

    Args:
        free: free bytes.
        blocks: size of the file system, in blocks.
        needed: bytes that a run may need at once.
    """
    if blocks == 0:
        return skipped("the file system does not say how much is free")
    said = f"{format_size(free)} are free"
    if free < max(LEAST_SPACE, needed):
        return problem(f"{said}; a run may need {format_size(max(LEAST_SPACE, needed))} at once", "free some space")
    if free < max(LOW_SPACE, 4 * needed):
        return warning(f"{said}, which is not much", "free some space")
    return ok(said)


def judge_inodes(free: int, inodes: int) -> Answer:
    """Judges the free inodes. A file system that creates inodes on demand reports a total of 0."""
    if inodes == 0:
        return ok("inodes are made as they are needed")
    said = f"{free} inodes are free"
    if free < LEAST_INODES:
        return problem(said, "remove small files from this file system")
    return warning(said, "remove small files from this file system") if free < LOW_INODES else ok(said)


def clock(context: DoctorContext) -> Iterable[Answer]:
    """Do the file system's clock and ours agree, and are all recorded dates in the past?"""
    return [*_clock_of_files(context), *_future(context)]


def _clock_of_files(context: DoctorContext) -> Iterator[Answer]:
    if reason := _why_not(context):
        yield skipped(reason)
        return
    with probe_files(context, 1) as (path,):
        path.write_bytes(b"now")
        off = path.stat().st_mtime - time.time()
    if abs(off) > _CLOCK:
        cure = "set both clocks by NTP: the age of files from other hosts decides when they are swept"
        yield warning(
            f"the file system's clock is {format_duration(abs(off))} {'ahead' if off > 0 else 'behind'}", cure
        )
    else:
        yield ok("the file system's clock goes as ours does")


def _future(context: DoctorContext) -> Iterator[Answer]:
    from ...status import read_last_run

    last, now = read_last_run(context.layout.run_record), utc_now()
    dates = {"last run": parse_time((last.record or {}).get("finished_at")), "last whole sync": last.last_synced_at}
    for what, ended in dates.items():
        if ended is not None and is_to_come(ended, now):
            yield problem(f"the {what} ended in the future ({format_time(ended)})", _MENDS)
    with contextlib.suppress(NoIndexError), contextlib.closing(IndexReader(context.layout.index)) as reader:
        meta = reader.read(lambda snapshot: snapshot.meta())
        latest = max(filter(None, (parse_time(meta.get(key)) for key in (PUBLISHED_AT, BUILT_AT))), default=now)
        if is_to_come(latest, now):
            date = format_time(latest)
            yield problem(f"the index is dated in the future ({date}), and `mirror gc` removes nothing", _MENDS)
