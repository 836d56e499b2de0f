"""A text that must not be shown, such as an API key. Standard library only."""

from __future__ import annotations

from typing import NoReturn

MASK = "****"


class Secret:
    """Holds a text that no log, repr, traceback or pickle may show; only `reveal()` returns it.

    Two secrets are compared in constant time. A secret has no hash, because a dict would compare hashes first.
    """

    __slots__ = ("_text",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text:
            raise ValueError("a secret is a text that is not empty")
        self._text = text

    def reveal(self) -> str:
        """Returns the text itself, for the code that sends it."""
        return self._text

    def __repr__(self) -> str:
        return f"'{MASK}'"

    def __str__(self) -> str:
        return MASK

    def __format__(self, _spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        import hmac

        mine, theirs = (each.reveal().encode("utf-8", "surrogatepass") for each in (self, other))
        return hmac.compare_digest(mine, theirs)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied; pass the object itself")
