"""Every error that this package raises on purpose.

    MirrorError                      1   anything that went wrong and is not listed below
    ├── ConfigurationError           2   a setting, a flag or the root is unusable
    │   └── NoIndexError             2   the root holds no index that this version can read
    ├── ApiError                     5   the upstream answered, and the answer is an error
    │   ├── AuthError                5   401: the upstream does not know the key
    │   ├── ForbiddenError           5   403: the upstream knows the key and refuses the call
    │   ├── PaymentRequiredError     5   402: the account's credit does not cover the call
    │   ├── NotFoundError            8   404: nobody knows such a model
    │   ├── ConflictError            9   409: the model has no weights to give
    │   ├── ValidationError          2   400, 422: an argument is refused
    │   ├── RateLimitError           5   429: too many calls
    │   ├── ServerError              5   5xx: the upstream failed
    │   └── ProtocolError            5   the answer is not what the protocol says (HTML, cut JSON)
    ├── NetworkError                 5   no answer: name, connection or TLS failed
    │   └── RequestTimeoutError      5   no answer in time
    ├── ListingError                 1   the listing cannot be believed
    │   └── ShrinkError              1   too many models are missing from it at once
    ├── TransferError                1   one body could not be fetched whole
    │   └── IntegrityError           4   bytes do not match what was declared or recorded
    ├── CatalogError                 1   the catalog cannot be read or migrated
    ├── LockedError                  6   another run holds the root
    ├── StoreError                   1   the disk that holds the root fails or refuses
    ├── NoSpaceError                 7   the disk is full, or the quota is
    ├── StaleError                  10   the mirror is older than was asked for
    └── Interrupted                130   a signal ended the work

The number is the exit code of the command line. Errors named after an HTTP status are the same online and offline, so
that code written for `Client` works with `Mirror`.
"""

from __future__ import annotations

import errno
import os
import sys


def after_name(name: str | None, error: str) -> str:
    """Returns an error of one model without the name at its beginning, for a line that shows the name already."""
    return error.removeprefix(f"model {name!r}: ")


class MirrorError(Exception):
    """The base of all errors. `hint` says what to do next, if anything."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ConfigurationError(MirrorError):
    """A setting, a flag, the root or an output file is unusable.

    Most are raised before anything is sent or written. A sync that this error ends still writes `run.json`, if the
    root exists.
    """

    exit_code = 2


class NoIndexError(ConfigurationError):
    """The root holds no index, or one that this version cannot read."""


class ApiError(MirrorError):
    """The upstream answered with an error.

    `status` is the HTTP status (None when the local mirror answered), `request_id` is the upstream's id of the request,
    to quote to its support, and `retry_after` is how many seconds the upstream asks to wait.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after


class AuthError(ApiError):
    """401: the upstream does not know the API key."""


class ForbiddenError(ApiError):
    """403: the upstream knows the key and refuses this call."""


class PaymentRequiredError(ApiError):
    """402: the account's credit does not cover the call."""


class NotFoundError(ApiError):
    """404: the model does not exist, or belongs to another organisation."""

    exit_code = 8


class ConflictError(ApiError):
    """409: the model has no weights to give."""

    exit_code = 9


class ValidationError(ApiError):
    """400 or 422: the upstream refuses an argument, or this package does before it sends anything."""

    exit_code = 2


class RateLimitError(ApiError):
    """429: too many calls. `retry_after` is None when the upstream did not say how long to wait."""


class ServerError(ApiError):
    """5xx: the upstream failed."""


class ProtocolError(ApiError):
    """The answer is not what the protocol says: HTML instead of JSON, a cut document, a missing field."""


class NetworkError(MirrorError):
    """No answer came: the name, the connection or TLS failed."""

    exit_code = 5


class RequestTimeoutError(NetworkError):
    """No answer came in time."""


class ListingError(MirrorError):
    """The upstream's listing cannot be believed; nothing was marked gone because of it."""


class ShrinkError(ListingError):
    """So many known models are missing from the listing at once that the listing is probably wrong."""


class TransferError(MirrorError):
    """One body could not be fetched whole. Other fetches go on.

    `transient` says that another try may succeed, and `retry_after` is how many seconds the server asks to wait.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, transient: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient
        self.retry_after = retry_after


class IntegrityError(TransferError):
    """Bytes do not match the digest or the size that was declared or recorded, or are missing."""

    exit_code = 4


class CatalogError(MirrorError):
    """The catalog cannot be opened, read or migrated."""


class LockedError(MirrorError):
    """Another run holds the root."""

    exit_code = 6


class StoreError(MirrorError):
    """The disk that holds the root fails, refuses to be written to, or is gone.

    `everywhere` says that every further write would fail as well.
    """

    def __init__(self, message: str, *, hint: str | None = None, everywhere: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.everywhere = everywhere


class NoSpaceError(MirrorError):
    """The disk, or a quota on it, is full.

    `scope` says what no longer fits: "disk" means that every further write fails, "file" that one file is too large for
    the space left, and "quota" that `store.quota` is used up.
    """

    exit_code = 7

    def __init__(self, message: str, *, hint: str | None = None, scope: str = "disk") -> None:
        super().__init__(message, hint=hint)
        self.scope = scope


class StaleError(MirrorError):
    """The last good sync is older than the caller allows."""

    exit_code = 10


class Interrupted(MirrorError):  # noqa: N818 - named like KeyboardInterrupt
    """A signal ended the work before it was done."""

    exit_code = 130


def missing_library(error: ModuleNotFoundError) -> str | None:
    """Returns words for a missing library and what to do, to follow the name of what needs it.

    Returns None for a module of this package, whose absence is a fault of ours.
    """
    name = (error.name or "").partition(".")[0]
    if not name or name == __name__.partition(".")[0]:
        return None
    if name in sys.stdlib_module_names:
        return f"needs Python's own module {name}, which this Python was built without; use another Python"
    package = name.replace("_", "-")
    return (
        f"needs {name}, which is not installed; `pip install {package}`, or install registry-mirror without --no-deps"
    )


_FEW = frozenset({errno.EMFILE, errno.ENFILE})
_SPARE = 8
_SQLITE_CANTOPEN = 14


def too_few_descriptors(error: BaseException) -> str | None:
    """Returns what to do when this process may open no more files; None for any other error.

    SQLite reports only that it cannot open a file, so for its error this counts the open files.
    """
    reason = getattr(error, "orig", None) or error  # SQLAlchemy wraps SQLite's error
    cannot_open = getattr(reason, "sqlite_errorcode", 0) & 0xFF == _SQLITE_CANTOPEN and _few_are_left()
    if cannot_open or getattr(reason, "errno", None) in _FEW:
        return "raise `ulimit -n`, or LimitNOFILE in a systemd unit: this process may have no more files open"
    return None


def _few_are_left() -> bool:
    """Returns whether nearly all file descriptors are in use. Other threads may have closed some since the error."""
    try:
        import resource

        return len(os.listdir("/dev/fd")) + _SPARE >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
    except (ImportError, OSError):
        return True
