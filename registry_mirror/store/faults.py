"""Converts errors of the operating system into errors of this package."""

from __future__ import annotations

import errno

from ..errors import ConfigurationError, MirrorError, StoreError, missing_library, too_few_descriptors
from ..files import no_space
from ..log import logger

_log = logger()

# A read-only remount, a lost mount or a share without its server: every further write to the root fails as well.
_EVERYWHERE = frozenset({
    errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.EXDEV,
})  # fmt: skip

_CURES = {
    errno.EROFS: "mount it writable, or sync where it is",
    errno.EACCES: "give the account that syncs the right to write there",
    errno.EPERM: "give the account that syncs the right to write there",
    errno.EXDEV: "a part of the root is on another file system: put the whole root on one disk",
    errno.EFBIG: "its file system, or a limit of this process (ulimit -f), takes no file as large as that: FAT ends at "
    "4 GiB; put the root on another",
    errno.EIO: "the disk fails: look at the system's log before you trust it",
}


_ELSE = "see that the root's disk is there and well, then run again"


def store_error(error: OSError, what: str) -> MirrorError:
    """Returns a StoreError or NoSpaceError that names the file and says what to do."""
    where = error.filename or "in the root"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(f"for {what} ({where})", error)
    cure = too_few_descriptors(error) or _CURES.get(error.errno or 0, _ELSE)
    return StoreError(f"{what}: {error.strerror or error} ({where})", hint=cure, everywhere=error.errno in _EVERYWHERE)


def as_mirror_error(error: Exception) -> MirrorError:
    """Returns any exception as a MirrorError. Logs the traceback of an unexpected one, which is a fault of ours."""
    if isinstance(error, MirrorError):
        return error
    if isinstance(error, OSError):
        return store_error(error, "the root")
    if isinstance(error, ModuleNotFoundError) and (words := missing_library(error)):
        return ConfigurationError(f"this {words}")
    if cure := too_few_descriptors(error):
        return StoreError(f"too few files can be open at once: {error}", hint=cure)
    _log.error("a fault in registry-mirror", exc_info=error)
    return MirrorError(f"a fault in registry-mirror: {type(error).__name__}: {error}")
