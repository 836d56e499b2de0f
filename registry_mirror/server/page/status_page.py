"""The status page: one HTML document that loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ... import __version__
from ...log import logger
from .. import artifacts
from ..context import call_of
from ..errors import response_of
from ..requests import parameters
from .facts import look_up, page_query
from .view import page
from .widgets import clean

if TYPE_CHECKING:
    from starlette.requests import Request

    from ...index.values import WeightsEntry
    from ..context import Call, ServerContext
    from .facts import PageQuery

_log = logger("server")

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32'"
    " rx='8' fill='%230a5aa8'/%3E%3Cpath d='M16 5v22M12 10 6 13.5v7L12 24M20 10l6 3.5v7L20 24' fill='none'"
    " stroke='%23fff' stroke-width='2' stroke-linejoin='round'/%3E%3C/svg%3E"
)
_CODE = re.compile(r"`([^`]+)`")


class StatusPage:
    """The endpoint of the page. If requests need a key, a browser sends it as a password, with any user name."""

    def __init__(self, site: ServerContext) -> None:
        self._site = site
        environment = _environment()
        loader = environment.loader
        assert loader is not None  # noqa: S101
        style = loader.get_source(environment, "page.css")[0]
        environment.globals |= {"style": Markup(style), "icon": _ICON, "version": __version__}  # noqa: S704 - ours
        self._template = environment.get_template("page.html")
        self._headers = headers(style)

    async def show(self, request: Request) -> Response:
        """Answers one request."""
        call = call_of(request.scope)
        try:
            call.holder = self._site.guard.admit(call.headers)
            query = page_query(parameters(call.query))
            base = call.base_url(self._site)
            # On a thread, because it searches the whole list and looks at files.
            body = await run_in_threadpool(self._body, call, query, base)
        except Exception as error:  # noqa: BLE001 - any error gets an answer
            return response_of(error)
        return Response(body, headers=self._headers)

    def _body(self, call: Call, query: PageQuery, base: str) -> bytes:
        facts = look_up(self._site, query)
        if facts.problem is not None:
            _log.error("%s", facts.problem)
        # Links are paths without a host, so that forms and downloads stay on the origin that the browser knows.
        prefix = urlsplit(base).path
        now, holder = self._site.metrics.now(), self._site.guard.ticket(call.holder)

        def link(entry: WeightsEntry, filename: str) -> str:
            path = f"/blobs/{artifacts.blob_file(entry)}"
            return f"{prefix}{path}?{self._site.signer.query(path, now, holder=holder, name=filename)}"

        text = self._template.render(page=page(facts, query, base, prefix, link))
        return text.encode("utf-8", "backslashreplace")


def headers(style: str) -> dict[str, str]:
    """Returns the security headers: the page may load and run nothing, and its one style is known by its digest."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters["code"] = _code
    return environment


def _finalized(value: object) -> object:
    """Runs before escaping, so that no text brings a control character onto the page."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _code(text: str) -> Markup:
    """Escapes a text, and turns what is in backticks into code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(clean(text)))))  # noqa: S704 - escaped just before
