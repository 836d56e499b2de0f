"""The ASGI application and its routes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from .downloads import BlobsEndpoint
from .errors import error_response
from .fetch import FetchRoute
from .health import Health
from .middleware import HttpMiddleware
from .models import ModelsEndpoint
from .openapi import openapi
from .page.status_page import StatusPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from .context import ServerContext


def application(
    site: ServerContext, *, log: Callable[[str], None] | None = None, started: Callable[[], None] = lambda: None
) -> ASGIApp:
    """Returns the application.

    Args:
        site: the mirror to serve.
        log: takes a line for each request.
        started: is called once in each process, just before it answers requests.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        started()
        yield
        if site.fetcher is not None:
            site.fetcher.close()
        site.reader.close()

    health = Health(site)
    routes = [
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
        Route("/metrics", health.metrics),
        Route("/openapi.json", openapi),
        Route("/", StatusPage(site).show),
    ]
    handlers = {HTTPException: _http_error}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)  # type: ignore[arg-type]
    _no_redirects(app.router)
    # The busy routes bypass Starlette's router, which takes as long as finding a model.
    return HttpMiddleware(
        {"models": ModelsEndpoint(site), "blobs": BlobsEndpoint(site), "fetch": FetchRoute(site)}, app, site, log
    )


def _no_redirects(router: Router) -> None:
    """Turns off redirects to an address with or without a slash: no client of this API follows them."""
    router.redirect_slashes = False


async def _http_error(_request: Request, error: HTTPException) -> Response:
    message = "no such address here" if error.status_code == 404 else error.detail
    return error_response(error.status_code, message, error.headers)
