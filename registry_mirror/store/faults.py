"""What an operating system's refusal means for the root."""

from __future__ import annotations

import errno

from ..errors import MirrorError, NoSpaceError, StoreError

# A read-only remount, a mount that went away, a share that lost its server: the next write meets it as well.
_EVERYWHERE = frozenset({
    errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.ESHUTDOWN, errno.EHOSTDOWN,
})  # fmt: skip

_CURES = {
    errno.EROFS: "mount it writable, or sync where it is",
    errno.EACCES: "give the account that syncs the right to write there",
    errno.EPERM: "give the account that syncs the right to write there",
    errno.EIO: "the disk fails: look at the system's log before you trust it",
}


def store_error(error: OSError, what: str) -> MirrorError:
    """The error as one of ours, with the file that it met and what to do."""
    where = error.filename or "in the root"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(
            f"{what}: no space left ({where})", hint="free some, then run again: what is finished is kept"
        )
    cure = _CURES.get(error.errno or 0, "see that the root's disk is there and well, then run again")
    return StoreError(f"{what}: {error.strerror or error} ({where})", hint=cure, everywhere=error.errno in _EVERYWHERE)
