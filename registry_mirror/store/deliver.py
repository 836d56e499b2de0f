"""Copies a blob to a file of the user's, or links it there. Standard library only.

The file is written under a temporary name and then renamed, so an older file survives every failure.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from ..errors import ConfigurationError, IntegrityError, MirrorError, ValidationError
from ..files import clone_or_copy, no_space_named, open_regular, reflink, replacing, sibling, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[[int, int], None]

_CHUNK = 1 << 20
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


def deliver(
    blob: Path, output: Path, *, link: Literal["hard", "symbolic"] | None = None, progress: Progress | None = None
) -> str:
    """Makes `output` a copy of `blob`, or a link to it.

    A copy gets the mode 0644 less the umask, because the blob's 0444 protects only the store. When `output` is a link,
    the link is replaced and never followed. `progress` is called with the bytes done and the bytes in all.

    Returns:
        "reflink", "copy", "hard link" or "symbolic link".

    Raises:
        ConfigurationError: `output` cannot be written, or lies in the store.
        IntegrityError: the blob is missing.
        NoSpaceError: the disk is full.
        ValidationError: `link` is not one of the listed values.
    """
    if link not in (None, "hard", "symbolic"):
        raise ValidationError(f"link must be 'hard', 'symbolic' or None, not {link!r}")
    with _source(blob) as source, _output_named(output), no_space_named(str(output)):
        _refuse(blob, output)
        if link is None:
            return _copy(source, output, progress)
        _link(blob, output, link)
        if progress is not None:
            size = os.fstat(source.fileno()).st_size
            progress(size, size)
        return f"{link} link"


def output_file(output: str | Path) -> Path:
    """Returns `output` as a file's path.

    Raises:
        ConfigurationError: `output` ends with a slash. A `Path` would drop the slash.
    """
    if os.fspath(output).endswith((os.sep, os.altsep or os.sep)):
        raise ConfigurationError(f"cannot write {output}: it names a folder", hint="name a file in it")
    return Path(output)


def _copy(source: BinaryIO, output: Path, progress: Progress | None) -> str:
    size = os.fstat(source.fileno()).st_size
    with replacing(output, 0o644) as target:
        way = clone_or_copy(source, target) if progress is None else _copy_telling(source, target, size, progress)
        written = os.fstat(target.fileno()).st_size
        if written != size:
            raise IntegrityError(f"only {written} of {size} bytes of the weights could be copied to {output}")
    return way


def _copy_telling(source: BinaryIO, target: BinaryIO, size: int, progress: Progress) -> str:
    if reflink(source.fileno(), target.fileno()):
        progress(size, size)
        return "reflink"
    buffer, done = memoryview(bytearray(_CHUNK)), 0
    progress(0, size)
    while count := source.readinto(buffer):  # type: ignore[attr-defined]
        write_all(target, buffer[:count])
        done += count
        progress(done, size)
    return "copy"


def _link(blob: Path, output: Path, link: str) -> None:
    temporary = sibling(output)
    try:
        try:
            if link == "hard":
                os.link(blob, temporary)
            else:
                os.symlink(os.path.abspath(blob), temporary)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            raise ConfigurationError(
                f"cannot make {output} a {link} link to {blob}: {error.strerror}", hint="copy it: leave the link out"
            ) from error
        os.replace(temporary, output)
    finally:
        # Needed after success too: when both names are hard links of one file, POSIX rename leaves both.
        with contextlib.suppress(OSError):
            temporary.unlink()


def _refuse(blob: Path, output: Path) -> None:
    """Refuses an output whose replacement would do harm: in the store, in /dev or /proc, or no ordinary file."""
    parent = Path(os.path.realpath(output.parent))
    if not parent.is_dir():
        raise ConfigurationError(f"cannot write {output}: there is no folder {output.parent}", hint="create it first")
    blobs = Path(os.path.realpath(blob.parent.parent))
    if parent == blobs or blobs in parent.parents:
        raise ConfigurationError(f"cannot write {output}: it lies in the store", hint="name a file outside it")
    # A rename over /dev/null or /dev/stdout would replace the device for everybody.
    if parent == Path("/dev") or Path("/proc") in (parent, *parent.parents):
        raise ConfigurationError(f"cannot write {output}: it is no place for files", hint="name an ordinary file")
    try:
        mode = output.stat().st_mode
    except OSError:  # the output is absent, or is a broken link that will be replaced
        return
    if stat.S_ISDIR(mode):
        raise ConfigurationError(f"cannot write {output}: it is a folder", hint="name a file in it")
    if not stat.S_ISREG(mode):
        raise ConfigurationError(f"cannot write {output}: it is not an ordinary file", hint="name an ordinary file")


@contextlib.contextmanager
def _source(blob: Path) -> Iterator[BinaryIO]:
    try:
        stream = open_regular(blob)
    except FileNotFoundError as error:
        raise IntegrityError(f"{blob} is missing from the store", hint="`mirror sync` fetches it again") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {blob}: {error.strerror}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def _output_named(output: Path) -> Iterator[None]:
    """Converts an OSError into an error that names the file. `no_space_named`, used inside, handles a full disk."""
    try:
        yield
    except ValueError as error:  # a NUL in the name
        raise ConfigurationError(f"cannot write {str(output)!r}: {error}") from error
    except OSError as error:
        kind = MirrorError if error.errno == errno.EIO else ConfigurationError
        cure = "name a file in a folder where you may write" if error.errno in _REFUSED else None
        raise kind(f"cannot write {output}: {error.strerror or error}", hint=cure) from error
