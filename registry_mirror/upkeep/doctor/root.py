"""Probes of a root's files: format, permissions, index, catalog, leftovers of killed runs, last run."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from ...catalog import needs_migration
from ...damage import damage_of
from ...errors import MirrorError
from ...files import read_regular
from ...index.reader import IndexReader
from ...status import folder_size, last_verify, read_last_run
from ...store.layout import FORMAT_VERSION
from ...store.parts import incoming_files, is_abandoned
from ...store.root import foreign
from ...units import format_size
from .finding import ok, problem, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ...index.values import CheckTotals
    from .finding import Answer, DoctorContext


_EVERYBODY_WRITES = 0o002
_EVERYBODY_READS = 0o004
_NOT_MINE = 0o077


def layout(context: DoctorContext) -> Iterable[Answer]:
    """Is the folder a root with a layout that this version knows, and without foreign files?"""
    root = context.layout.root
    if not root.exists():
        return [warning(f"there is no mirror in {root} yet", "run `mirror sync`, or name another folder with --root")]
    if not root.is_dir():
        return [problem(f"{root} is not a folder", "name another one with --root")]
    strangers = foreign(os.listdir(root))
    told = [warning(f"{name!r} in the root is not ours", "keep other files elsewhere") for name in strangers[:5]]
    if not context.layout.format_file.exists():
        return [*_without_format(context, bool(strangers)), *told]
    text = _format(context.layout.format_file)
    if not text.isdecimal() or not 1 <= int(text) <= FORMAT_VERSION:
        cure = "upgrade registry-mirror on this machine" if text.isdecimal() else f"write {FORMAT_VERSION} into it"
        return [problem(f"FORMAT says {text!r}, and this version knows {FORMAT_VERSION}", cure)]
    return [ok(f"{root} is a root of layout {text}"), *told]


def _format(file: Path) -> str:
    try:
        return read_regular(file).decode("ascii", "replace").strip()
    except OSError as error:
        return error.strerror or str(error)


def _without_format(context: DoctorContext, strange: bool) -> list[Answer]:  # noqa: FBT001
    if context.layout.index.exists():
        return [ok(f"{context.layout.root} is a copy of a root, to read from")]
    if strange:
        return [problem(f"{context.layout.root} is no mirror root", "name an empty or a new folder with --root")]
    return [warning(f"{context.layout.root} is empty", "run `mirror sync`")]


def permissions(context: DoctorContext) -> Iterable[Answer]:
    """May this account write to the root, and may no other account that should not?"""
    root = context.layout.root
    if not root.is_dir():
        return [skipped("there is no root yet")]
    return [*_may_write(context), *_open_to_all(context), *_other_owners(context)]


def _may_write(context: DoctorContext) -> Iterator[Answer]:
    if not os.access(context.layout.root, os.R_OK | os.X_OK):
        yield problem(f"{context.layout.root} cannot be read", "give this account the right to")
    elif not os.access(context.layout.root, os.W_OK):
        yield ok("this account may read and not write: enough for readers, and not for a sync")
    else:
        closed = [each for each in _own(context) if each.exists() and not os.access(each, os.W_OK)]
        for each in closed:
            yield problem(f"{each} cannot be written", "sync as the account that owns it, or set store.shared")
        if not closed:
            yield ok("this account may write")


def _open_to_all(context: DoctorContext) -> Iterator[Answer]:
    for each in (context.layout.root, *_own(context)):
        if each.exists() and not each.is_symlink() and each.stat().st_mode & _EVERYBODY_WRITES:
            yield warning(f"everybody may write to {each}", f"chmod o-w {each}")


def _other_owners(context: DoctorContext) -> Iterator[Answer]:
    shared = context.settings is not None and context.settings.store.shared == "group"
    owner = context.layout.root.stat().st_uid
    others = [each for each in _own(context) if each.exists() and each.stat().st_uid != owner]
    if others and not shared:
        names = ", ".join(each.name for each in others)
        yield warning(
            f"{names} belong to another account than the root",
            'sync as one account, or set store.shared = "group"',
        )


def _own(context: DoctorContext) -> tuple[Path, ...]:
    layout = context.layout
    return layout.blobs, layout.incoming, layout.quarantine, layout.catalog, layout.index, layout.run_record


def secrets(context: DoctorContext) -> Iterable[Answer]:
    """Are the files with keys unreadable to other accounts?"""
    found: list[Answer] = []
    keys = context.layout.root / "keys.toml"
    if keys.exists() and stat.S_IMODE(keys.stat().st_mode) & _NOT_MINE:
        found.append(problem(f"others may read {keys}", f"chmod 600 {keys}"))
    file = context.settings.upstream.api_key_file if context.settings else None
    if file is not None and file.exists() and file.stat().st_mode & _EVERYBODY_READS:
        found.append(warning(f"everybody may read the API key in {file}", f"chmod o-r {file}"))
    return found or [ok("no file with a key is open to others")]


_ANEW = "move it away and run `mirror sync`, which publishes it anew"
_REBUILT = (
    "move it away and run `mirror sync`: it is built anew from the index and the upstream, and blobs are recognised"
)


def index(context: DoctorContext) -> Iterable[Answer]:
    """Can readers open the index, and is all of it undamaged?"""
    path = context.layout.index
    if not path.exists():
        return [skipped("there is no index yet")]
    with contextlib.closing(IndexReader(path)) as reader:
        meta, checks = reader.read(lambda snapshot: (snapshot.meta(), snapshot.check_totals()))
    fault = damage_of(path, "mode=ro&immutable=1")
    if fault is not None:
        return [problem(f"the index is damaged: {fault}", _ANEW)]
    return [
        ok(f"the index is sound, published {meta.get('published_at', 'at an unknown time')}"),
        *_checked(meta, checks),
    ]


def _checked(meta: dict[str, str], checks: CheckTotals) -> list[Answer]:
    if checks.lost:
        cure = "run `mirror sync`, or `mirror verify --repair`; superseded files cannot be had again"
        return [warning(f"{checks.lost} stored files are damaged or missing", cure)]
    if last_verify(meta) is None:
        return [ok("the stored files were never verified; `mirror verify` hashes them")]
    return []


def catalog(context: DoctorContext) -> Iterable[Answer]:
    """Can the catalog be opened, and is all of it undamaged?"""
    path = context.layout.catalog
    if not path.exists():
        return [skipped("there is no catalog here: this is a copy to read from, or nothing was synced yet")]
    journal = path.with_name(f"{path.name}-journal")
    if journal.exists() and journal.stat().st_size:
        return [warning("the catalog is being written, or a killed run has left that undone", "run `mirror sync`")]
    fault = damage_of(path, "mode=ro")
    if fault is not None and "locked" in fault:
        return [skipped("the catalog is being written at this moment")]
    if fault is not None:
        return [problem(f"the catalog is damaged: {fault}", _REBUILT)]
    try:
        old = needs_migration(path)
    except MirrorError as error:
        return [problem(error.message, error.hint)]
    return [ok(f"the catalog is sound{'; the next sync brings it up to date' if old else ''}")]


def leftovers(context: DoctorContext) -> Iterable[Answer]:
    """Are there files of interrupted runs in `incoming/`, or bad files in `quarantine/`?"""
    parts = [each for each in incoming_files(context.layout.incoming) if is_abandoned(each)]
    files, size = folder_size(context.layout.quarantine)
    found: list[Answer] = []
    if parts:
        found.append(
            warning(
                f"{len(parts)} abandoned files are in incoming/",
                "the next `mirror sync` goes on with what it can use, and removes the rest",
            )
        )
    if files:
        cure = "find out why they went bad, then remove them: nothing needs them"
        found.append(warning(f"{files} bad files are in quarantine/, {format_size(size)}", cure))
    return found or [ok("nothing was left behind")]


def runs(context: DoctorContext) -> Iterable[Answer]:
    """How did the last run end?"""
    last = read_last_run(context.layout.run_record)
    if last.problem is not None:
        return [problem(last.problem, "the next run writes it anew")]
    if last.record is None:
        return [skipped("no run has ended yet")]
    outcome, reason = last.record.get("outcome"), last.record.get("error")
    if outcome == "ok":
        return [ok(f"the last run ended well, {last.record.get('finished_at')}")]
    failed = last.record.get("failed")
    count = f"{len(failed)} models failed" if isinstance(failed, list) and failed else "see its last line"
    return [warning(f"the last run was {outcome}: {reason or count}", "run `mirror sync` and read what it says")]
