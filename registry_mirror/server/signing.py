"""Signed download addresses. SDKs send no key to them, so an address carries a signature that expires.

A signature names the client key that it was made for. When that key is revoked, its addresses become invalid.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ..errors import ConfigurationError
from ..secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SHORTEST = 32
_LONGEST = 1 << 16
_FIELDS = ("holder", "name", "expires")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signature allows.

    Attributes:
        path: the path of the address, without host and prefix.
        holder: the ticket of the client key that it was made for; empty for none.
        name: the file name for the client.
        expires: in seconds since 1970.
    """

    path: str
    holder: str
    name: str
    expires: int


class BadSignatureError(ValueError):
    """The address was not made here, was changed, or has expired. The text says what to do."""


class Signer:
    """Makes and checks signatures with one key. `ttl` is the life of an address in seconds."""

    def __init__(self, key: Secret, ttl: float) -> None:
        self._key = key.reveal().encode("utf-8", "surrogateescape")
        self._ttl = ttl

    def __repr__(self) -> str:
        return "Signer('****')"

    def query(self, path: str, now: float, *, holder: str = "", name: str = "") -> str:
        """Returns the query string that makes `path` a signed address. `now` is in seconds since 1970."""
        grant = Grant(path, holder, name, int(now + self._ttl))
        given = {key: str(getattr(grant, key)) for key in _FIELDS}
        return urlencode({key: value for key, value in given.items() if value} | {"signature": self._signature(grant)})

    def check(self, path: str, given: Mapping[str, str], now: float) -> Grant:
        """Checks a signed address and returns what it allows.

        Args:
            path: its path, without host and prefix.
            given: its query parameters.
            now: in seconds since 1970.

        Raises:
            BadSignatureError: the signature is missing, wrong or expired.
        """
        expires = given.get("expires", "")
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 20):
            raise BadSignatureError("this address has no end, so it was not made here; ask for a new one")
        grant = Grant(path, given.get("holder", ""), given.get("name", ""), int(expires))
        mine = self._signature(grant).encode()
        if not hmac.compare_digest(mine, given.get("signature", "").encode("utf-8", "replace")):
            raise BadSignatureError("the signature of this address does not fit; ask for a new one")
        if now >= grant.expires:
            raise BadSignatureError("this address has ended; ask for a new one")
        return grant

    def _signature(self, grant: Grant) -> str:
        message = "\n".join((grant.path, grant.holder, grant.name, str(grant.expires)))
        digest = hmac.new(self._key, message.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def process_key() -> Secret:
    """Returns a new random key for the life of this process."""
    return Secret(secrets.token_urlsafe(48))


def key_from_file(path: Path) -> Secret:
    """Reads the key from a file: its bytes without white space around them.

    Raises:
        ConfigurationError: the file cannot be read, or the key is too short.
    """
    cure = f"put at least {_SHORTEST} random characters in it: head -c 48 /dev/urandom | base64"
    try:
        with path.open("rb") as stream:
            found = stream.read(_LONGEST).strip()
    except OSError as error:
        raise ConfigurationError(f"serve.signing_key_file: cannot read {path}: {error.strerror}", hint=cure) from error
    if len(found) < _SHORTEST:
        raise ConfigurationError(f"serve.signing_key_file: {path} holds only {len(found)} bytes", hint=cure)
    return Secret(found.decode("utf-8", "surrogateescape"))
