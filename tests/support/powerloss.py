"""Power cuts, simulated: of all that a process has done to a root, only what was synced is sure to be there after one.

    with Recorder(root, cut) as recorder:
        ...                                 # whatever writes; `cut(images, step)` is called after every step

Whatever was not synced may be there or not, each name and each file for itself. Four such outcomes are made of each
step (`Image`). What SQLite does for the catalog counts as synced once it is committed: its own tests are for that.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

_STEPS = ("replace", "rename", "unlink", "remove", "mkdir", "fsync", "rmdir")
_LIVE = ("catalog.sqlite", "catalog.sqlite-journal")


class Way(StrEnum):
    """What becomes of what was not synced."""

    LEAST = "nothing of it is there"
    NAMES = "every name is there, the files are empty"
    TORN = "every name is there, the files are half zeros"
    SOME = "some names are there, the files are empty"


@dataclass(frozen=True)
class Image:
    """A root as a power cut leaves it: files with their bytes, folders with None, by relative path."""

    way: Way
    entries: dict[str, bytes | None]

    def write(self, folder: Path) -> Path:
        """Puts it on a disk."""
        folder.mkdir(parents=True)
        for name, data in sorted(self.entries.items()):
            path = folder / name
            if data is None:
                path.mkdir()
            else:
                path.write_bytes(data)
        return folder


class Recorder:
    """Knows which names and which bytes are durable, while the functions of `os` do their work.

    Args:
        cut: called with the images of a power cut at this moment, after each step, and with the step's name.
    """

    def __init__(self, root: Path, cut: Callable[[Iterator[Image], str], None], seed: int = 1) -> None:
        self._root, self._cut, self._random = root, cut, random.Random(seed)
        self._lock = threading.RLock()
        self._files: dict[int, int] = {}  # descriptors by inode: an inode that is held open is not given out again
        self._synced: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}  # of each folder, those that are durable
        self._originals: dict[str, Any] = {}
        self._busy = False
        self.steps = 0

    def __enter__(self) -> Self:
        self._root.mkdir(parents=True, exist_ok=True)
        for folder, _, files in os.walk(self._root):
            self._names[os.path.relpath(folder, self._root)] = _listed(folder)
            for name in files:
                inode = self._hold(os.path.join(folder, name))
                self._synced[inode] = self._content(inode)
        for name in _STEPS:
            self._originals[name] = getattr(os, name)
            setattr(os, name, self._wrapped(name, self._originals[name]))
        self._originals["open"], os.open = os.open, self._open
        self._originals["connect"], sqlite3.connect = sqlite3.connect, self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sqlite3.connect = self._originals.pop("connect")
        for name, original in self._originals.items():
            setattr(os, name, original)
        for descriptor in self._files.values():
            os.close(descriptor)

    # -- what is seen ---------------------------------------------------------------------------------------------

    def _open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        with self._lock:
            descriptor: int = self._originals["open"](path, flags, *args, **kwargs)
            if flags & os.O_CREAT and not self._busy and self._root in Path(os.path.abspath(path)).parents:
                self._hold(os.fspath(path))
                self._step(f"create {path}")
            return descriptor

    def _wrapped(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                result = original(*args, **kwargs)
                if not self._busy:
                    if name == "fsync":
                        self._sync(args[0])
                    self._step(f"{name} {args}")
                return result

        return call

    def _connect(self) -> Any:
        recorder, original = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            def commit(self) -> None:
                with recorder._lock:  # an image has a commit whole or not at all
                    super().commit()

        def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            return original(*args, factory=Connection, **kwargs)

        return connect

    def _hold(self, path: str) -> int:
        inode = os.stat(path).st_ino
        if inode not in self._files:
            self._files[inode] = (self._originals.get("open") or os.open)(path, os.O_RDONLY)
        return inode

    def _content(self, inode: int) -> bytes:
        descriptor = self._files[inode]
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def _sync(self, descriptor: int) -> None:
        state = os.fstat(descriptor)
        if stat.S_ISDIR(state.st_mode):
            folder = os.readlink(f"/proc/self/fd/{descriptor}")
            if Path(folder) == self._root or self._root in Path(folder).parents:
                self._names[os.path.relpath(folder, self._root)] = _listed(folder)
        elif state.st_ino in self._files:
            self._synced[state.st_ino] = self._content(state.st_ino)

    def _step(self, name: str) -> None:
        self.steps += 1
        self._busy = True
        try:
            self._cut((self._image(way) for way in Way), f"step {self.steps}: {name}")
        finally:
            self._busy = False

    # -- what is left ---------------------------------------------------------------------------------------------

    def _image(self, way: Way) -> Image:
        entries: dict[str, bytes | None] = {}
        self._fill(entries, ".", way)
        return Image(way, entries)

    def _fill(self, entries: dict[str, bytes | None], folder: str, way: Way) -> None:
        here = self._root / folder
        durable = self._names.get(folder, {})
        present = _listed(here) if here.is_dir() else {}
        for name, inode in self._chosen(durable, present, way).items():
            path = os.path.normpath(os.path.join(folder, name))
            if (self._root / path).is_dir():
                entries[path] = None
                self._fill(entries, path, way)
            elif name.startswith(_LIVE):
                if inode not in self._files:
                    self._hold(os.fspath(self._root / path))
                entries[path] = self._content(inode)
            elif inode in self._files:
                entries[path] = self._survived(inode, way)

    def _chosen(self, durable: dict[str, int], present: dict[str, int], way: Way) -> dict[str, int]:
        live = {name: inode for name, inode in present.items() if name == _LIVE[1]}
        if way is Way.LEAST:
            return {**durable, **live}
        if way is not Way.SOME:
            return present
        chosen = {}
        for name in sorted(durable.keys() | present.keys()):
            source = present if self._random.random() < 0.5 else durable
            if name in source:
                chosen[name] = source[name]
        return {**chosen, **live}

    def _survived(self, inode: int, way: Way) -> bytes:
        if inode in self._synced:
            return self._synced[inode]
        if way is not Way.TORN:
            return b""
        data = self._content(inode)
        return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def _listed(folder: str | Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {each.name: each.inode() for each in entries}
