"""The client keys in `keys.toml`, and the check that a request carries one of them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..files import Modes, create_exclusive, no_space_named, open_regular, write_atomically
from ..log import logger
from ..model import format_time, parse_time, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path


PREFIX = "mk_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Characters of a digest that a signed address carries: enough to tell keys apart, too few to find one.
_TICKET = 12
_MODES = Modes(0o600, 0o600, 0o700, exact=True)
_HEAD = (
    "# Client keys of `mirror serve`, as digests. `mirror keys` writes this file; the server reads it as it changes.\n"
)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A stored client key: its name and digest, not the key itself. Times are aware UTC."""

    name: str
    sha256: str
    created_at: datetime | None
    expires_at: datetime | None = None

    def valid(self, now: datetime) -> bool:
        """Returns whether the key has not expired at `now`."""
        return self.expires_at is None or now < self.expires_at


def digest_of(key: str) -> str:
    """Returns the hex SHA-256 of a key, which is what the file stores."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key() -> str:
    """Returns a new random key. It is shown once; only its digest is stored."""
    return PREFIX + secrets.token_urlsafe(32)


def check_name(name: str) -> str:
    """Returns `name` if it can name a key.

    Raises:
        ConfigurationError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot name a key", hint="use up to 64 letters, digits, dots, dashes and underscores"
        )
    return name


def parse(text: str, path: Path) -> tuple[ClientKey, ...]:
    """Reads the keys from the text of a file.

    Args:
        text: the content, TOML.
        path: names the file in the error.

    Raises:
        ConfigurationError: the file is damaged. Then none of its keys counts, since a lost line may be a revocation.
    """
    import tomllib

    cure = "mend it, or move it away and make the keys anew with `mirror keys add`"
    try:
        tables = tomllib.loads(text).get("keys", {})
        return tuple(_key(name, table) for name, table in tables.items())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not a file of client keys: {error}", hint=cure) from error


def _key(name: str, table: dict[str, Any]) -> ClientKey:
    digest = table["sha256"]
    if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"the key {name!r} has no digest")
    ends = table.get("expires_at")
    expires = parse_time(ends)
    if ends is not None and expires is None:
        raise ValueError(f"the key {name!r} has an end that is no time")
    return ClientKey(name, digest, parse_time(table.get("created_at")), expires)


def render(keys: Iterable[ClientKey]) -> str:
    """Returns the text of a file with these keys."""
    parts = [_HEAD]
    for key in keys:
        lines = [f'\n[keys."{key.name}"]', f'sha256 = "{key.sha256}"']
        lines += [f'created_at = "{format_time(key.created_at)}"'] if key.created_at else []
        lines += [f'expires_at = "{format_time(key.expires_at)}"'] if key.expires_at else []
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def read(path: Path) -> tuple[ClientKey, ...]:
    """Reads the keys from the file `path`. Returns no keys when there is no file.

    Raises:
        ConfigurationError: the file cannot be read, or is damaged.
    """
    try:
        with open_regular(path, follow=True) as stream:
            _refuse_planted(path, os.fstat(stream.fileno()).st_uid)
            return parse(stream.read().decode(), path)
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8", hint="mend it, or make the keys anew") from error
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}", hint="the account that serves needs to read it"
        ) from error


def _refuse_planted(path: Path, owner: int) -> None:
    """Refuses a file that somebody else has put there: in a shared root, a group may write in the folder.

    Raises:
        ConfigurationError: the file belongs neither to this account, nor to root, nor to the owner of its folder.
    """
    trusted = {0, getattr(os, "geteuid", lambda: owner)(), os.stat(path.parent).st_uid}
    if owner not in trusted:
        raise ConfigurationError(
            f"{path} belongs to account {owner}, which is neither yours, nor root's, nor that of its folder",
            hint="see who put it there; then move it away and make the keys anew with `mirror keys add`",
        )


def change(path: Path, edit: Callable[[tuple[ClientKey, ...]], tuple[ClientKey, ...]]) -> None:
    """Applies `edit` to the keys and writes the file anew. A lock makes concurrent changes wait for each other.

    Raises:
        ConfigurationError: the file cannot be read or written. Errors of `edit` pass through.
    """
    with _changing(path):
        text = render(edit(read(path)))
        try:
            write_atomically(path, text.encode(), _MODES)
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[None]:
    import filelock

    beside = path.with_name(f".{path.name}.lock")
    lock = filelock.FileLock(beside)
    try:
        with no_space_named(str(path)):
            with contextlib.suppress(FileExistsError):  # FileLock would set its own mode on a file that it creates
                create_exclusive(beside, _MODES.file, exact=_MODES.exact).close()
            lock.acquire(timeout=10)
    except filelock.Timeout as error:
        raise ConfigurationError(f"{path} is being changed by somebody else", hint="try again") from error
    except OSError as error:
        raise ConfigurationError(
            f"cannot write in {path.parent}: {error.strerror}", hint="name another file as serve.keys_file"
        ) from error
    try:
        yield
    finally:
        lock.release()


