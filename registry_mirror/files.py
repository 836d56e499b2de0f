"""File operations that several rooms need: modes, durable replacement, copies. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .errors import NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_MODES = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_FEW_INODES, _FEW_BYTES = 100, 64 << 10  # counts as none: others may free that much before we look
_SQLITE_IOERR, _SQLITE_FULL, _SQLITE_CANTOPEN = 10, 13, 14
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_COPY_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class Modes:
    """Permissions of the files and folders that this package creates. It never changes the mode of existing ones.

    `exact` sets a mode regardless of the umask: the usual 022 would keep a group from sharing a root.
    """

    file: int = 0o644
    blob: int = 0o444
    directory: int = 0o755
    exact: bool = False

    @classmethod
    def for_sharing(cls, shared: str) -> Modes:
        """Returns the modes for the setting `[store] shared`: "private" or "group"."""
        if shared == "group":
            return cls(file=0o664, blob=0o444, directory=0o2775, exact=True)
        return cls()


PRIVATE = Modes()


@contextlib.contextmanager
def no_space_named(what: str) -> Iterator[None]:
    """Turns the OSError of a full disk or disk quota into a NoSpaceError that names what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise no_space(f"while writing {what}", error) from error


def no_space(when: str, error: OSError | None = None, folder: Path | None = None) -> NoSpaceError:
    """Returns the error for a full disk. Says so if the disk lacks inodes in `folder`, or beside the error's file."""
    if error is not None and isinstance(error.filename, (str, bytes)):
        folder = Path(os.fsdecode(error.filename)).parent
    if folder is not None and _lacks_inodes(folder):
        return NoSpaceError(
            f"no inode left {when}: the disk has bytes free, and room for no more files",
            hint="remove small files from it (`df -i` counts them), then run again: what is finished is kept",
        )
    return NoSpaceError(f"no space left {when}", hint="free some space, then run again: what is finished is kept")


def database_full(error: Exception, folder: Path, what: str) -> NoSpaceError | None:
    """Returns the error for a full disk that SQLite met; None for any other error.

    SQLite does not always report a full disk as such. When its journal cannot be created or synced for lack of space,
    it reports that it cannot open a file, or that reading or writing failed. So this looks at the free space too.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == _SQLITE_FULL or (code in (_SQLITE_IOERR, _SQLITE_CANTOPEN) and _lacks_room(folder)):
        return no_space(f"while writing {what}", folder=folder)
    return None


def _lacks_inodes(folder: Path) -> bool:
    """Returns whether the disk has free bytes but no free inodes; False on file systems that do not count inodes."""
    found = _counted(folder)
    return found is not None and not _lacks_bytes(found) and found.f_files > 0 and found.f_favail < _FEW_INODES


def _lacks_room(folder: Path) -> bool:
    found = _counted(folder)
    return found is not None and (_lacks_bytes(found) or _lacks_inodes(folder))


def _lacks_bytes(found: os.statvfs_result) -> bool:
    return found.f_blocks > 0 and found.f_bavail * found.f_frsize < _FEW_BYTES


def _counted(folder: Path) -> os.statvfs_result | None:
    try:
        return os.statvfs(folder)
    except (OSError, AttributeError):  # the folder is gone, or the system has no statvfs
        return None


def set_mode(file: int | Path, mode: int) -> None:
    """Sets the permissions of a file or a folder, if the file system has permissions.

    FAT, exFAT and many shares refuse, because one mount option sets the mode of all files. That is ignored.
    """
    try:
        os.chmod(file, mode)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise


def make_directory(path: Path, modes: Modes = PRIVATE) -> None:
    """Creates `path` and its missing parents. Leaves existing folders as they are."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process created it first
            os.mkdir(folder, modes.directory & 0o777)
            if modes.exact:
                set_mode(folder, modes.directory)


def create_exclusive(path: Path, mode: int, *, exact: bool = False) -> BinaryIO:
    """Creates a file and opens it for reading and writing. Raises FileExistsError when it exists."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
    if exact:
        set_mode(descriptor, mode)
    return os.fdopen(descriptor, "w+b", buffering=0)


class NotAFileError(OSError):
    """The path is a folder, a link, a pipe or a device, and not a regular file."""

    def __init__(self, path: str | os.PathLike[str], mode: int) -> None:
        super().__init__(errno.EINVAL, f"it is {kind_of(mode)}, not a file", os.fspath(path))


def kind_of(mode: int) -> str:
    """Returns in words what kind of file a mode describes."""
    for test, word in (
        (stat.S_ISDIR, "a folder"), (stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    ):  # fmt: skip
        if test(mode):
            return word
    return "a file" if stat.S_ISREG(mode) else "a device"


def open_regular(path: str | os.PathLike[str], *, follow: bool = False) -> io.FileIO:
    """Opens a regular file for reading, unbuffered. Never blocks on a pipe, and follows a link only with `follow`.

    Raises:
        NotAFileError: the path is not a regular file.
        OSError: the file cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        if not follow:
            regular_status(path)  # raises the more exact NotAFileError if that is the reason
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotAFileError(path, mode)
    return io.FileIO(descriptor, "rb")


