"""What the resources have in common: a request in, an answer out, in words whatever happens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from .errors import response_of
from .site import call_of

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from .site import Call, Site


class Endpoint(ABC):
    """An ASGI application of its own, because it needs the path as it came."""

    def __init__(self, site: Site) -> None:
        self.site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            response = await self.answer(call_of(scope))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer in JSON
            response = response_of(error)
        await response(scope, receive, send)

    @abstractmethod
    async def answer(self, call: Call) -> Response:
        """The answer; may raise what `errors.response_of` knows."""