def holder_of(ticket: str) -> str:
    """Returns the name of the key that a ticket was made for."""
    return ticket.partition("~")[0]


class KeyRing:
    """The keys of a file. It is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._identity: tuple[int, ...] | None = None
        self._keys: tuple[ClientKey, ...] = ()

    def keys(self) -> tuple[ClientKey, ...]:
        """Returns all keys, expired ones included.

        Raises:
            ConfigurationError: the file cannot be read.
        """
        try:
            identity = self._present()
        except FileNotFoundError:
            with self._lock:
                self._keys, self._identity = (), None
                return self._keys
        with self._lock:
            if identity != self._identity or identity is None:
                self._keys = read(self._path)
                self._identity = identity
            return self._keys

    def closes(self) -> bool:
        """Returns whether clients need a key: there is a file, even one without keys, since its last key was revoked.

        Raises:
            ConfigurationError: the file cannot be read.
        """
        return bool(self.keys()) or self._identity is not None

    def holder(self, presented: str, now: datetime) -> str | None:
        """Returns the name of the presented key, or None when no valid key matches."""
        digest = digest_of(presented)
        found = None
        for key in self.keys():  # no early return: the time must not tell which key matched
            if hmac.compare_digest(key.sha256, digest) and key.valid(now):
                found = key.name
        return found

    def holds(self, name: str, now: datetime) -> bool:
        """Returns whether a key of this name exists and has not expired."""
        return any(key.name == name and key.valid(now) for key in self.keys())

    def ticket(self, name: str) -> str:
        """Returns the ticket of the key of this name: name and beginning of its digest. Empty when there is none."""
        return next((f"{name}~{key.sha256[:_TICKET]}" for key in self.keys() if key.name == name), "")

    def _present(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            raise
        except OSError:  # reading the file raises the error that says why
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


_log = logger("server")


class UnauthorizedError(Exception):
    """The request has no key, or an unknown one. `presented` says whether it had one."""

    def __init__(self, *, presented: bool) -> None:
        super().__init__()
        self.presented = presented


class KeysUnreadableError(Exception):
    """The file of keys cannot be read. The server lets nobody in until it can."""


class Authenticator:
    """Decides whether a request may pass. It needs a key as soon as there is a file of keys.

    Args:
        open_to_all: requests never need a key.
        closed: requests need a key even while there is no file of keys.
    """

    def __init__(self, ring: KeyRing, *, open_to_all: bool, closed: bool = False) -> None:
        self._ring = ring
        self._open = open_to_all
        self._closed = closed

    @property
    def asks(self) -> bool:
        """Whether requests need a key now. Once they did they always do, so that a lost file lets nobody in.

        Raises:
            KeysUnreadableError: the file of keys cannot be read.
        """
        if self._open:
            return False
        if not self._closed:
            self._closed = self._closes()
        return self._closed

    def admit(self, headers: Mapping[str, str]) -> str:
        """Returns the name of the key that a request carries; empty when requests need none.

        Args:
            headers: the request's headers, with names in lower case.

        Raises:
            UnauthorizedError: the request carries no valid key.
            KeysUnreadableError: the file of keys cannot be read.
        """
        if not self.asks:
            return ""
        presented = presented_key(headers)
        self._keys()
        holder = self._ring.holder(presented, utc_now()) if presented else None
        if holder is None:
            raise UnauthorizedError(presented=bool(presented))
        return holder

    def ticket(self, holder: str) -> str:
        """Returns the ticket that a signed address carries. It identifies the holder's key, not its name only.

        Raises:
            KeysUnreadableError: the file of keys cannot be read.
        """
        if not holder:
            return ""
        self._keys()
        return self._ring.ticket(holder)

    def still_admits(self, ticket: str) -> bool:
        """Returns whether the key that a ticket was made for is still valid, or requests need no key."""
        if not self.asks:
            return True
        self._keys()
        holder = holder_of(ticket)
        return self._ring.holds(holder, utc_now()) and ticket == self._ring.ticket(holder)

    def _keys(self) -> None:
        self._closes()

    def _closes(self) -> bool:
        try:
            return self._ring.closes()
        except ConfigurationError as error:
            _log.error("%s", error)
            raise KeysUnreadableError from error


def presented_key(headers: Mapping[str, str]) -> str:
    """Returns a request's key: X-API-Key, which SDKs send, a bearer token, or a browser's Basic password."""
    if key := headers.get("x-api-key", "").strip():
        return key
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""
