"""Words for a process that may open no more files. Standard library only."""

from __future__ import annotations

import errno
import os

_FEW = frozenset({errno.EMFILE, errno.ENFILE})
_SPARE = 8
_SQLITE_CANTOPEN = 14


def too_few_descriptors(error: BaseException) -> str | None:
    """The cure where a process may open no more files; None for another error. SQLite only says that it cannot open."""
    reason = getattr(error, "orig", None) or error  # SQLAlchemy's errors hold that of SQLite
    cannot_open = getattr(reason, "sqlite_errorcode", 0) & 0xFF == _SQLITE_CANTOPEN and _few_are_left()
    if cannot_open or getattr(reason, "errno", None) in _FEW:
        return "raise `ulimit -n`, or LimitNOFILE in a systemd unit: this process may have no more files open"
    return None


def _few_are_left() -> bool:
    """Whether nearly all descriptors are in use; by the time that one asks, others may have closed some."""
    try:
        import resource

        return len(os.listdir("/dev/fd")) + _SPARE >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
    except (ImportError, OSError):
        return True
