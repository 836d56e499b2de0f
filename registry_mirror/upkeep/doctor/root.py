"""Probes of the root: is it one, who may write to it, and who may read what is secret."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ...files import read_regular
from ...store.layout import FORMAT_VERSION
from ...store.root import foreign
from .finding import ok, problem, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .finding import Answer, Patient

_EVERYBODY_WRITES = 0o002
_EVERYBODY_READS = 0o004
_NOT_MINE = 0o077


def layout(patient: Patient) -> Iterable[Answer]:
    """Is the folder a root, of a layout that this version knows, with nothing of others in it?"""
    root = patient.layout.root
    if not root.exists():
        return [warning(f"there is no mirror in {root} yet", "run `mirror sync`, or name another folder with --root")]
    if not root.is_dir():
        return [problem(f"{root} is not a folder", "name another one with --root")]
    strangers = foreign(os.listdir(root))
    told = [warning(f"{name!r} in the root is not ours", "keep other files elsewhere") for name in strangers[:5]]
    if not patient.layout.format_file.exists():
        return [*_without_format(patient, bool(strangers)), *told]
    text = _format(patient.layout.format_file)
    if not text.isdecimal() or not 1 <= int(text) <= FORMAT_VERSION:
        cure = "upgrade registry-mirror on this machine" if text.isdecimal() else f"write {FORMAT_VERSION} into it"
        return [problem(f"FORMAT says {text!r}, and this version knows {FORMAT_VERSION}", cure)]
    return [ok(f"{root} is a root of layout {text}"), *told]


def _format(file: Path) -> str:
    try:
        return read_regular(file).decode("ascii", "replace").strip()
    except OSError as error:
        return error.strerror or str(error)


def _without_format(patient: Patient, strange: bool) -> list[Answer]:  # noqa: FBT001
    if patient.layout.index.exists():
        return [ok(f"{patient.layout.root} is a copy of a root, to read from")]
    if strange:
        return [problem(f"{patient.layout.root} is no mirror root", "name an empty or a new folder with --root")]
    return [warning(f"{patient.layout.root} is empty", "run `mirror sync`")]


def permissions(patient: Patient) -> Iterable[Answer]:
    """May this account write, and is nobody allowed to who should not be?"""
    root = patient.layout.root
    if not root.is_dir():
        return [skipped("there is no root yet")]
    return [*_may_write(patient), *_open_to_all(patient), *_other_owners(patient)]


def _may_write(patient: Patient) -> Iterator[Answer]:
    if not os.access(patient.layout.root, os.R_OK | os.X_OK):
        yield problem(f"{patient.layout.root} cannot be read", "give this account the right to")
    elif not os.access(patient.layout.root, os.W_OK):
        yield ok("this account may read and not write: enough for readers, and not for a sync")
    else:
        closed = [each for each in _own(patient) if each.exists() and not os.access(each, os.W_OK)]
        for each in closed:
            yield problem(f"{each} cannot be written", "sync as the account that owns it, or set store.shared")
        if not closed:
            yield ok("this account may write")


def _open_to_all(patient: Patient) -> Iterator[Answer]:
    for each in (patient.layout.root, *_own(patient)):
        if each.exists() and not each.is_symlink() and each.stat().st_mode & _EVERYBODY_WRITES:
            yield warning(f"everybody may write to {each}", f"chmod o-w {each}")


def _other_owners(patient: Patient) -> Iterator[Answer]:
    shared = patient.settings is not None and patient.settings.store.shared == "group"
    owner = patient.layout.root.stat().st_uid
    others = [each for each in _own(patient) if each.exists() and each.stat().st_uid != owner]
    if others and not shared:
        names = ", ".join(each.name for each in others)
        yield warning(
            f"{names} belong to another account than the root",
            'sync as one account, or set store.shared = "group"',
        )


def _own(patient: Patient) -> tuple[Path, ...]:
    layout = patient.layout
    return layout.blobs, layout.incoming, layout.quarantine, layout.catalog, layout.index, layout.run_record


def secrets(patient: Patient) -> Iterable[Answer]:
    """May nobody else read the files that hold keys?"""
    found: list[Answer] = []
    keys = patient.layout.root / "keys.toml"
    if keys.exists() and stat.S_IMODE(keys.stat().st_mode) & _NOT_MINE:
        found.append(problem(f"others may read {keys}", f"chmod 600 {keys}"))
    file = patient.settings.upstream.api_key_file if patient.settings else None
    if file is not None and file.exists() and file.stat().st_mode & _EVERYBODY_READS:
        found.append(warning(f"everybody may read the API key in {file}", f"chmod o-r {file}"))
    return found or [ok("no file with a key is open to others")]
