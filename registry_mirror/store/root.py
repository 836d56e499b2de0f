"""Prepares a folder as a root, checks its layout, watches that it stays the same, and lists its blobs."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, StoreError
from ..files import NotAFileError, make_directory, no_space_named, regular_status, write_atomically
from .layout import FORMAT_VERSION, Layout, refuse_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ..files import Modes

# https://bford.info/cachedir/ - the first line is what tools look for.
_CACHEDIR_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache made by registry-mirror. Backup tools may skip it.
"""

_OURS = frozenset({
    "FORMAT", "CACHEDIR.TAG", "catalog.sqlite", "index.sqlite", "blobs", "incoming", "quarantine", "run.json",
    "run.lock", "run.holder.json", "publish.lock", "keys.toml", "config.toml",
})  # fmt: skip


def prepare(layout: Layout, modes: Modes) -> None:
    """Prepares the root for writing. Creates what is missing and leaves the rest as it is.

    Raises:
        ConfigurationError: the folder holds other files, has the layout of a newer version, cannot be written, or
            spans more than one file system.
        NoSpaceError: the root's disk is full.
    """
    refuse_file(layout.root)
    try:
        with no_space_named(f"to the root {layout.root}"):
            _prepare(layout, modes)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to the root {layout.root}: {error.strerror or error}",
            hint="give another one with --root or MIRROR_ROOT, or the right to write there",
        ) from error


def _prepare(layout: Layout, modes: Modes) -> None:
    if not layout.format_file.exists():
        _adopt(layout)
    check_format(layout)
    for folder in (layout.root, layout.blobs, layout.incoming, layout.quarantine):
        make_directory(folder, modes)
    if not layout.cachedir_tag.exists():
        write_atomically(layout.cachedir_tag, _CACHEDIR_TAG, modes)
    if not layout.format_file.exists():
        write_atomically(layout.format_file, f"{FORMAT_VERSION}\n".encode(), modes)
    for folder in (layout.blobs, layout.incoming, layout.quarantine):
        _check_folder(layout.root, folder)


def _check_folder(root: Path, folder: Path) -> None:
    """Refuses a folder on another file system than the root: files are renamed into it from incoming/."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder.name} is not a folder")
    if is_apart(root, folder):
        raise ConfigurationError(
            f"{folder} is on another file system than the root {root}",
            hint="put the whole root on that disk, by moving it there or by a link to the root itself",
        )


def is_apart(one: Path, other: Path) -> bool:
    """Returns whether files cannot be renamed from one folder to the other: they are on two disks or two mounts."""
    if os.stat(one).st_dev != os.stat(other).st_dev:
        return True
    name = f".{os.getpid()}.absent"
    try:
        os.rename(one / name, other / name)  # the file does not exist, but the system compares the mounts first
    except OSError as error:
        return error.errno == errno.EXDEV
    return False


def _refuse_odd(layout: Layout) -> None:
    """Refuses links in place of the root's folders and files: a writer would write and remove files elsewhere."""
    for folder in (layout.blobs, layout.incoming, layout.quarantine):
        if folder.is_symlink():
            raise ConfigurationError(
                f"{folder} is a link to {os.readlink(folder)}, and a folder of the root may not be one",
                hint="put the folder there; to have it on another file system, link or bind-mount the whole root",
            )
    for file in (layout.format_file, layout.catalog, layout.run_lock, layout.publish_lock):
        with contextlib.suppress(FileNotFoundError):
            try:
                regular_status(file)
            except NotAFileError as error:
                raise ConfigurationError(f"{file}: {error.strerror}", hint="move it away, then run again") from error


def _adopt(layout: Layout) -> None:
    """Refuses a folder that holds other files: a mistyped --root must not scatter files over somebody's home."""
    if not layout.root.exists():
        return
    strangers = foreign(os.listdir(layout.root))
    if strangers:
        raise ConfigurationError(
            f"the folder {layout.root} is no mirror root and is not empty (it holds {strangers[0]!r})",
            hint="name an empty or a new folder with --root",
        )


def foreign(names: Iterable[str]) -> list[str]:
    """Returns the names that no root holds, sorted. Hidden files and a file system's `lost+found` do not count."""
    return sorted(name for name in names if name not in _OURS and name != "lost+found" and not name.startswith("."))


def check_format(layout: Layout) -> None:
    """Refuses a layout that is newer than this version or leads out of the root. A root without `FORMAT` passes.

    Raises:
        ConfigurationError: the layout is newer, `FORMAT` holds no number, a folder is a link, or a file is irregular.
    """
    _refuse_odd(layout)
    try:
        text = layout.format_file.read_text("ascii").strip()
    except FileNotFoundError:
        return
    except UnicodeDecodeError:
        text = "?"
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(
            f"{layout.format_file} does not hold a layout number", hint=f"this version writes {FORMAT_VERSION}"
        )
    if int(text) > FORMAT_VERSION:
        raise ConfigurationError(
            f"the root {layout.root} has layout {text}, and this version knows {FORMAT_VERSION} at most",
            hint="upgrade registry-mirror on this machine",
        )


class RootWatch:
    """Checks that a root is still the same folder as when the work began.

    When a mount is lost, its empty mount point has the root's path. Files written there would fill another disk, and
    would be hidden once the mount is back.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._identity = root, _identity(root)

    def check(self) -> None:
        """Raises StoreError when the root is another folder now, or is gone."""
        if _identity(self._root) != self._identity:
            raise StoreError(
                f"the root {self._root} is no longer the folder that it was when this run began",
                hint="see that its disk is mounted, then run again",
                everywhere=True,
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def inventory(layout: Layout) -> dict[str, int]:
    """Returns the sizes in bytes of all blobs by their names (`ab/abcdef….onnx`). No file is opened.

    Only regular files count; links and folders are skipped.
    """
    found: dict[str, int] = {}
    try:
        folders = os.listdir(layout.blobs)
    except (FileNotFoundError, NotADirectoryError):
        return found
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), _opened(layout.blobs / folder) as opened:
            _note_sizes(found, f"{folder}/", opened)
    return found


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int | Path]:
    """Yields a folder for `os.scandir`, as a descriptor where possible, so that no path is looked up for each file."""
    if os.scandir not in os.supports_fd:
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _note_sizes(found: dict[str, int], prefix: str, folder: int | Path) -> None:
    with os.scandir(folder) as entries:
        for blob in entries:
            try:
                if blob.is_file(follow_symlinks=False):
                    found[prefix + blob.name] = blob.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # the blob was moved away meanwhile
                continue
