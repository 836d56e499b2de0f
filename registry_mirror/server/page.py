"""The status page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

    from .site import Site


class StatusPage:
    """One page for people."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def show(self, _request: Request) -> Response:
        """The page."""
        return Response("registry-mirror\n", media_type="text/plain")
