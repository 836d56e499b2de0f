"""Acts on files that more than one room needs: modes, durable replacement, copies. Standard library only."""

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
_FEW_INODES, _FEW_BYTES = 100, 64 << 10  # what others give back while it is looked at
_SQLITE_IOERR, _SQLITE_FULL, _SQLITE_CANTOPEN = 10, 13, 14
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_COPY_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class Modes:
    """Permissions of what this package creates. It never changes the mode of what it finds.

    `exact` applies a mode whatever the umask says: a group that shares a root cannot work under the usual 022.
    """

    file: int = 0o644
    blob: int = 0o444
    directory: int = 0o755
    exact: bool = False

    @classmethod
    def for_sharing(cls, shared: str) -> Modes:
        """The modes of `[store] shared`: "private" or "group"."""
        if shared == "group":
            return cls(file=0o664, blob=0o444, directory=0o2775, exact=True)
        return cls()


PRIVATE = Modes()


@contextlib.contextmanager
def no_space_named(what: str) -> Iterator[None]:
    """Turns a full disk or quota into `NoSpaceError`, which names what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise no_space(f"while writing {what}", error) from error


def no_space(when: str, error: OSError | None = None, folder: Path | None = None) -> NoSpaceError:
    """The error for a disk that took no more. A file that could not be made says where inodes are to be counted."""
    if error is not None and isinstance(error.filename, (str, bytes)):
        folder = Path(os.fsdecode(error.filename)).parent
    if folder is not None and _lacks_inodes(folder):
        return NoSpaceError(
            f"no inode left {when}: the disk has bytes free, and room for no more files",
            hint="remove small files from it (`df -i` counts them), then run again: what is finished is kept",
        )
    return NoSpaceError(f"no space left {when}", hint="free some space, then run again: what is finished is kept")


def database_full(error: Exception, folder: Path, what: str) -> NoSpaceError | None:
    """The same for an error of SQLite; None for one of another kind.

    It has a word of its own for a full disk only. Where its journal cannot be made or synced for want of room, it says
    that it cannot open a file, or that reading or writing failed.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == _SQLITE_FULL or (code in (_SQLITE_IOERR, _SQLITE_CANTOPEN) and _lacks_room(folder)):
        return no_space(f"while writing {what}", folder=folder)
    return None


def _lacks_inodes(folder: Path) -> bool:
    """Whether files cannot be made although there are bytes. Some file systems count none, and are never without."""
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
    except (OSError, AttributeError):  # gone, or a system that has no such call
        return None


def set_mode(file: int | Path, mode: int) -> None:
    """Gives a file or a folder its permissions, where the file system has any.

    FAT, exFAT and many shares refuse: what their mount says holds for every file, and the mirror works all the same.
    """
    try:
        os.chmod(file, mode)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise


def make_directory(path: Path, modes: Modes = PRIVATE) -> None:
    """Creates `path` and its missing parents; one that exists is left as it is."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was first
            os.mkdir(folder, modes.directory & 0o777)
            if modes.exact:
                set_mode(folder, modes.directory)


def create_exclusive(path: Path, mode: int, *, exact: bool = False) -> BinaryIO:
    """Opens a new file for reading and writing; it must not exist."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
    if exact:
        set_mode(descriptor, mode)
    return os.fdopen(descriptor, "w+b", buffering=0)


class NotAFileError(OSError):
    """A folder, a link, a pipe or a device stands where a file is looked for."""

    def __init__(self, path: str | os.PathLike[str], mode: int) -> None:
        super().__init__(errno.EINVAL, f"it is {kind_of(mode)}, not a file", os.fspath(path))


