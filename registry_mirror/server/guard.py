"""Who may ask. Keys are looked up for every call, so that one that was revoked is refused at once."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..log import logger
from ..model import utc_now
from .keys import holder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .keys import KeyRing

_log = logger("server")


class UnauthorizedError(Exception):
    """No key, or one that nobody has: `presented` tells which of the two."""

    def __init__(self, *, presented: bool) -> None:
        super().__init__()
        self.presented = presented


class KeysUnreadableError(Exception):
    """The server cannot tell who has a key. It lets nobody in until it can."""


class Guard:
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
