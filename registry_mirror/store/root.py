"""Making a folder a root, and opening one to write."""

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
    """Makes the root ready to be written to; creates what is missing and leaves the rest as it is.

    Raises:
        ConfigurationError: the folder holds something else, or a layout of a newer version, or cannot be written, or
            lies on more than one file system.
        NoSpaceError: its disk is full.
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
    """Files are made in incoming/ and renamed into the other folders, which is one act on one file system only."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder.name} is not a folder")
    if is_apart(root, folder):
        raise ConfigurationError(
            f"{folder} is on another file system than the root {root}",
            hint="put the whole root on that disk, by moving it there or by a link to the root itself",
        )


def is_apart(one: Path, other: Path) -> bool:
    """Whether nothing can be renamed from one folder to the other: another disk, or a mount of its own of the same."""
    if os.stat(one).st_dev != os.stat(other).st_dev:
        return True
    name = f".{os.getpid()}.absent"
    try:
        os.rename(one / name, other / name)  # of a file that is not there: the system looks at the mounts first
    except OSError as error:
        return error.errno == errno.EXDEV
    return False


def _refuse_odd(layout: Layout) -> None:
    """Refuses what stands in place of our folders and files: a writer would write, and remove, somewhere else."""
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
    """Refuses a folder in use for something else: a slip in --root must not strew files over somebody's home."""
    if not layout.root.exists():
        return
    strangers = foreign(os.listdir(layout.root))
    if strangers:
        raise ConfigurationError(
            f"the folder {layout.root} is no mirror root and is not empty (it holds {strangers[0]!r})",
            hint="name an empty or a new folder with --root",
        )


def foreign(names: Iterable[str]) -> list[str]:
    """The names that no root holds. Hidden files and a file system's own `lost+found` do not count."""
    return sorted(name for name in names if name not in _OURS and name != "lost+found" and not name.startswith("."))


def check_format(layout: Layout) -> None:
    """Refuses a layout that is newer than this version or leads out of the root. One without a number is none yet.

    Raises:
        ConfigurationError: it is newer, no number, or one of its names is a link or no file.
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
    """Makes sure that a root is the folder that it was when the work began.

    Where a mount went away, its empty mount point has the root's name: what is written there fills another disk, and
    comes to light when the mount is back and hides it.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._identity = root, _identity(root)

    def check(self) -> None:
        """Raises StoreError when it is not."""
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
    """The names of all blobs (`ab/abcdef….onnx`) with their sizes in bytes. No file is opened.

    What has a blob's name and is no file, as a link is none, is no blob.
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
    """A folder for `os.scandir`, by descriptor where that can be done: no file's path is looked up from the root."""
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
            except FileNotFoundError:  # it was moved away in between
                continue