def kind_of(mode: int) -> str:
    """What a file's mode says that it is, in words."""
    for test, word in (
        (stat.S_ISDIR, "a folder"), (stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    ):  # fmt: skip
        if test(mode):
            return word
    return "a file" if stat.S_ISREG(mode) else "a device"


def open_regular(path: str | os.PathLike[str], *, follow: bool = False) -> io.FileIO:
    """Opens a file for reading, unbuffered. A pipe is not waited for, and a link is not followed unless it is said.

    Raises:
        NotAFileError: it is something else.
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        if not follow:
            regular_status(path)  # says what it is, where that is the reason
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotAFileError(path, mode)
    return io.FileIO(descriptor, "rb")


def read_regular(path: str | os.PathLike[str], *, follow: bool = False) -> bytes:
    """The bytes of a file; a link is followed only when it is said.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with open_regular(path, follow=follow) as stream:
        return stream.read()


def regular_status(path: str | os.PathLike[str]) -> os.stat_result:
    """What the system tells of a file; a link is none.

    Raises:
        NotAFileError: it is something else.
        OSError: it is not there, or may not be looked at.
    """
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise NotAFileError(path, found.st_mode)
    return found


@contextlib.contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """A folder by descriptor, so that what is done in it is done there, whatever stands under its path by then.

    Raises:
        OSError: it is a link, no folder, or may not be entered.
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
    """Removes a file, of its own folder only: through no link.

    Raises:
        OSError: it cannot be removed, or its folder is a link.
    """
    with opened_folder(path.parent) as folder:
        os.unlink(path.name, dir_fd=folder)


def refuse_linked(*folders: Path) -> None:
    """Makes sure that nothing is renamed into or out of another place than it seems.

    Raises:
        OSError: one of them is a link, or no folder.
    """
    for folder in folders:
        mode = os.lstat(folder).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "it is a link, and no folder of the root may be one", str(folder))
        if not stat.S_ISDIR(mode):
            raise OSError(errno.ENOTDIR, f"it is {kind_of(mode)}, not a folder", str(folder))


def unnamed(folder: Path) -> BinaryIO:
    """A new file without a name on the disk of `folder`, for reading and writing; closing it gives its room back."""
    import tempfile

    return tempfile.TemporaryFile(dir=folder, buffering=0)


def sibling(path: Path) -> Path:
    """A fresh hidden name beside `path`, on the same file system, for a file that will be renamed over it."""
    name = os.fsdecode(os.fsencode(path.name)[:80]) if len(os.fsencode(path.name)) > 80 else path.name
    return path.with_name(f".{name}.{os.getpid()}.{_token()}.tmp")


def part_name(what: str) -> str:
    """A fresh name in `incoming/` that tells its owner: `weights.host-4026531836.1234.9f8e7d6c.part`."""
    return f"{what}.{host_name()}.{os.getpid()}.{_token()}.part"


def _token() -> str:
    # `secrets` would say the same, and bring half of the standard library's cryptography into every start.
    return os.urandom(4).hex()


def host_name() -> str:
    """This host and, on Linux, this namespace of processes: pids of two containers say nothing about each other."""
    import socket

    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:48] or "host"
    try:
        return f"{name}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return name


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o644, *, exact: bool = False, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well, and leaves nothing when it does not.

    With `durable`, the bytes are on the disk before the name is, and the name is before this returns.
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
    """Replaces the contents of `path` as one act that a power cut cannot halve.

    Raises:
        NoSpaceError: the disk is full; `path` is as it was.
    """
    with no_space_named(path.name), replacing(path, modes.file, exact=modes.exact) as stream:
        write_all(stream, data)


def write_all(stream: BinaryIO, data: bytes | memoryview) -> None:
    """Writes all of `data`: an unbuffered write may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def begin_writing_back(stream: BinaryIO, start: int, count: int) -> None:
    """Lets the disk begin with bytes that were just written, so that the fsync at the end finds little left to do.

    Linux writes what it is told will not be needed, and drops it from memory only once that is done. Elsewhere, and
    where there is no disk, nothing happens.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(stream.fileno(), start, count, os.POSIX_FADV_DONTNEED)


def fsync_directory(path: Path) -> None:
    """Makes the names in `path` durable; a no-op where folders cannot be opened or synced (Windows, some shares)."""
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
    """Gives `target` the contents of `source`: "reflink" where the file system shares blocks, else "copy"."""
    if reflink(source.fileno(), target.fileno()):
        return "reflink"
    copy(source, target)
    return "copy"


def reflink(source: int, target: int) -> bool:
    """Shares the blocks of an open file with another (btrfs, XFS, bcachefs); False where that cannot be done."""
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
    """Copies from the present positions to the end of `source`, inside the kernel where it can."""
    if hasattr(os, "copy_file_range") and _copy_in_kernel(source.fileno(), target.fileno()):
        return
    buffer = memoryview(bytearray(1 << 20))
    while count := source.readinto(buffer):  # type: ignore[attr-defined]
        write_all(target, buffer[:count])


def _copy_in_kernel(source: int, target: int) -> bool:
    """False when the kernel refused before the first byte, so that the caller can copy in the ordinary way."""
    moved = 0
    while True:
        try:
            count = os.copy_file_range(source, target, _COPY_CHUNK)
        except OSError as error:
            if error.errno in _FULL or moved:
                raise
            return False
        if count == 0:
            # Some network file systems answer 0 at once instead of an error: let the ordinary copy decide.
            return moved > 0
        moved += count
