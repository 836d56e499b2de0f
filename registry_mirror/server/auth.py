"""Who may ask: the keys of clients in `keys.toml`, and the check of a request by them."""

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
# So much of a digest tells keys apart and helps nobody to find one.
_TICKET = 12
_MODES = Modes(0o600, 0o600, 0o700, exact=True)
_HEAD = (
    "# Client keys of `mirror serve`, as digests. `mirror keys` writes this file; the server reads it as it changes.\n"
)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One key as it is kept. Times are aware UTC."""

    name: str
    sha256: str
    created_at: datetime | None
    expires_at: datetime | None = None

    def valid(self, now: datetime) -> bool:
        """Whether it has not ended."""
        return self.expires_at is None or now < self.expires_at


def digest_of(key: str) -> str:
    """How a key is kept."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key() -> str:
    """A key for one client. It is shown once and kept nowhere."""
    return PREFIX + secrets.token_urlsafe(32)


def check_name(name: str) -> str:
    """The name of a key.

    Raises:
        ConfigurationError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot name a key", hint="use up to 64 letters, digits, dots, dashes and underscores"
        )
    return name


def parse(text: str, path: Path) -> tuple[ClientKey, ...]:
    """The keys of a file.

    Raises:
        ConfigurationError: it is damaged. No key of such a file counts: half of it would let in whom it should not.
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
    """The file of some keys."""
    parts = [_HEAD]
    for key in keys:
        lines = [f'\n[keys."{key.name}"]', f'sha256 = "{key.sha256}"']
        lines += [f'created_at = "{format_time(key.created_at)}"'] if key.created_at else []
        lines += [f'expires_at = "{format_time(key.expires_at)}"'] if key.expires_at else []
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def read(path: Path) -> tuple[ClientKey, ...]:
    """The keys at `path`; none when there is no file.

    Raises:
        ConfigurationError: it cannot be read, or is damaged.
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
    """Lets nobody in by a file that somebody else put there: a group may write in the folder of a shared root.

    Raises:
        ConfigurationError: it belongs neither to this account nor to root nor to the owner of its folder.
    """
    trusted = {0, getattr(os, "geteuid", lambda: owner)(), os.stat(path.parent).st_uid}
    if owner not in trusted:
        raise ConfigurationError(
            f"{path} belongs to account {owner}, which is neither yours, nor root's, nor that of its folder",
            hint="see who put it there; then move it away and make the keys anew with `mirror keys add`",
        )


def change(path: Path, edit: Callable[[tuple[ClientKey, ...]], tuple[ClientKey, ...]]) -> None:
    """Replaces the file by what `edit` makes of its keys; two changes at once come one after the other.

    Raises:
        ConfigurationError: the file cannot be read or written; or what `edit` raises.
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
            with contextlib.suppress(FileExistsError):  # the library would insist on the mode of a file that it makes
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
    """The name of the key that a ticket stands for."""
    return ticket.partition("~")[0]


class KeyRing:
    """The keys of a file, as it is at the moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._identity: tuple[int, ...] | None = None
        self._keys: tuple[ClientKey, ...] = ()

    def keys(self) -> tuple[ClientKey, ...]:
        """All of them, ended ones included.

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
        """Whether there is a file of keys. One without keys closes too: its last key was revoked.

        Raises:
            ConfigurationError: the file cannot be read.
        """
        return bool(self.keys()) or self._identity is not None

    def holder(self, presented: str, now: datetime) -> str | None:
        """The name of the key that was presented; None for one that nobody has."""
        digest = digest_of(presented)
        found = None
        for key in self.keys():  # all of them, so that the time does not tell which one was near
            if hmac.compare_digest(key.sha256, digest) and key.valid(now):
                found = key.name
        return found

    def holds(self, name: str, now: datetime) -> bool:
        """Whether a key of this name is there and has not ended."""
        return any(key.name == name and key.valid(now) for key in self.keys())

    def ticket(self, name: str) -> str:
        """What stands for the key of this name where the key itself must not; empty when there is none."""
        return next((f"{name}~{key.sha256[:_TICKET]}" for key in self.keys() if key.name == name), "")

    def _present(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            raise
        except OSError:  # reading it tells why
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


_log = logger("server")


class UnauthorizedError(Exception):
    """No key, or one that nobody has: `presented` tells which of the two."""

    def __init__(self, *, presented: bool) -> None:
        super().__init__()
        self.presented = presented


class KeysUnreadableError(Exception):
    """The server cannot tell who has a key. It lets nobody in until it can."""


class Authenticator:
    """Asks for a key as soon as there is a file of them.

    Args:
        open_to_all: never asks.
        closed: asks even while there is no such file.
    """

    def __init__(self, ring: KeyRing, *, open_to_all: bool, closed: bool = False) -> None:
        self._ring = ring
        self._open = open_to_all
        self._closed = closed

    @property
    def asks(self) -> bool:
        """Whether a key is asked for at the moment. Once it was, it stays so: a file that is lost opens no door.

        Raises:
            KeysUnreadableError: the file of keys cannot be read.
        """
        if self._open:
            return False
        if not self._closed:
            self._closed = self._closes()
        return self._closed

    def admit(self, headers: Mapping[str, str]) -> str:
        """The name of the key that a request carries; empty where none is asked for.

        Args:
            headers: of the request, keys in lower case.

        Raises:
            UnauthorizedError: it carries none that counts.
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
        """What an address that is made for a key says of it: its name, and which of those that had this name it is.

        Raises:
            KeysUnreadableError: the file of keys cannot be read.
        """
        if not holder:
            return ""
        self._keys()
        return self._ring.ticket(holder)

    def still_admits(self, ticket: str) -> bool:
        """Whether an address that was made for a key is good: that very key is there, or none is asked for."""
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
    """The key of a request: `X-API-Key`, as SDKs send it; a bearer token; or the password that a browser asked for."""
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