def read_regular(path: str | os.PathLike[str], *, follow: bool = False) -> bytes:
    """Returns the bytes of a regular file. Follows a link only with `follow`.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    with open_regular(path, follow=follow) as stream:
        return stream.read()


def regular_status(path: str | os.PathLike[str]) -> os.stat_result:
    """Returns the status of a regular file, without following a link.

    Raises:
        NotAFileError: the path is not a regular file; a link counts as none.
        OSError: the file is missing or inaccessible.
    """
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise NotAFileError(path, found.st_mode)
    return found


@contextlib.contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """Yields the descriptor of a folder, so that work in it stays in it even if its path is replaced meanwhile.

    Raises:
        OSError: the path is a link, is no folder, or is inaccessible.
    """
    flags = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP) and path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, and no folder of the root may be one", str(path)) from error
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def unlink_in_folder(path: Path) -> None:
    """Removes a file, but only if its folder is not a link.

    Raises:
        OSError: the file cannot be removed, or its folder is a link.
    """
    with opened_folder(path.parent) as folder:
        os.unlink(path.name, dir_fd=folder)


def refuse_linked(*folders: Path) -> None:
    """Refuses folders that are links, so that a rename does not move files into or out of another place.

    Raises:
        OSError: one of the folders is a link, is no folder, or is missing.
    """
    for folder in folders:
        mode = os.lstat(folder).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "it is a link, and no folder of the root may be one", str(folder))
        if not stat.S_ISDIR(mode):
            raise OSError(errno.ENOTDIR, f"it is {kind_of(mode)}, not a folder", str(folder))


def unnamed(folder: Path) -> BinaryIO:
    """Opens a new file without a name on the disk of `folder`, for reading and writing. Closing it frees its space."""
    import tempfile

    return tempfile.TemporaryFile(dir=folder, buffering=0)


def sibling(path: Path) -> Path:
    """Returns a new hidden name beside `path`, for a temporary file that will be renamed over it."""
    name = os.fsdecode(os.fsencode(path.name)[:80]) if len(os.fsencode(path.name)) > 80 else path.name
    return path.with_name(f".{name}.{os.getpid()}.{_token()}.tmp")


def part_name(what: str) -> str:
    """Returns a new name in `incoming/` that holds its owner: `weights.host-4026531836.1234.9f8e7d6c.part`."""
    return f"{what}.{host_name()}.{os.getpid()}.{_token()}.part"


def _token() -> str:
    # `secrets` would give the same, but would import much of the standard library's cryptography at every start.
    return os.urandom(4).hex()


def host_name() -> str:
    """Returns the host's name and, on Linux, its PID namespace: process ids of two containers are not comparable."""
    import socket

    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:48] or "host"
    try:
        return f"{name}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return name


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o644, *, exact: bool = False, durable: bool = True) -> Iterator[BinaryIO]:
    """Yields a new file that replaces `path` when the block succeeds, and is removed when it fails.

    With `durable`, the bytes are synced to the disk before the rename, and the rename before this returns.
    """
    temporary = sibling(path)
    stream = create_exclusive(temporary, mode, exact=exact)
    try:
        with stream:
            yield stream
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        fsync_directory(path.parent)


def write_atomically(path: Path, data: bytes, modes: Modes = PRIVATE) -> None:
    """Replaces the contents of `path` atomically: after a power cut they are the old or the new ones.

    Raises:
        NoSpaceError: the disk is full. `path` is unchanged.
    """
    with no_space_named(path.name), replacing(path, modes.file, exact=modes.exact) as stream:
        write_all(stream, data)


def write_all(stream: BinaryIO, data: bytes | memoryview) -> None:
    """Writes all of `data` in a loop, because an unbuffered write may write only a part."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def begin_writing_back(stream: BinaryIO, start: int, count: int) -> None:
    """Makes Linux start writing recent bytes to the disk, so that the fsync at the end has little left to do.

    When Linux is told that pages will not be needed, it writes the dirty ones before it drops them from memory. Other
    systems do nothing.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(stream.fileno(), start, count, os.POSIX_FADV_DONTNEED)


def fsync_directory(path: Path) -> None:
    """Syncs the names in a folder to the disk. Does nothing where folders cannot be synced (Windows, some shares)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def clone_or_copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copies `source` to `target`. Returns "reflink" when the file system shares the blocks, else "copy"."""
    if reflink(source.fileno(), target.fileno()):
        return "reflink"
    copy(source, target)
    return "copy"


def reflink(source: int, target: int) -> bool:
    """Shares the blocks of an open file with another (btrfs, XFS, bcachefs). Returns False where that is impossible."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _FULL:
            raise
        return False
    return True


def copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copies from the present positions to the end of `source`, inside the kernel where possible."""
    if hasattr(os, "copy_file_range") and _copy_in_kernel(source.fileno(), target.fileno()):
        return
    buffer = memoryview(bytearray(1 << 20))
    while count := source.readinto(buffer):  # type: ignore[attr-defined]
        write_all(target, buffer[:count])


def _copy_in_kernel(source: int, target: int) -> bool:
    """Copies inside the kernel. Returns False when no byte was copied, so that the caller can copy by reading."""
    moved = 0
    while True:
        try:
            count = os.copy_file_range(source, target, _COPY_CHUNK)
        except OSError as error:
            if error.errno in _FULL or moved:
                raise
            return False
        if count == 0:
            # Some network file systems return 0 at once instead of an error. Then the ordinary copy must be tried.
            return moved > 0
        moved += count
