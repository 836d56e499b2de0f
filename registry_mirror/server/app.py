"""The application: which address leads where."""

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
    """The whole of it.

    Args:
        log: takes a line for each request.
        started: called once in each process, when it is about to answer.
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
    # Starlette's own way to a route costs as much as finding a model.
    return HttpMiddleware(
        {"models": ModelsEndpoint(site), "blobs": BlobsEndpoint(site), "fetch": FetchRoute(site)}, app, site, log
    )


def _no_redirects(router: Router) -> None:
    """No client of this API follows a redirect, and a slash more or less means something in it."""
    router.redirect_slashes = False


async def _http_error(_request: Request, error: HTTPException) -> Response:
    message = "no such address here" if error.status_code == 404 else error.detail
    return error_response(error.status_code, message, error.headers)
